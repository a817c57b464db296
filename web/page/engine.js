/** From an image to labeled faces, as fer-edge run does it. */

import { boxTransform } from "./contract.js";
import { cropFace, preprocessFace } from "./crop.js";
import { clamp, cutOut, roundHalfEven } from "./image.js";
import { Smoother, predict } from "./smoothing.js";
import { Tracker } from "./tracker.js";

/** @typedef {import("./image.js").Image} Image */
/** @typedef {import("./image.js").Box} Box */
/** @typedef {import("./contract.js").Contract} Contract */
/** @typedef {import("./detector.js").Detection} Detection */
/** @typedef {import("./detector.js").Detector} Detector */
/** @typedef {import("./detector.js").Network} Network */

/**
 * @typedef {object} LabeledFace
 * @property {number} number The same in successive frames, from 1; in a single image the position.
 * @property {Box} box
 * @property {import("./image.js").Eyes | null} eyes
 * @property {number} score Of the detector, 0..1.
 * @property {string} label
 * @property {number} probability 0..1.
 * @property {number[]} probabilities In the order of the labels.
 * @property {boolean} unsure
 * @property {number[]} input Bytes that the network got. Empty unless asked for.
 * @property {number[]} output Bytes that it returned. Empty unless asked for.
 *
 * @typedef {{detect: number, crop: number, classify: number, total: number}} Times Milliseconds.
 *
 * @typedef {object} LabeledImage
 * @property {number} width Pixels.
 * @property {number} height Pixels.
 * @property {LabeledFace[]} faces Largest first.
 * @property {Times} ms
 */

export const MIN_FACE_PX = 32;
const MIN_FACE_FRACTION = 1 / 8; // smallest face in a live frame, relative to its shorter side
const MIN_FACE_FRACTION_STILL = 1 / 16; // in a single image
const MAX_FACES = 16; // in a live frame
const BORDER_FRACTION = 0.25; // of an image's side, around an image without a face
const MIN_BORDERED_FACE_FRACTION = 0.4;

export class Engine {
  #detector;
  #network;
  #contract;
  #transform;
  #tracker = new Tracker();
  #smoother;
  #isFirst = true;

  /**
   * @param {Detector} detector
   * @param {Network} network The classifier.
   * @param {Contract} contract Of the classifier.
   */
  constructor(detector, network, contract) {
    this.#transform = boxTransform(contract, detector.name);
    this.#detector = detector;
    this.#network = network;
    this.#contract = contract;
    this.#smoother = new Smoother(contract.labels, contract.unsure_threshold);
  }

  /**
   * Run both networks once: the first inference is slow.
   *
   * @returns {Promise<number>} Time of the classifier's first inference, milliseconds.
   */
  async warmUp() {
    const size = this.#contract.image_size;
    const start = performance.now();
    await this.classify({ data: new Uint8Array(size * size * 3).fill(128), width: size, height: size, channels: 3 });
    const first = performance.now() - start;
    await this.#detector.warmUp();
    return first;
  }

  /** The next frame is unrelated to the last one. */
  reset() {
    this.#tracker.reset();
    this.#isFirst = true;
  }

  /**
   * Label the faces of the next frame of a camera.
   *
   * @param {Image} image
   * @param {number} now Time of the frame, seconds.
   * @param {boolean} keepBytes Whether the result contains the bytes of the network.
   * @returns {Promise<LabeledImage>}
   */
  async labelFrame(image, now, keepBytes = false) {
    const start = performance.now();
    const found = await this.detect(image, minFace(image, MIN_FACE_FRACTION), this.#isFirst ? null : this.#tracker.boxes);
    this.#isFirst = false;
    const detections = found.slice(0, MAX_FACES);
    const numbers = this.#tracker.update(detections);
    const detected = performance.now();
    return this.#labelFaces(image, detections, { start, detected, keepBytes }, (probabilities, i) => ({
      number: numbers[i],
      ...this.#smoother.update(numbers[i], probabilities, now),
    }));
  }

  /**
   * Label the faces of a single image.
   *
   * @param {Image} image
   * @param {boolean} keepBytes Whether the result contains the bytes of the network.
   * @returns {Promise<LabeledImage>}
   */
  async labelStill(image, keepBytes = false) {
    const start = performance.now();
    const smallest = minFace(image, MIN_FACE_FRACTION_STILL);
    let detections = await this.detect(image, smallest, null);
    if (!detections.length) detections = await this.#detectWithBorder(image, smallest);
    const detected = performance.now();
    const { labels, unsure_threshold: threshold } = this.#contract;
    return this.#labelFaces(image, detections, { start, detected, keepBytes }, (probabilities, i) => ({
      number: i + 1,
      ...predict(probabilities, labels, threshold),
    }));
  }

  /**
   * Find the faces of an image.
   *
   * @param {Image} image
   * @param {number} smallest Side of the smallest face to find, pixels.
   * @param {Box[] | null} previous Boxes in the previous frame. null searches the whole image.
   * @returns {Promise<Detection[]>}
   */
  detect(image, smallest, previous) {
    return this.#detector.detect(image, smallest, previous);
  }

  /**
   * Cut out a face as the network sees it.
   *
   * @param {Image} image
   * @param {Detection} face
   * @returns {Image}
   */
  crop(image, face) {
    const { image_size: size, crop } = this.#contract;
    const part = cropFace(image, face.box, this.#transform, crop.training_resolution_px, face.eyes);
    return preprocessFace(part, size, crop.training_resolution_px);
  }

  /**
   * @param {Image} face Of the network's input size.
   * @returns {Promise<Float32Array | Uint8Array>} Output of the network.
   */
  async classify(face) {
    const size = this.#contract.image_size;
    const [output] = await this.#network.run(Uint8Array.from(face.data), [1, size, size, 3]);
    if (output.length !== this.#contract.labels.length) {
      throw new Error(
        `The model returned ${output.length} values for ${this.#contract.labels.length} labels. Convert it again, then export the page again`,
      );
    }
    return output;
  }

  /**
   * @param {Image} image
   * @param {Detection[]} detections
   * @param {{start: number, detected: number, keepBytes: boolean}} options
   * @param {(probabilities: number[], index: number) => {number: number} & import("./smoothing.js").Prediction} label
   * @returns {Promise<LabeledImage>}
   */
  async #labelFaces(image, detections, { start, detected, keepBytes }, label) {
    const ms = { detect: detected - start, crop: 0, classify: 0, total: 0 };
    /** @type {LabeledFace[]} */
    const faces = [];
    for (const [i, detection] of detections.entries()) {
      const begin = performance.now();
      const input = this.crop(image, detection);
      const cropped = performance.now();
      const output = await this.classify(input);
      ms.crop += cropped - begin;
      ms.classify += performance.now() - cropped;
      const bytes = { input: keepBytes ? Array.from(input.data) : [], output: keepBytes ? Array.from(output) : [] };
      faces.push({ ...detection, ...label(this.#dequantize(output), i), ...bytes });
    }
    ms.total = performance.now() - start;
    return { width: image.width, height: image.height, faces, ms };
  }

  /** @param {Float32Array | Uint8Array} output */
  #dequantize(output) {
    const { scale, zero_point: zero } = /** @type {{scale: number, zero_point: number}} */ (this.#contract.output);
    return Array.from(output, (value) => clamp(Math.fround(Math.fround(scale) * (value - zero)), 0, 1));
  }

  /**
   * Search for a face that fills the image. Its edge pixels are repeated around it.
   *
   * @param {Image} image
   * @param {number} smallest
   */
  async #detectWithBorder(image, smallest) {
    const { width, height } = image;
    const border = roundHalfEven(BORDER_FRACTION * Math.max(width, height));
    const bordered = cutOut(image, [-border, -border, width + 2 * border, height + 2 * border]);
    const large = Math.max(smallest, roundHalfEven(MIN_BORDERED_FACE_FRACTION * Math.min(width, height)));
    const found = await this.detect(bordered, large, null);
    return found.map((face) => shifted(face, border));
  }
}

/**
 * @param {Image} image
 * @param {number} fraction
 */
function minFace(image, fraction) {
  return Math.max(MIN_FACE_PX, roundHalfEven(Math.min(image.width, image.height) * fraction));
}

/**
 * A face found in an image with a border, in pixels of the image without it.
 *
 * @param {Detection} face
 * @param {number} border
 * @returns {Detection}
 */
function shifted({ box: [x, y, width, height], eyes, score }, border) {
  /** @type {import("./image.js").Eyes | null} */
  const moved = eyes && [
    [eyes[0][0] - border, eyes[0][1] - border],
    [eyes[1][0] - border, eyes[1][1] - border],
  ];
  return { box: [x - border, y - border, width, height], eyes: moved, score };
}
