/**
 * Images in memory.
 *
 * @typedef {object} Image
 * @property {Uint8Array | Uint8ClampedArray} data Rows of pixels, 3 (RGB) or 4 (RGBA) bytes each.
 * @property {number} width Pixels.
 * @property {number} height Pixels.
 * @property {3 | 4} channels Bytes per pixel. The fourth, opacity, is ignored.
 *
 * @typedef {[x: number, y: number, width: number, height: number]} Box In pixels of the image.
 * @typedef {[left: [number, number], right: [number, number]]} Eyes Centers in pixels, the eye further left first.
 */

/**
 * Round as Python and OpenCV do: halves to the even neighbor.
 *
 * @param {number} value
 * @returns {number}
 */
export function roundHalfEven(value) {
  const floor = Math.floor(value);
  const fraction = value - floor;
  return fraction > 0.5 || (fraction === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}

/**
 * @param {number} value
 * @param {number} low
 * @param {number} high
 * @returns {number} The value, limited to low..high.
 */
export function clamp(value, low, high) {
  return value < low ? low : value > high ? high : value;
}

/**
 * Copy a part of an image. Pixels outside the image repeat its border.
 *
 * @param {Image} image
 * @param {Box} box The part. It may extend beyond the image.
 * @returns {Image} RGB.
 */
export function cutOut(image, [left, top, width, height]) {
  const { data, channels } = image;
  const part = new Uint8Array(width * height * 3);
  let to = 0;
  for (let y = 0; y < height; y++) {
    const row = clamp(top + y, 0, image.height - 1) * image.width;
    for (let x = 0; x < width; x++, to += 3) {
      const from = (row + clamp(left + x, 0, image.width - 1)) * channels;
      part[to] = data[from];
      part[to + 1] = data[from + 1];
      part[to + 2] = data[from + 2];
    }
  }
  return { data: part, width, height, channels: 3 };
}
