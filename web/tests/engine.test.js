import assert from "node:assert/strict";
import { test } from "node:test";

import { latencyRecord } from "../page/bench_record.js";
import { timeRuns } from "../page/bench.js";
import { cameraProblem } from "../page/camera.js";
import { summary } from "../page/cards.js";
import { openDetector } from "../page/detector.js";
import { Engine } from "../page/engine.js";

/** @typedef {import("../page/image.js").Box} Box */
/** @typedef {import("../page/image.js").Image} Image */

/** @type {any} */
const CONTRACT = {
  labels: ["happy", "sad"],
  image_size: 8,
  crop: { training_resolution_px: 8, box_transforms: { fake: { scale: 1, shift_x: 0, shift_y: 0 } } },
  output: { scale: 1 / 256, zero_point: 0 },
  unsure_threshold: 0.4,
};
/** @type {Image} */
const IMAGE = { data: new Uint8Array(64 * 48 * 4).fill(200), width: 64, height: 48, channels: 4 };

/** A detector that returns boxes in turn, and keeps the boxes of each call. */
class FakeDetector {
  name = "fake";
  /** @type {(Box[] | null)[]} */
  asked = [];

  /** @param {Box[][]} answers */
  constructor(...answers) {
    this.answers = answers;
  }

  async warmUp() {}

  /**
   * @param {Image} _image
   * @param {number} _minFace
   * @param {Box[] | null} previous
   */
  async detect(_image, _minFace, previous) {
    this.asked.push(previous);
    return (this.answers.shift() ?? []).map((box) => ({ box, eyes: null, score: 1 }));
  }
}

/** @param {number[]} output */
const networkWith = (output) => ({ run: async () => [Uint8Array.from(output)] });

test("a frame is searched around the faces of the frame before", async () => {
  const detector = new FakeDetector([[4, 4, 20, 20]], [[6, 4, 20, 20]]);
  const engine = new Engine(detector, networkWith([192, 64]), CONTRACT);
  const [first] = (await engine.labelFrame(IMAGE, 0, true)).faces;
  const [second] = (await engine.labelFrame(IMAGE, 0.1)).faces;
  assert.deepEqual([first.number, first.label, first.probability], [1, "happy", 0.75]);
  assert.deepEqual([first.input.length, first.output], [8 * 8 * 3, [192, 64]]);
  assert.deepEqual([second.number, second.input], [1, []]);
  assert.deepEqual(detector.asked, [null, [[4, 4, 20, 20]]]);
  engine.reset();
  await engine.labelFrame(IMAGE, 0.2);
  assert.equal(detector.asked.at(-1), null);
});

test("an image without a face is searched again with a border", async () => {
  const engine = new Engine(new FakeDetector([], [[20, 18, 40, 40]]), networkWith([64, 192]), CONTRACT);
  const [face] = (await engine.labelStill(IMAGE)).faces;
  assert.deepEqual([face.box, face.label], [[4, 2, 40, 40], "sad"]);
});

test("a model that does not fit is rejected", async () => {
  const other = Object.assign(new FakeDetector(), { name: "other" });
  assert.throws(() => new Engine(other, networkWith([]), CONTRACT), /no box transform for 'other'; it has fake/);
  const engine = new Engine(new FakeDetector(), networkWith([1, 2, 3]), CONTRACT);
  await assert.rejects(engine.warmUp(), /returned 3 values for 2 labels/);
  assert.throws(() => openDetector("toString", networkWith([]), new Uint8Array()), /Unknown face detector 'toString'/);
});

test("warm-up runs are not in the samples", async () => {
  let calls = 0;
  const samples = await timeRuns(async () => calls++, { warmup_runs: 2, min_runs: 3, min_seconds: 0 });
  assert.deepEqual([calls, samples.length], [5, 3]);
});

test("a record has the device as the user typed it", () => {
  /** @type {any} */
  const loaded = {
    site: { record: { file: "m.tflite" }, packages: { "@litertjs/core": "2.5.3" }, detector: { name: "blazeface" } },
    build: "relaxed",
    loadMs: 5,
    firstMs: 2,
  };
  /** @type {any} */
  const samples = { protocol: { warmup_runs: 1, min_runs: 2, min_seconds: 0 }, invoke: [1, 2], stages: {}, frame: [640, 480] };
  /** @type {any} */
  const record = latencyRecord(samples, loaded, { device: "Pixel 9", browser: "Chrome 142" });
  assert.equal(record.environment.board, "Pixel 9, Chrome 142");
  assert.deepEqual(record.environment.runtimes, { "LiteRT.js": "2.5.3 relaxed", browser: "Chrome 142" });
  assert.deepEqual([record.file, record.samples_ms, record.load_ms], ["m.tflite", [1, 2], 5]);
});

test("each error of a camera has its remedy", () => {
  const problem = (/** @type {string} */ name) => cameraProblem(Object.assign(new Error("reason"), { name }));
  assert.match(problem("NotAllowedError"), /is blocked. Allow it/);
  assert.match(problem("NotFoundError"), /No camera was found. Connect one/);
  assert.match(problem("NotReadableError"), /another program may be using it/);
  assert.match(problem("TypeError"), /cannot be opened: reason/);
});

test("a card names the two most probable labels", () => {
  /** @type {any} */
  const face = { label: "happy", probabilities: [0.7, 0.2, 0.1], unsure: false };
  const labels = ["happy", "sad", "fear"];
  assert.equal(summary(face, labels), "then sad 20 %, margin 50 points");
  assert.equal(summary({ ...face, label: "sad" }, labels), "happy 70 %, then sad 20 %, margin 50 points");
  assert.equal(summary({ ...face, label: "unsure", unsure: true }, labels), "between happy 70 % and sad 20 %");
});
