/** Cut a face out of an image and resize it to the input size of the network. The same bytes as edge_runtime/crop.py. */

import { cutOut, roundHalfEven } from "./image.js";
import { resizeArea, resizeLinearExact } from "./resize.js";
import { warpAffine } from "./warp_affine.js";

/** @typedef {import("./image.js").Image} Image */
/** @typedef {import("./image.js").Box} Box */
/** @typedef {import("./image.js").Eyes} Eyes */
/** @typedef {import("./contract.js").CropConvention} CropConvention */
/** @typedef {import("./contract.js").BoxTransform} BoxTransform */

const MIN_ROLL_DEGREES = 5;
const MAX_ROLL_DEGREES = 45;
const RADIANS_PER_DEGREE = Math.PI / 180;
const DEGREES_PER_RADIAN = 180 / Math.PI;

/**
 * Cut a square face out of an image by the contract's crop convention.
 *
 * @param {Image} image
 * @param {Box} box Box from the detector. It may extend beyond the image.
 * @param {BoxTransform} transform Of this detector.
 * @param {number} trainingResolution Side of the training faces, pixels. A larger crop is reduced to it.
 * @param {Eyes | null} eyes If given, a tilted face is rotated upright.
 * @returns {Image} RGB, square.
 */
export function cropFace(image, box, transform, trainingResolution, eyes) {
  const [x, y, width, height] = box;
  const side = Math.max(1, roundHalfEven(Math.max(width, height) * transform.scale));
  const angle = eyes ? rollDegrees(eyes) : 0;
  if (Math.abs(angle) >= MIN_ROLL_DEGREES && Math.abs(angle) <= MAX_ROLL_DEGREES) {
    // With four channels, SIMD instructions reduce the face.
    const channels = side > trainingResolution ? 4 : 3;
    return reduce(cropAligned(image, box, side, transform, angle, channels), trainingResolution);
  }
  const left = roundHalfEven(x + width * (0.5 + transform.shift_x) - side / 2);
  const top = roundHalfEven(y + height * (0.5 + transform.shift_y) - side / 2);
  const isInside = left >= 0 && top >= 0 && left + side <= image.width && top + side <= image.height;
  if (isInside && side > trainingResolution) {
    return resizeArea(image, [left, top, side, side], trainingResolution, trainingResolution);
  }
  return reduce(cutOut(image, [left, top, side, side]), trainingResolution);
}

/**
 * Resize a face crop to the network's input size.
 *
 * @param {Image} face
 * @param {number} imageSize Side of the network's input, pixels.
 * @param {number} trainingResolution Side of the training faces, pixels.
 * @returns {Image} RGB.
 */
export function preprocessFace(face, imageSize, trainingResolution) {
  const fits = (/** @type {Image} */ image) => image.width === imageSize && image.height === imageSize;
  if (fits(face) && imageSize >= trainingResolution) return face;
  const reduced = reduce(face, trainingResolution);
  if (fits(reduced)) return reduced;
  const shrinks = imageSize < Math.min(reduced.width, reduced.height);
  return shrinks ? resizeWhole(reduced, imageSize) : resizeLinearExact(reduced, imageSize, imageSize);
}

/**
 * @param {Eyes} eyes
 * @returns {number} Angle of the line from the left eye to the right eye, degrees clockwise; 0 is upright.
 */
export function rollDegrees([[leftX, leftY], [rightX, rightY]]) {
  return Math.atan2(rightY - leftY, rightX - leftX) * DEGREES_PER_RADIAN;
}

/**
 * Cut out a tilted face and rotate it upright. The transform's shift rotates with the face.
 *
 * @param {Image} image
 * @param {Box} box
 * @param {number} side
 * @param {BoxTransform} transform
 * @param {number} angle Degrees.
 * @param {3 | 4} channels Of the result.
 */
function cropAligned(image, [x, y, width, height], side, transform, angle, channels) {
  const cosine = Math.cos(angle * RADIANS_PER_DEGREE);
  const sine = Math.sin(angle * RADIANS_PER_DEGREE);
  const shiftX = width * transform.shift_x;
  const shiftY = height * transform.shift_y;
  const centerX = x + width / 2 + cosine * shiftX - sine * shiftY;
  const centerY = y + height / 2 + sine * shiftX + cosine * shiftY;
  const half = (side - 1) / 2;
  const startX = centerX - 0.5 - cosine * half + sine * half;
  const startY = centerY - 0.5 - sine * half - cosine * half;
  return warpAffine(image, [cosine, -sine, startX, sine, cosine, startY], side, channels);
}

/**
 * @param {Image} face
 * @param {number} resolution
 */
function reduce(face, resolution) {
  return Math.min(face.width, face.height) <= resolution ? face : resizeWhole(face, resolution);
}

/**
 * @param {Image} face
 * @param {number} side
 */
function resizeWhole(face, side) {
  return resizeArea(face, [0, 0, face.width, face.height], side, side);
}
