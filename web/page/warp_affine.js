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
 * @param {3 | 4} channels Of the result. The fourth is 0.
 * @returns {Image}
 */
export function warpAffine(image, [a, b, c, d, e, f], side, channels = 3) {
  const { data } = image;
  const lastX = image.width - 1;
  const lastY = image.height - 1;
  const stride = image.width * image.channels;
  const result = new Uint8Array(side * side * channels);
  const stepsX = Int32Array.from({ length: side }, (_, x) => roundHalfEven(a * x * 1024));
  const stepsY = Int32Array.from({ length: side }, (_, x) => roundHalfEven(d * x * 1024));
  let to = 0;
  for (let y = 0; y < side; y++) {
    const startX = roundHalfEven((b * y + c) * 1024) + 16;
    const startY = roundHalfEven((e * y + f) * 1024) + 16;
    for (let x = 0; x < side; x++, to += channels) {
      const sourceX = (startX + stepsX[x]) >> 5; // in 1/32 of a pixel
      const sourceY = (startY + stepsY[x]) >> 5;
      const column = sourceX >> 5;
      const row = sourceY >> 5;
      const left = clamp(column, 0, lastX) * image.channels;
      const right = clamp(column + 1, 0, lastX) * image.channels;
      const top = clamp(row, 0, lastY) * stride;
      const bottom = clamp(row + 1, 0, lastY) * stride;
      const shareX = sourceX & 31;
      const shareY = sourceY & 31;
      for (let channel = 0; channel < 3; channel++) {
        const upper = data[top + left + channel] * (32 - shareX) + data[top + right + channel] * shareX;
        const lower = data[bottom + left + channel] * (32 - shareX) + data[bottom + right + channel] * shareX;
        result[to + channel] = (upper * (32 - shareY) + lower * shareY + 512) >> 10;
      }
    }
  }
  return { data: result, width: side, height: side, channels };
}
