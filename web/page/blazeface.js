/**
 * BlazeFace, short range. The same boxes as edge_runtime/detectors/blazeface.py, which explains each step.
 *
 * Source: Bazarevsky et al. 2019, https://arxiv.org/abs/1907.05047; MediaPipe's short-range model (Apache-2.0).
 */

import { roundHalfEven } from "./image.js";
import { resizeArea } from "./resize.js";
import { TileScheduler, iou } from "./tiling.js";

/** @typedef {import("./image.js").Image} Image */
/** @typedef {import("./image.js").Box} Box */
/** @typedef {import("./image.js").Eyes} Eyes */
/** @typedef {import("./detector.js").Detection} Detection */
/** @typedef {import("./detector.js").Detector} Detector */
/** @typedef {import("./detector.js").Network} Network */
/** @typedef {number[]} Row x, y, width, height, the eyes (x, y twice), pixels of the image, and the score. */

const INPUT_SIDE = 128; // pixels
const LAYERS = [
  { cells: 16, repeats: 2 },
  { cells: 8, repeats: 6 },
];
const ANCHORS = 896;
const VALUES_PER_ANCHOR = 16;
const MIN_CANDIDATE_SCORE = 0.3;
const MIN_LOGIT = -1; // the sigmoid of lower numbers is below MIN_CANDIDATE_SCORE
const LOOK_FRACTIONS = [1 / 3, 1 / 2];
const MIN_SCORE = 0.65;
const EDGE_TOLERANCE = 0.1;
const MAX_IOU = 0.3;
const MIN_MOVED_IOU = 0.1;
const SCORE = 8; // column of a row
const POSITIONS = [0, 4, 6]; // columns of the corner and the eyes, x; y follows
const { fround } = Math;

/** @implements {Detector} */
export class BlazeFace {
  name = "blazeface";
  #network;
  #scheduler = new TileScheduler();
  #anchors = anchors();

  /** @param {Network} network */
  constructor(network) {
    this.#network = network;
  }

  /** Run the network once: the first inference is slow. */
  async warmUp() {
    await this.#network.run(new Float32Array(INPUT_SIDE * INPUT_SIDE * 3), [1, INPUT_SIDE, INPUT_SIDE, 3]);
  }

  /**
   * @param {Image} image
   * @param {number} minFace Side of the smallest face to find, pixels.
   * @param {Box[] | null} previous Boxes in the previous frame. null searches the whole image.
   * @returns {Promise<Detection[]>} The faces, largest first.
   */
  async detect(image, minFace, previous) {
    const { known, tiles } = this.#scheduler.nextTiles(image.width, image.height, minFace, previous);
    /** @type {(Row | null)[]} */
    const faces = [];
    for (const box of known) faces.push(await this.#examine(image, box, MIN_MOVED_IOU));
    /** @type {Row[]} */
    const found = [];
    for (const tile of tiles) found.push(...(await this.#searchTile(image, tile)));
    for (const candidate of suppress(found).filter((row) => longerSide(row) >= minFace)) {
      const isNew = faces.every((face) => !face || iou(face, candidate) <= MAX_IOU);
      if (isNew) faces.push(await this.#examine(image, candidate, MAX_IOU));
    }
    const rows = faces.filter((face) => face !== null && face[SCORE] >= MIN_SCORE);
    const merged = suppress(/** @type {Row[]} */ (rows)).filter((row) => longerSide(row) >= minFace);
    return merged.map(detection).sort((a, b) => b.box[2] * b.box[3] - a.box[2] * a.box[3]);
  }

  /**
   * @param {Image} image
   * @param {Box} tile
   * @returns {Promise<Row[]>} The candidates in a tile of the image.
   */
  async #searchTile(image, tile) {
    const [left, top, width, height] = tile;
    const side = Math.max(width, height);
    const rows = await this.#infer(image, tile, Math.floor((width - side) / 2), Math.floor((height - side) / 2), side);
    const inside = rows.filter((row) => {
      const tolerance = EDGE_TOLERANCE * row[2];
      return (
        (left === 0 || row[0] > -tolerance) &&
        (top === 0 || row[1] > -tolerance) &&
        (left + width === image.width || row[0] + row[2] < width + tolerance) &&
        (top + height === image.height || row[1] + row[3] < height + tolerance)
      );
    });
    return inside.map((row) => shift(row, left, top));
  }

  /**
   * Search the face in a box again at two sizes.
   *
   * @param {Image} image
   * @param {number[]} box x, y, width, height; more numbers are ignored.
   * @param {number} minIou
   * @returns {Promise<Row | null>} Its row with the mean score, null if one of the two does not show it.
   */
  async #examine(image, box, minIou) {
    /** @type {Row[]} */
    const looks = [];
    for (const fraction of LOOK_FRACTIONS) {
      const around = looks.at(-1) ?? box;
      const [x, y, width, height] = around;
      const side = Math.max(8, roundHalfEven(Math.max(width, height) / fraction));
      const left = roundHalfEven(x + width / 2 - side / 2);
      const top = roundHalfEven(y + height / 2 - side / 2);
      const rows = await this.#infer(image, [0, 0, image.width, image.height], left, top, side);
      const near = suppress(rows.filter((row) => iou(row, around) > minIou));
      if (!near.length) return null;
      looks.push(near[0]);
      minIou = MAX_IOU;
    }
    const [face, second] = looks;
    face[SCORE] = (face[SCORE] + second[SCORE]) / 2;
    return face;
  }

  /**
   * Run the network on a square that may extend beyond its part of the image.
   *
   * @param {Image} image
   * @param {Box} part Inside the image.
   * @param {number} left Of the square, in pixels of the part.
   * @param {number} top Of the square, in pixels of the part.
   * @param {number} side Of the square.
   * @returns {Promise<Row[]>} In pixels of the part.
   */
  async #infer(image, part, left, top, side) {
    const input = squareInput(image, part, left, top, side);
    const outputs = await this.#network.run(input, [1, INPUT_SIDE, INPUT_SIDE, 3]);
    const logits = outputOf(outputs, ANCHORS);
    const values = outputOf(outputs, ANCHORS * VALUES_PER_ANCHOR);
    const scale = side / INPUT_SIDE;
    /** @type {Row[]} */
    const rows = [];
    for (let i = 0; i < ANCHORS; i++) {
      if (logits[i] < MIN_LOGIT) continue; // most anchors: saves their exponentials
      const score = sigmoid(logits[i]);
      if (!(score >= MIN_CANDIDATE_SCORE)) continue;
      const row = Array.from(values.subarray(i * VALUES_PER_ANCHOR, i * VALUES_PER_ANCHOR + SCORE));
      row[0] -= row[2] / 2;
      row[1] -= row[3] / 2;
      const placed = shift(row, this.#anchors[2 * i], this.#anchors[2 * i + 1]).map((value) => value * scale);
      rows.push([...shift(placed, left, top), score]);
    }
    return rows;
  }
}

/** @returns {Float32Array} x and y of each anchor's center, pixels of the input. */
function anchors() {
  /** @type {number[]} */
  const centers = [];
  for (const { cells, repeats } of LAYERS) {
    for (let y = 0; y < cells; y++) {
      for (let x = 0; x < cells; x++) {
        for (let k = 0; k < repeats; k++) centers.push(fround((x + 0.5) / cells), fround((y + 0.5) / cells));
      }
    }
  }
  return Float32Array.from(centers, (value) => value * INPUT_SIDE);
}

/** The bytes 0..255 as -1..1. */
const NORMALIZED = Float32Array.from({ length: 256 }, (_, byte) => fround(fround(byte / 127.5) - 1));

/**
 * @param {Image} image
 * @param {Box} part Inside the image.
 * @param {number} left Of the square, in pixels of the part.
 * @param {number} top Of the square, in pixels of the part.
 * @param {number} side Of the square.
 * @returns {Float32Array<ArrayBuffer>} RGB, -1..1. Black is outside the part.
 */
export function squareInput(image, [partLeft, partTop, partWidth, partHeight], left, top, side) {
  const scale = INPUT_SIDE / side;
  const [startX, startY] = [Math.max(0, left), Math.max(0, top)];
  const width = Math.min(partWidth, left + side) - startX;
  const height = Math.min(partHeight, top + side) - startY;
  const toX = roundHalfEven(Math.max(0, -left) * scale);
  const toY = roundHalfEven(Math.max(0, -top) * scale);
  const fit = (/** @type {number} */ at, /** @type {number} */ length) =>
    Math.max(1, Math.min(INPUT_SIDE - at, roundHalfEven(length * scale)));
  const resized = resizeArea(image, [partLeft + startX, partTop + startY, width, height], fit(toX, width), fit(toY, height));
  const input = new Float32Array(INPUT_SIDE * INPUT_SIDE * 3).fill(-1);
  for (let y = 0, from = 0; y < resized.height; y++) {
    let to = ((toY + y) * INPUT_SIDE + toX) * 3;
    for (const end = to + resized.width * 3; to < end; to++, from++) input[to] = NORMALIZED[resized.data[from]];
  }
  return input;
}

/**
 * @param {(Float32Array | Uint8Array)[]} outputs
 * @param {number} length
 */
function outputOf(outputs, length) {
  const found = outputs.find((output) => output.length === length);
  if (!found) throw new Error("The face detector's file is not BlazeFace, short range. Export the page again");
  return found;
}

/** @param {number} logit */
function sigmoid(logit) {
  const limited = Math.min(80, Math.max(-80, logit));
  return fround(1 / fround(1 + fround(Math.exp(-limited))));
}

/**
 * @param {Row} row
 * @param {number} x
 * @param {number} y
 */
function shift(row, x, y) {
  const shifted = [...row];
  for (const column of POSITIONS) {
    shifted[column] += x;
    shifted[column + 1] += y;
  }
  return shifted;
}

/**
 * Merge rows whose boxes overlap, best first. A group becomes its mean, weighted by score, with its highest score.
 *
 * @param {Row[]} rows
 * @returns {Row[]}
 */
export function suppress(rows) {
  let order = [...rows].sort((a, b) => b[SCORE] - a[SCORE]);
  const merged = [];
  while (order.length) {
    const best = order[0];
    const group = order.filter((row) => row === best || iou(best, row) > MAX_IOU);
    const total = group.reduce((sum, row) => sum + row[SCORE], 0);
    const mean = best.slice(0, SCORE).map((_, k) => group.reduce((sum, row) => sum + row[k] * row[SCORE], 0) / total);
    merged.push([...mean, best[SCORE]]);
    order = order.filter((row) => !group.includes(row));
  }
  return merged;
}

/** @param {Row} row */
function longerSide(row) {
  return Math.max(row[2], row[3]);
}

/**
 * @param {Row} row
 * @returns {Detection}
 */
function detection([x, y, width, height, firstX, firstY, secondX, secondY, score]) {
  /** @type {Eyes} */
  const eyes = [
    [firstX, firstY],
    [secondX, secondY],
  ];
  eyes.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  const [left, top, right, bottom] = [x, y, width, height].map(roundHalfEven);
  return { box: [left, top, right, bottom], eyes, score };
}
