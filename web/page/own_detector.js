/** The own detector of fer-edge. The same boxes as edge_runtime/detectors/own.py, which explains each step. */

import { readContractData } from "./contract.js";
import { clamp, roundHalfEven } from "./image.js";
import { resizeArea, resizeLinearExact } from "./resize.js";
import { iou } from "./tiling.js";

/** @typedef {import("./image.js").Image} Image */
/** @typedef {import("./image.js").Box} Box */
/** @typedef {import("./detector.js").Detection} Detection */
/** @typedef {import("./detector.js").Detector} Detector */
/** @typedef {import("./detector.js").Network} Network */
/** @typedef {import("./detector.js").Values} Values */

/**
 * @typedef {object} Candidate A possible face.
 * @property {number[]} box x, y, width, height, pixels.
 * @property {number[]} eyes x and y of both eyes, pixels.
 * @property {number} logit
 *
 * @typedef {object} DetectorContract
 * @property {string} kind
 * @property {number} detector_contract_version
 * @property {number} height Of the input, pixels.
 * @property {number} width Of the input, pixels.
 * @property {number[]} strides Pixels of the input per cell, one per heat map.
 * @property {number} score_threshold
 * @property {number} second_look_threshold
 * @property {[slope: number, shift: number]} score_calibration
 */

const CONTRACT_VERSION = 1;
const KIND = "face_detector";
const MIN_INPUT_FACE = 20; // pixels
const MAX_LEVEL_STEP = 3;
const MAX_SCALE = 1;
const EDGE_TOLERANCE = 0.1;
const LOOK_SIDES = [2.5, 2];
const CANDIDATE_SHRINK = 0.8;
const MAX_IOU = 0.3;
const MAX_COVERED = 0.7;
const MIN_MOVED_IOU = 0.1;
const SEARCH_EVERY = 3;
const TILES_PER_SEARCH = 2;
const MAX_NEW_FACES = 8;
const MAX_CANDIDATES = 256;
const BASE_SIDE = 32; // pixels
const GEOMETRY_CHANNELS = 7;
const { fround } = Math;

/** @implements {Detector} */
export class OwnDetector {
  name = "own";
  #network;
  #contract;
  #minLogit;
  #searches = 0;
  #nextTile = 0;

  /**
   * @param {Network} network
   * @param {Uint8Array} file Content of its .tflite file, with the contract.
   */
  constructor(network, file) {
    const contract = /** @type {DetectorContract | null} */ (readContractData(file));
    if (contract?.kind !== KIND || contract.detector_contract_version !== CONTRACT_VERSION) {
      const received = contract ? `kind ${contract.kind}, version ${contract.detector_contract_version}` : "no contract";
      throw new Error(
        `The detector's file needs a contract of kind ${KIND}, version ${CONTRACT_VERSION}. Received: ${received}. ` +
          "Export the page again: fer-edge export web MODEL --detector FILE",
      );
    }
    this.#network = network;
    this.#contract = contract;
    this.#minLogit = fround(this.#logit(Math.min(contract.second_look_threshold, contract.score_threshold)));
  }

  /** Run the network once: the first inference is slow. */
  async warmUp() {
    const { width, height } = this.#contract;
    await this.#network.run(new Uint8Array(width * height), [1, height, width, 1]);
  }

  /**
   * @param {Image} image
   * @param {number} minFace Side of the smallest face to find, pixels.
   * @param {Box[] | null} previous Boxes in the previous frame. null searches the whole image.
   * @returns {Promise<Detection[]>} The faces, largest first.
   */
  async detect(image, minFace, previous) {
    /** @type {Candidate[]} */
    const faces = [];
    for (const box of previous ?? []) {
      const face = await this.#examine(image, box, MIN_MOVED_IOU);
      if (face) faces.push(face);
    }
    let parts = searchParts(image.width, image.height, minFace, this.#contract);
    if (previous) parts = this.#turn(parts, previous.length, faces.length);
    /** @type {Candidate[]} */
    const found = [];
    for (const part of parts) found.push(...(await this.#search(image, part)));
    const large = suppress(found).filter(({ box }) => box[2] >= CANDIDATE_SHRINK * minFace);
    const fresh = large.filter(({ box }) => faces.every((face) => iou(face.box, box) <= MAX_IOU));
    for (const candidate of fresh.slice(0, previous ? MAX_NEW_FACES : undefined)) {
      const face = await this.#examine(image, candidate.box, MAX_IOU);
      if (face) faces.push({ ...face, logit: (face.logit + candidate.logit) / 2 });
    }
    const detections = suppress(faces).map((face) => this.#detection(face));
    return detections
      .filter(({ score, box }) => score >= this.#contract.score_threshold && box[2] >= minFace)
      .sort((a, b) => b.box[2] * b.box[3] - a.box[2] * a.box[3]);
  }

  /**
   * The parts of a frame to search in this detection: none, or the whole frame and some tiles in turn.
   *
   * @param {Box[]} parts All parts, the whole frame first.
   * @param {number} known Number of faces in the previous frame.
   * @param {number} found Number of them in this frame.
   */
  #turn([whole, ...tiles], known, found) {
    this.#searches += 1;
    if (known && found === known && this.#searches % SEARCH_EVERY) return [];
    const count = Math.min(tiles.length, known ? 1 : TILES_PER_SEARCH);
    const turn = Array.from({ length: count }, (_, k) => tiles[(this.#nextTile + k) % tiles.length]);
    this.#nextTile += count;
    return [whole, ...turn];
  }

  /**
   * @param {Image} image
   * @param {Box} part
   * @returns {Promise<Candidate[]>} The candidates in a part of the image, without those that another part shows more of.
   */
  async #search(image, part) {
    const [left, top, width, height] = part;
    return (await this.#look(image, part)).filter(({ box: [x, y, side] }) => {
      const tolerance = EDGE_TOLERANCE * side;
      return (
        (left === 0 || x > left - tolerance) &&
        (top === 0 || y > top - tolerance) &&
        (left + width === image.width || x + side < left + width + tolerance) &&
        (top + height === image.height || y + side < top + height + tolerance)
      );
    });
  }

  /**
   * Look at the part around a box.
   *
   * @param {Image} image
   * @param {number[]} box
   * @param {number} minIou
   * @returns {Promise<Candidate | undefined>} The best candidate that overlaps with the box by more than minIou.
   */
  async #examine(image, box, minIou) {
    const found = await this.#look(image, partAround(box, image.width, image.height));
    return found.find((candidate) => iou(box, candidate.box) > minIou);
  }

  /**
   * Run the network on a part of the image, scaled to its input, on black.
   *
   * @param {Image} image
   * @param {Box} part
   * @returns {Promise<Candidate[]>} In pixels of the image, the highest logit first.
   */
  async #look(image, part) {
    const { width: columns, height: rows } = this.#contract;
    const [left, top, width, height] = part;
    const scale = Math.min(columns / width, rows / height);
    const [sizeX, sizeY] = [width, height].map((length) => Math.max(1, roundHalfEven(length * scale)));
    const x = Math.floor((columns - sizeX) / 2);
    const y = Math.floor((rows - sizeY) / 2);
    const gray = toGray(image, part);
    const resized = scale < 1 ? resizeArea(gray, [0, 0, width, height], sizeX, sizeY) : resizeLinearExact(gray, sizeX, sizeY);
    const input = new Uint8Array(columns * rows);
    for (let row = 0, from = 0; row < sizeY; row++) {
      const start = (y + row) * columns + x;
      for (let to = start; to < start + sizeX; to++, from += resized.channels) input[to] = resized.data[from];
    }
    const outputs = await this.#network.run(input, [1, rows, columns, 1]);
    const place = (/** @type {number} */ value, /** @type {number} */ i) =>
      (value - (i % 2 ? y : x)) / scale + (i % 2 ? top : left);
    return decode(outputs, this.#contract, this.#minLogit).map(({ box, eyes, logit }) => ({
      box: [...box.slice(0, 2).map(place), box[2] / scale, box[3] / scale],
      eyes: eyes.map(place),
      logit,
    }));
  }

  /** @param {number} score */
  #logit(score) {
    const [slope, shift] = this.#contract.score_calibration;
    const probability = clamp(score, 1e-6, 1 - 1e-6);
    return (Math.log(probability / (1 - probability)) - shift) / slope;
  }

  /**
   * @param {Candidate} face
   * @returns {Detection}
   */
  #detection({ box, eyes, logit }) {
    const [slope, shift] = this.#contract.score_calibration;
    const score = 1 / (1 + Math.exp(-clamp(slope * logit + shift, -80, 80)));
    /** @type {[number, number][]} */
    const points = [
      [eyes[0], eyes[1]],
      [eyes[2], eyes[3]],
    ];
    const [first, second] = points.sort(([ax, ay], [bx, by]) => ax - bx || ay - by);
    return { box: /** @type {Box} */ (box.map(roundHalfEven)), eyes: [first, second], score };
  }
}

/**
 * Convert a part of an image to gray, as `cv2.cvtColor` with COLOR_RGB2GRAY.
 *
 * @param {Image} image
 * @param {Box} part Inside the image.
 * @returns {Image} RGBA with three equal channels, which SIMD instructions can average.
 */
export function toGray(image, [left, top, width, height]) {
  const { data, channels } = image;
  const pixels = new Uint32Array(width * height);
  for (let y = 0, to = 0; y < height; y++) {
    let from = ((top + y) * image.width + left) * channels;
    for (const end = to + width; to < end; to++, from += channels) {
      pixels[to] = ((data[from] * 9798 + data[from + 1] * 19235 + data[from + 2] * 3735 + 16384) >> 15) * 0x010101;
    }
  }
  return { data: new Uint8Array(pixels.buffer), width, height, channels: 4 };
}

/**
 * The part of an image around a face, for a second look.
 *
 * @param {number[]} box
 * @param {number} width Of the image, pixels.
 * @param {number} height Of the image, pixels.
 * @returns {Box} Inside the image.
 */
export function partAround(box, width, height) {
  const side = Math.max(box[2], box[3]);
  const [[left, partWidth], [top, partHeight]] = [width, height].map((limit, axis) => {
    const center = box[axis] + box[axis + 2] / 2;
    const reach = (side * LOOK_SIDES[axis]) / 2;
    const low = Math.min(Math.max(0, roundHalfEven(center - reach)), limit - 1);
    return [low, Math.max(1, Math.min(limit, roundHalfEven(center + reach)) - low)];
  });
  return [left, top, partWidth, partHeight];
}

/**
 * The parts of an image in which to search: all of it and, if faces may be too small in it, overlapping tiles.
 *
 * @param {number} width Of the image, pixels.
 * @param {number} height Of the image, pixels.
 * @param {number} minFace Side of the smallest face to find, pixels.
 * @param {{width: number, height: number}} input Size of the network's input, pixels.
 * @returns {Box[]} Inside the image, the whole image first.
 */
export function searchParts(width, height, minFace, input) {
  /** @type {Box[]} */
  const parts = [[0, 0, width, height]];
  let scale = Math.min(input.width / width, input.height / height);
  const ratio = Math.min(MIN_INPUT_FACE / Math.max(1, minFace), MAX_SCALE) / scale;
  const levels = ratio > 1 ? Math.ceil(Math.log(ratio) / Math.log(MAX_LEVEL_STEP) - 1e-9) : 0;
  for (let level = 0; level < levels; level++) {
    const overlap = Math.ceil(MIN_INPUT_FACE / scale);
    scale *= ratio ** (1 / levels);
    const tileWidth = Math.min(width, roundHalfEven(input.width / scale));
    const tileHeight = Math.min(height, roundHalfEven(input.height / scale));
    const startsX = starts(width, tileWidth, overlap);
    for (const y of starts(height, tileHeight, overlap)) {
      for (const x of startsX) parts.push([x, y, tileWidth, tileHeight]);
    }
  }
  return parts;
}

/**
 * @param {number} length
 * @param {number} tile
 * @param {number} overlap
 * @returns {number[]} Where tiles start that cover the length.
 */
function starts(length, tile, overlap) {
  const last = length - tile;
  const steps = Math.ceil(last / Math.max(1, tile - overlap));
  return Array.from({ length: steps + 1 }, (_, k) => roundHalfEven((last * k) / Math.max(1, steps)));
}

/**
 * The candidates of one look, as edge_runtime/detectors/decode.py.
 *
 * @param {Values[]} outputs Of the network.
 * @param {{width: number, height: number, strides: number[]}} contract
 * @param {number} minLogit
 * @returns {Candidate[]} In pixels of the input, the highest logit first.
 */
export function decode(outputs, { width, height, strides }, minLogit) {
  const found = strides.flatMap((stride) => {
    const [rows, columns] = [height / stride, width / stride];
    const [heat, geometry] = [1, GEOMETRY_CHANNELS].map((channels) => outputOf(outputs, rows * columns * channels));
    return peaks(heat, geometry, { rows, columns, stride }, minLogit);
  });
  return suppress(found.sort((a, b) => b.logit - a.logit).slice(0, MAX_CANDIDATES));
}

/**
 * @param {Values[]} outputs
 * @param {number} length
 */
function outputOf(outputs, length) {
  const output = outputs.find((values) => values.length === length);
  if (!output) {
    throw new Error(`The face detector has no output with ${length} values. Convert it again, then export the page again`);
  }
  return output;
}

/**
 * @param {Values} heat
 * @param {Values} geometry
 * @param {{rows: number, columns: number, stride: number}} grid
 * @param {number} minLogit
 * @returns {Candidate[]} The cells that are the maximum of their neighborhood of 3x3 cells.
 */
function peaks(heat, geometry, { rows, columns, stride }, minLogit) {
  /** @type {Candidate[]} */
  const found = [];
  for (let cell = 0; cell < heat.length; cell++) {
    if (!(heat[cell] >= minLogit)) continue;
    const row = Math.floor(cell / columns);
    const column = cell % columns;
    let isPeak = true;
    for (let y = Math.max(0, row - 1); y <= Math.min(rows - 1, row + 1); y++) {
      for (let x = Math.max(0, column - 1); x <= Math.min(columns - 1, column + 1); x++) {
        isPeak &&= heat[cell] >= heat[y * columns + x];
      }
    }
    if (!isPeak) continue;
    const values = geometry.subarray(cell * GEOMETRY_CHANNELS, (cell + 1) * GEOMETRY_CHANNELS);
    const [x, y] = [(column + 0.5 + values[0]) * stride, (row + 0.5 + values[1]) * stride];
    const side = BASE_SIDE * Math.exp(clamp(values[2], -8, 8));
    const eyes = Array.from(values.subarray(3), (value, i) => (i % 2 ? y : x) + value * side);
    found.push({ box: [x - side / 2, y - side / 2, side, side], eyes, logit: heat[cell] });
  }
  return found;
}

/**
 * @param {Candidate[]} candidates
 * @returns {Candidate[]} Those that are not the same face as one with a higher logit, the highest logit first.
 */
function suppress(candidates) {
  /** @type {Candidate[]} */
  const kept = [];
  for (const candidate of [...candidates].sort((a, b) => b.logit - a.logit)) {
    if (!kept.some((better) => isSameFace(better.box, candidate.box))) kept.push(candidate);
  }
  return kept;
}

/**
 * @param {number[]} first
 * @param {number[]} second
 */
function isSameFace([x, y, width, height], [otherX, otherY, otherWidth, otherHeight]) {
  const overlapX = Math.min(x + width, otherX + otherWidth) - Math.max(x, otherX);
  const overlapY = Math.min(y + height, otherY + otherHeight) - Math.max(y, otherY);
  const intersection = Math.max(overlapX, 0) * Math.max(overlapY, 0);
  const [area, otherArea] = [width * height, otherWidth * otherHeight];
  return intersection > MAX_IOU * (area + otherArea - intersection) || intersection > MAX_COVERED * Math.min(area, otherArea);
}
