import assert from "node:assert/strict";
import { test } from "node:test";

import { suppress } from "../page/blazeface.js";
import { roundHalfEven } from "../page/image.js";
import { Smoother, predict } from "../page/smoothing.js";
import { TileScheduler, iou, tiles } from "../page/tiling.js";
import { Tracker } from "../page/tracker.js";

/** @typedef {import("../page/image.js").Box} Box */

const LABELS = ["happy", "sad"];

/** @param {Box[]} boxes */
const faces = (...boxes) => boxes.map((box) => ({ box, eyes: null, score: 1 }));

test("halves are rounded to the even neighbor", () => {
  assert.deepEqual([0.5, 1.5, 2.5, -0.5, -1.5, 2.4999, 2.5001].map(roundHalfEven), [0, 2, 2, 0, -2, 2, 3]);
});

test("tiles cover the image and overlap by half", () => {
  assert.deepEqual(tiles(640, 480, 128), [[0, 0, 640, 480]]);
  assert.deepEqual(tiles(640, 480, 60).slice(0, 4), [
    [0, 0, 640, 480],
    [0, 0, 300, 300],
    [113, 0, 300, 300],
    [227, 0, 300, 300],
  ]);
  assert.equal(tiles(640, 480, 60).length, 1 + 4 * 3);
});

test("the tiles of successive frames take turns", () => {
  const scheduler = new TileScheduler();
  const all = tiles(640, 480, 60);
  /** @type {Box} */
  const face = [10, 10, 90, 90];
  assert.deepEqual(scheduler.nextTiles(640, 480, 60, null), { known: [], tiles: all });
  assert.deepEqual(scheduler.nextTiles(640, 480, 60, []), { known: [], tiles: [all[0], all[1], all[2], all[3]] });
  assert.deepEqual(scheduler.nextTiles(640, 480, 60, [face]), { known: [face], tiles: [all[4]] });
  assert.deepEqual(scheduler.nextTiles(640, 480, 60, [face]), { known: [face], tiles: [all[0]] });
});

test("the overlap of two boxes is their intersection over their union", () => {
  assert.equal(iou([0, 0, 2, 2], [1, 0, 2, 2]), 1 / 3);
  assert.equal(iou([0, 0, 2, 2], [5, 5, 2, 2]), 0);
  assert.equal(iou([0, 0, 0, 0], [0, 0, 0, 0]), 0);
});

test("overlapping rows become their mean, weighted by score", () => {
  const row = (/** @type {number} */ x, /** @type {number} */ score) => [x, 0, 10, 10, x, 0, x, 0, score];
  assert.deepEqual(suppress([row(4, 0.25), row(0, 0.75), row(50, 0.5)]), [row(1, 0.75), row(50, 0.5)]);
});

test("a face keeps its number while it moves and when it returns", () => {
  const tracker = new Tracker();
  assert.deepEqual(tracker.update(faces([0, 0, 10, 10], [50, 0, 10, 10])), [1, 2]);
  assert.deepEqual(tracker.update(faces([52, 0, 10, 10], [1, 0, 10, 10])), [2, 1]);
  assert.deepEqual(tracker.update(faces([1, 0, 10, 10])), [1]);
  assert.deepEqual(tracker.boxes, [[1, 0, 10, 10]]);
  assert.deepEqual(tracker.update(faces([1, 0, 10, 10], [52, 1, 10, 10], [90, 0, 10, 10])), [1, 2, 3]);
  for (let frame = 0; frame < 10; frame++) tracker.update([]);
  assert.deepEqual(tracker.update(faces([1, 0, 10, 10])), [4]);
});

test("a label changes only when another one clearly leads", () => {
  const smoother = new Smoother(LABELS, 0.4);
  assert.equal(smoother.update(1, [0.6, 0.4], 0).label, "happy");
  assert.equal(smoother.update(1, [0.47, 0.53], 10).label, "sad"); // after a gap
  assert.equal(smoother.update(1, [0.5, 0.5], 10.1).label, "sad");
  const later = smoother.update(1, [1, 0], 10.35);
  assert.equal(later.label, "happy");
  assert.ok(later.probabilities[0] > 0.7 && later.probabilities[0] < 0.9);
});

test("a face below the threshold is unsure", () => {
  const labels = ["happy", "sad", "fear"];
  assert.deepEqual(new Smoother(labels, 0.5).update(1, [0.45, 0.3, 0.25], 0), {
    label: "unsure",
    probability: 0.45,
    probabilities: [0.45, 0.3, 0.25],
    unsure: true,
  });
  assert.equal(new Smoother(labels, null).update(1, [0.45, 0.3, 0.25], 0).label, "happy");
  const { label, unsure } = predict([0.3, 0.35, 0.35], labels, 0.5); // a single image keeps its label
  assert.deepEqual([label, unsure], ["sad", true]);
});
