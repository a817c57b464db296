/** The search of the own detector, with a network that sees one white square. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { OwnDetector, decode, partAround, searchParts, toGray } from "../page/own_detector.js";
import { fileWith } from "./archive.js";

/** @typedef {import("../page/image.js").Box} Box */
/** @typedef {import("../page/image.js").Image} Image */

const INPUT = { width: 160, height: 128, strides: [8] };
const COLUMNS = 20;
const CELLS = COLUMNS * 16;
const CONTRACT = {
  ...INPUT,
  kind: "face_detector",
  detector_contract_version: 1,
  score_threshold: 0.5,
  second_look_threshold: 0.2,
  score_calibration: [1, 0],
};

/** @param {object} contract */
const detectorFile = (contract) => fileWith("fer_edge.json", JSON.stringify(contract));

/** A network that sees a white square of at least 10 pixels. */
class SquareNetwork {
  looks = 0;

  /** @param {ArrayLike<number>} logits Of the looks in turn, else 4. */
  constructor(logits = []) {
    this.logits = logits;
  }

  /** @param {import("../page/detector.js").Values} input */
  async run(input) {
    const heat = new Float32Array(CELLS).fill(-9);
    const geometry = new Float32Array(CELLS * 7);
    const white = Array.from(input.keys()).filter((i) => input[i] > 128);
    const columns = white.map((i) => i % INPUT.width);
    const rows = white.map((i) => Math.floor(i / INPUT.width));
    const side = Math.max(...columns) - Math.min(...columns) + 1;
    if (side >= 10) {
      const x = (Math.max(...columns) + Math.min(...columns) + 1) / 16;
      const y = (Math.max(...rows) + Math.min(...rows) + 1) / 16;
      const cell = Math.floor(y) * COLUMNS + Math.floor(x);
      heat[cell] = this.logits[this.looks] ?? 4;
      geometry.set([(x % 1) - 0.5, (y % 1) - 0.5, Math.log(side / 32), -0.2, -0.1, 0.2, -0.1], cell * 7);
    }
    this.looks += 1;
    return [geometry, heat];
  }
}

/**
 * @param {Box} box
 * @returns {Image} Black, 640 x 480, with a white box.
 */
function draw([left, top, width, height]) {
  const data = new Uint8Array(640 * 480 * 4);
  for (let y = top; y < top + height; y++) data.fill(255, (y * 640 + left) * 4, (y * 640 + left + width) * 4);
  return { data, width: 640, height: 480, channels: 4 };
}

/** @param {ArrayLike<number>} [logits] */
function openSquares(logits) {
  const network = new SquareNetwork(logits);
  return { network, detector: new OwnDetector(network, detectorFile(CONTRACT)) };
}

test("a face gets a second look and has its box and eyes in pixels of the image", async () => {
  const { network, detector } = openSquares();
  const [face] = await detector.detect(draw([200, 100, 100, 100]), 80, null);
  assert.deepEqual(
    face.box.map((value) => Math.round(value / 10)),
    [20, 10, 10, 10],
  );
  assert.deepEqual(
    face.eyes?.flat().map((value) => Math.round(value / 10)),
    [23, 14, 27, 14],
  );
  assert.equal(face.score, 1 / (1 + Math.exp(-4)));
  assert.equal(network.looks, 2);
});

test("the score is that of the mean logit of two looks", async () => {
  const [face] = await openSquares([-1, 3]).detector.detect(draw([200, 100, 100, 100]), 80, null);
  assert.equal(face.score, 1 / (1 + Math.exp(-1)));
  assert.deepEqual(await openSquares([-1, 0.5]).detector.detect(draw([200, 100, 100, 100]), 80, null), []);
  assert.deepEqual(await openSquares([-2, 9]).detector.detect(draw([200, 100, 100, 100]), 80, null), []);
});

test("a known face takes one look, and every third detection searches the frame", async () => {
  const { network, detector } = openSquares();
  const looks = [];
  for (let i = 0; i < 3; i++) {
    const before = network.looks;
    await detector.detect(draw([200, 100, 100, 100]), 80, [[205, 96, 104, 104]]);
    looks.push(network.looks - before);
  }
  assert.deepEqual(looks, [1, 1, 2]);
});

test("a lost face starts a search of the frame and one tile", async () => {
  const { network, detector } = openSquares();
  await detector.detect(draw([0, 0, 0, 0]), 60, [[50, 50, 80, 80]]);
  assert.equal(network.looks, 3);
});

test("small faces are found in tiles", async () => {
  const image = draw([300, 230, 36, 36]);
  assert.deepEqual(await openSquares().detector.detect(image, 80, null), []);
  assert.equal((await openSquares().detector.detect(image, 32, null)).length, 1);
});

test("the parts of an image are those of the Python runtime", () => {
  assert.deepEqual(searchParts(640, 480, 80, INPUT), [[0, 0, 640, 480]]);
  assert.deepEqual(searchParts(1280, 720, 90, INPUT).slice(1), [
    [0, 0, 720, 576],
    [560, 0, 720, 576],
    [0, 144, 720, 576],
    [560, 144, 720, 576],
  ]);
  assert.deepEqual(searchParts(640, 480, 32, INPUT)[1], [0, 0, 256, 205]);
  assert.deepEqual(partAround([200, 100, 80, 80], 640, 480), [140, 60, 200, 160]);
  assert.deepEqual(partAround([-40, 440, 80, 80], 640, 480), [0, 400, 100, 80]);
});

test("a peak is the maximum of its neighborhood", () => {
  const heat = new Float32Array(CELLS).fill(-9);
  heat[42] = 1;
  heat[43] = 2; // its neighbor
  heat[60] = 1; // in the first column: not a neighbor of cell 59
  heat[59] = 3;
  const found = decode([heat, new Float32Array(CELLS * 7)], INPUT, 0);
  assert.deepEqual(
    found.map(({ box }) => box),
    [
      [140, 4, 32, 32],
      [12, 4, 32, 32],
      [-12, 12, 32, 32],
    ],
  );
});

test("gray is weighted as in OpenCV", () => {
  const image = /** @type {Image} */ ({
    data: Uint8Array.from([255, 0, 0, 0, 255, 0, 10, 20, 200]),
    width: 3,
    height: 1,
    channels: 3,
  });
  assert.deepEqual([...toGray(image, [0, 0, 3, 1]).data.subarray(0, 5)], [76, 76, 76, 0, 150]);
  assert.deepEqual([...toGray(image, [2, 0, 1, 1]).data.subarray(0, 3)], [38, 38, 38]);
});

test("a file without the contract of a detector is rejected", () => {
  const open = (/** @type {Uint8Array} */ file) => () => new OwnDetector(new SquareNetwork(), file);
  assert.throws(open(new Uint8Array(100)), /Received: no contract/);
  assert.throws(open(detectorFile({ ...CONTRACT, kind: "classifier" })), /Received: kind classifier, version 1/);
  assert.throws(open(detectorFile({ ...CONTRACT, detector_contract_version: 2 })), /kind face_detector, version 2/);
});
