/** Rotation with the bytes of OpenCV 4.11. */

import { clamp, roundHalfEven } from "./image.js";

/** @typedef {import("./image.js").Image} Image */
/** @typedef {[number, number, number, number, number, number]} Matrix Rows of a 2 x 3 matrix. */

/**
 * Cut a rotated square out of an image, as `cv2.warpAffine` with INTER_LINEAR, WARP_INVERSE_MAP and BORDER_REPLICATE.
 *
 * @param {Image} image
 * @param {Matrix} matrix Maps a pixel of the result to a pixel of the image.
 * @param {number} side Of the result, pixels.
 * @returns {Image} RGB.
 */
export function warpAffine(image, [a, b, c, d, e, f], side) {
  const { data, width, height, channels } = image;
  const result = new Uint8Array(side * side * 3);
  const index = (/** @type {number} */ x, /** @type {number} */ y) =>
    (clamp(y, 0, height - 1) * width + clamp(x, 0, width - 1)) * channels;
  let to = 0;
  for (let y = 0; y < side; y++) {
    const startX = roundHalfEven((b * y + c) * 1024) + 16;
    const startY = roundHalfEven((e * y + f) * 1024) + 16;
    for (let x = 0; x < side; x++, to += 3) {
      const sourceX = (startX + roundHalfEven(a * x * 1024)) >> 5; // in 1/32 of a pixel
      const sourceY = (startY + roundHalfEven(d * x * 1024)) >> 5;
      const column = sourceX >> 5;
      const row = sourceY >> 5;
      const right = sourceX & 31;
      const lower = sourceY & 31;
      const corners = [index(column, row), index(column + 1, row), index(column, row + 1), index(column + 1, row + 1)];
      const weights = [(32 - right) * (32 - lower), right * (32 - lower), (32 - right) * lower, right * lower];
      for (let channel = 0; channel < 3; channel++) {
        let sum = 512;
        for (let corner = 0; corner < 4; corner++) sum += data[corners[corner] + channel] * weights[corner];
        result[to + channel] = sum >> 10;
      }
    }
  }
  return { data: result, width: side, height: side, channels: 3 };
}
