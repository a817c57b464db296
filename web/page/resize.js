/**
 * Resizing with the bytes of OpenCV 4.11: INTER_AREA and INTER_LINEAR_EXACT.
 *
 * The scaling of a canvas gives other bytes, which changed outputs of the models by up to 17 of 256 steps. Both functions read a
 * part of the image in place, so that nothing is copied before. `Math.fround` rounds to 32 bits where OpenCV calculates in them.
 */

import { roundHalfEven } from "./image.js";

/** @typedef {import("./image.js").Image} Image */
/** @typedef {import("./image.js").Box} Box */

const DBL_EPSILON = 2 ** -52;
const LINEAR_ONE = 2048; // fixed-point weights of INTER_AREA where it enlarges
const EXACT_ONE = 256; // of INTER_LINEAR_EXACT
const MAX_TABLES = 256; // a live run uses a few tens; the sizes of faces vary
const { fround } = Math;

/** @type {Map<string, AreaTable>} */
const areaTables = new Map();
/** @type {import("./area_simd.js").AreaSimd | null} */
let simd = null;

/** @param {import("./area_simd.js").AreaSimd} averager Averages the areas of RGBA images from now on. */
export function useSimd(averager) {
  simd = averager;
}

/**
 * Resize a part of an image by averaging areas, as `cv2.resize(..., interpolation=cv2.INTER_AREA)`.
 *
 * @param {Image} image
 * @param {Box} box The part, inside the image.
 * @param {number} width Of the result, pixels.
 * @param {number} height Of the result, pixels.
 * @returns {Image} RGB.
 */
export function resizeArea(image, box, width, height) {
  const scaleX = 1 / (width / box[2]);
  const scaleY = 1 / (height / box[3]);
  let data;
  if (scaleX < 1 || scaleY < 1) {
    const columns = enlargingWeights(box[2], width, scaleX);
    const rows = enlargingWeights(box[3], height, scaleY);
    data = interpolate(image, box, columns, rows, blendShifted);
  } else if (isWhole(scaleX) && isWhole(scaleY)) {
    data = simdFor(image)?.averageBlocks(image, box, width, height) ?? averageBlocks(image, box, width, height);
  } else {
    const columns = areaTable(box[2], width, scaleX);
    const rows = areaTable(box[3], height, scaleY);
    data = simdFor(image)?.averageWeighted(image, box, columns, rows) ?? averageWeighted(image, box, columns, rows);
  }
  return { data, width, height, channels: 3 };
}

/**
 * Resize an image bilinearly, as `cv2.resize(..., interpolation=cv2.INTER_LINEAR_EXACT)`.
 *
 * @param {Image} image
 * @param {number} width Of the result, pixels.
 * @param {number} height Of the result, pixels.
 * @returns {Image} RGB.
 */
export function resizeLinearExact(image, width, height) {
  const columns = exactWeights(image.width, width);
  const rows = exactWeights(image.height, height);
  const data = interpolate(image, [0, 0, image.width, image.height], columns, rows, blendExactly);
  return { data, width, height, channels: 3 };
}

/** @param {Image} image */
function simdFor(image) {
  return image.channels === 4 ? simd : null;
}

/** @param {number} scale */
function isWhole(scale) {
  return Math.abs(scale - Math.round(scale)) < DBL_EPSILON;
}

/**
 * Average blocks of a whole number of pixels.
 *
 * @param {Image} image
 * @param {Box} box
 * @param {number} width
 * @param {number} height
 */
function averageBlocks(image, [left, top, boxWidth, boxHeight], width, height) {
  const { data, channels } = image;
  const blockX = Math.round(boxWidth / width);
  const blockY = Math.round(boxHeight / height);
  const stride = image.width * channels;
  const result = new Uint8Array(width * height * 3);
  const sums = new Int32Array(width * 3);
  const isFour = blockX === 2 && blockY === 2;
  const share = fround(1 / (blockX * blockY));
  for (let y = 0; y < height; y++) {
    sums.fill(0);
    for (let row = 0; row < blockY; row++) {
      let from = (top + y * blockY + row) * stride + left * channels;
      for (let to = 0; to < sums.length; to += 3) {
        let red = 0;
        let green = 0;
        let blue = 0;
        for (let column = 0; column < blockX; column++, from += channels) {
          red += data[from];
          green += data[from + 1];
          blue += data[from + 2];
        }
        sums[to] += red;
        sums[to + 1] += green;
        sums[to + 2] += blue;
      }
    }
    const start = y * sums.length;
    for (let i = 0; i < sums.length; i++) {
      result[start + i] = isFour ? (sums[i] + 2) >> 2 : roundHalfEven(fround(sums[i] * share));
    }
  }
  return result;
}

/**
 * Average areas whose edges are inside pixels.
 *
 * @param {Image} image
 * @param {Box} box
 * @param {AreaTable} columns
 * @param {AreaTable} rows
 */
function averageWeighted(image, [left, top], columns, rows) {
  const width = columns.first.length - 1;
  const height = rows.first.length - 1;
  const stride = image.width * image.channels;
  const start = top * stride + left * image.channels;
  const result = new Uint8Array(width * height * 3);
  const line = new Float32Array(width * 3);
  const sums = new Float32Array(width * 3);
  let lineOf = -1;
  for (let y = 0; y < height; y++) {
    sums.fill(0);
    for (let k = rows.first[y]; k < rows.first[y + 1]; k++) {
      const row = rows.source[k];
      // Two results share the pixels at their edge.
      if (row !== lineOf) averageLine(image, start + row * stride, columns, line);
      lineOf = row;
      const weight = rows.weight[k];
      for (let i = 0; i < sums.length; i++) sums[i] = fround(sums[i] + fround(weight * line[i]));
    }
    const to = y * sums.length;
    for (let i = 0; i < sums.length; i++) result[to + i] = roundPositive(sums[i]);
  }
  return result;
}

/**
 * Average the areas of one row.
 *
 * @param {Image} image
 * @param {number} start Index of the row's first byte.
 * @param {AreaTable} columns
 * @param {Float32Array} line Receives the averages.
 */
function averageLine({ data, channels }, start, { first, source, weight }, line) {
  for (let to = 0, x = 0; to < line.length; to += 3, x++) {
    let red = fround(0);
    let green = fround(0);
    let blue = fround(0);
    const end = first[x + 1];
    let from = start + source[first[x]] * channels;
    for (let k = first[x]; k < end; k++, from += channels) {
      const share = weight[k];
      red = fround(red + fround(data[from] * share));
      green = fround(green + fround(data[from + 1] * share));
      blue = fround(blue + fround(data[from + 2] * share));
    }
    line[to] = red;
    line[to + 1] = green;
    line[to + 2] = blue;
  }
}

/**
 * Round a positive number below 2^22 to the nearest integer, halves to the even one.
 *
 * @param {number} value
 */
function roundPositive(value) {
  return fround(value + 8388608) - 8388608; // a 32-bit number of 2^23 has no fraction
}

/**
 * The pixels that each pixel of the result averages.
 *
 * @typedef {object} AreaTable
 * @property {Int32Array} first Index of the first entry of each pixel of the result, and the number of entries.
 * @property {Int32Array} source Pixel of the image, by entry. Successive within a pixel of the result.
 * @property {Float32Array} weight Its weight, 0..1, by entry.
 */

/**
 * @param {number} from Length in the image, pixels.
 * @param {number} to Length in the result, pixels.
 * @param {number} scale from / to, as OpenCV rounds it.
 * @returns {AreaTable}
 */
function areaTable(from, to, scale) {
  const key = `${from} ${to}`;
  const known = areaTables.get(key);
  if (known) return known;
  const first = new Int32Array(to + 1);
  /** @type {number[]} */
  const source = [];
  /** @type {number[]} */
  const weight = [];
  for (let i = 0; i < to; i++) {
    const start = i * scale;
    const end = start + scale;
    const cell = Math.min(scale, from - start);
    const last = Math.min(Math.floor(end), from - 1);
    const begin = Math.min(Math.ceil(start), last);
    const add = (/** @type {number} */ pixel, /** @type {number} */ share) => {
      source.push(pixel);
      weight.push(share / cell);
    };
    if (begin - start > 1e-3) add(begin - 1, begin - start);
    for (let pixel = begin; pixel < last; pixel++) add(pixel, 1);
    if (end - last > 1e-3) add(last, Math.min(end - last, 1, cell));
    first[i + 1] = source.length;
  }
  const table = { first, source: Int32Array.from(source), weight: Float32Array.from(weight) };
  if (areaTables.size >= MAX_TABLES) areaTables.clear();
  areaTables.set(key, table);
  return table;
}

/**
 * The two pixels between which each pixel of the result is interpolated.
 *
 * @typedef {object} Weights
 * @property {Int32Array} near Index of the first pixel.
 * @property {Int32Array} far Index of the second pixel.
 * @property {Int32Array} nearWeight Fixed-point weight of the first pixel.
 * @property {Int32Array} farWeight Fixed-point weight of the second pixel.
 */

/**
 * Weights of INTER_AREA where it enlarges.
 *
 * @param {number} from Length in the image, pixels.
 * @param {number} to Length in the result, pixels.
 * @param {number} scale from / to, as OpenCV rounds it.
 * @returns {Weights}
 */
function enlargingWeights(from, to, scale) {
  return weightTable(to, (i) => {
    let pixel = Math.floor(i * scale);
    let fraction = fround(i + 1 - (pixel + 1) * (to / from));
    fraction = fraction <= 0 ? 0 : fround(fraction - Math.floor(fraction));
    if (pixel >= from - 1) [pixel, fraction] = [from - 1, 0];
    const far = Math.min(pixel + 1, from - 1);
    return [pixel, far, roundHalfEven(fround(1 - fraction) * LINEAR_ONE), roundHalfEven(fraction * LINEAR_ONE)];
  });
}

/**
 * Weights of INTER_LINEAR_EXACT.
 *
 * @param {number} from Length in the image, pixels.
 * @param {number} to Length in the result, pixels.
 * @returns {Weights}
 */
function exactWeights(from, to) {
  const scale = 1 / (to / from);
  return weightTable(to, (i) => {
    const position = scale * (i + 0.5) - 0.5;
    const pixel = Math.floor(position);
    if (pixel < 0) return [0, 0, EXACT_ONE, 0];
    if (pixel >= from - 1) return [from - 1, from - 1, EXACT_ONE, 0];
    const fraction = roundHalfEven((position - pixel) * EXACT_ONE);
    return [pixel, pixel + 1, EXACT_ONE - fraction, fraction];
  });
}

/**
 * @param {number} length
 * @param {(index: number) => [number, number, number, number]} entry Returns near, far and their weights.
 * @returns {Weights}
 */
function weightTable(length, entry) {
  const [near, far, nearWeight, farWeight] = [0, 1, 2, 3].map(() => new Int32Array(length));
  for (let i = 0; i < length; i++) [near[i], far[i], nearWeight[i], farWeight[i]] = entry(i);
  return { near, far, nearWeight, farWeight };
}

/**
 * Interpolate in both directions.
 *
 * @param {Image} image
 * @param {Box} box
 * @param {Weights} columns
 * @param {Weights} rows
 * @param {(near: number, far: number, nearWeight: number, farWeight: number) => number} blend Combines two rows to a byte.
 */
function interpolate(image, [left, top], columns, rows, blend) {
  const { data, channels } = image;
  const width = columns.near.length;
  const height = rows.near.length;
  const result = new Uint8Array(width * height * 3);
  /** @type {Map<number, Int32Array>} */
  const lines = new Map();
  const line = (/** @type {number} */ row) => {
    let values = lines.get(row);
    if (values) return values;
    values = new Int32Array(width * 3);
    const start = ((top + row) * image.width + left) * channels;
    for (let x = 0, to = 0; x < width; x++) {
      const near = start + columns.near[x] * channels;
      const far = start + columns.far[x] * channels;
      for (let channel = 0; channel < 3; channel++, to++) {
        values[to] = data[near + channel] * columns.nearWeight[x] + data[far + channel] * columns.farWeight[x];
      }
    }
    lines.set(row, values);
    return values;
  };
  for (let y = 0, to = 0; y < height; y++) {
    const near = line(rows.near[y]);
    const far = line(rows.far[y]);
    for (let i = 0; i < width * 3; i++, to++) result[to] = blend(near[i], far[i], rows.nearWeight[y], rows.farWeight[y]);
  }
  return result;
}

/**
 * @param {number} near
 * @param {number} far
 * @param {number} nearWeight
 * @param {number} farWeight
 */
function blendShifted(near, far, nearWeight, farWeight) {
  return (((nearWeight * (near >> 4)) >> 16) + ((farWeight * (far >> 4)) >> 16) + 2) >> 2;
}

/**
 * @param {number} near
 * @param {number} far
 * @param {number} nearWeight
 * @param {number} farWeight
 */
function blendExactly(near, far, nearWeight, farWeight) {
  return (near * nearWeight + far * farWeight + 32768) >> 16;
}
