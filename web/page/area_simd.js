/** Average areas with the SIMD instructions of WebAssembly: area.wasm, made from simd/area.ts. The same bytes as resize.js. */

/** @typedef {import("./image.js").Image} Image */
/** @typedef {import("./image.js").Box} Box */
/** @typedef {import("./resize.js").AreaTable} AreaTable */
/**
 * @typedef {object} Exports
 * @property {WebAssembly.Memory} memory
 * @property {(...values: number[]) => void} averageWeighted
 * @property {(...values: number[]) => void} averageBlocks
 */

const IMAGE_START = 1 << 20; // before it are the tables and results of one call
const PAGE_BYTES = 1 << 16;
const VECTOR_BYTES = 16;

export class AreaSimd {
  #exports;
  /** @type {Image | null} */
  #image = null;

  /** @param {WebAssembly.Instance} instance Of area.wasm. */
  constructor(instance) {
    this.#exports = /** @type {Exports} */ (/** @type {unknown} */ (instance.exports));
  }

  /**
   * Average areas whose edges are inside pixels.
   *
   * @param {Image} image RGBA.
   * @param {Box} box
   * @param {AreaTable} columns
   * @param {AreaTable} rows
   * @returns {Uint8Array | null} RGB. null if the tables are too large.
   */
  averageWeighted(image, [left, top], columns, rows) {
    const [width, height] = [columns.first.length - 1, rows.first.length - 1];
    const tables = [columns, rows].flatMap(({ first, source, weight }) => [first, source, weight]);
    let next = VECTOR_BYTES;
    const reserve = (/** @type {number} */ bytes) => {
      const start = next;
      next += Math.ceil(bytes / VECTOR_BYTES) * VECTOR_BYTES;
      return start;
    };
    const starts = tables.map((table) => reserve(table.byteLength));
    const [line, sums, result] = [width * VECTOR_BYTES, width * VECTOR_BYTES, width * height * 4].map(reserve);
    if (next > IMAGE_START) return null;
    this.#load(image);
    const { buffer } = this.#exports.memory;
    tables.forEach((table, i) => {
      const target = table instanceof Float32Array ? Float32Array : Int32Array;
      new target(buffer, starts[i], table.length).set(table);
    });
    const stride = image.width * 4;
    this.#exports.averageWeighted(pixelAt(image, left, top), stride, ...starts, width, height, line, sums, result);
    return withoutOpacity(new Uint8Array(buffer, result, width * height * 4));
  }

  /**
   * Average blocks of a whole number of pixels.
   *
   * @param {Image} image RGBA.
   * @param {Box} box
   * @param {number} width Of the result, pixels.
   * @param {number} height Of the result, pixels.
   * @returns {Uint8Array | null} RGB. null if the result is too large.
   */
  averageBlocks(image, [left, top, boxWidth, boxHeight], width, height) {
    if (VECTOR_BYTES + width * height * 4 > IMAGE_START) return null;
    this.#load(image);
    const blocks = [Math.round(boxWidth / width), Math.round(boxHeight / height)];
    this.#exports.averageBlocks(pixelAt(image, left, top), image.width * 4, ...blocks, width, height, VECTOR_BYTES);
    return withoutOpacity(new Uint8Array(this.#exports.memory.buffer, VECTOR_BYTES, width * height * 4));
  }

  /**
   * Copy an image into the module's memory, once for all calls that use it.
   *
   * @param {Image} image
   */
  #load(image) {
    if (image === this.#image) return;
    const { memory } = this.#exports;
    const missing = IMAGE_START + image.data.length - memory.buffer.byteLength;
    if (missing > 0) memory.grow(Math.ceil(missing / PAGE_BYTES));
    new Uint8Array(memory.buffer).set(image.data, IMAGE_START);
    this.#image = image;
  }
}

/**
 * @param {Image} image
 * @param {number} x
 * @param {number} y
 */
function pixelAt(image, x, y) {
  return IMAGE_START + (y * image.width + x) * 4;
}

/** @param {Uint8Array} rgba */
function withoutOpacity(rgba) {
  const rgb = new Uint8Array((rgba.length / 4) * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4, to += 3) {
    rgb[to] = rgba[from];
    rgb[to + 1] = rgba[from + 1];
    rgb[to + 2] = rgba[from + 2];
  }
  return rgb;
}
