/** Number the faces across frames. As Tracker.update in edge_runtime/live/tracker.py; every frame is searched here. */

import { iou } from "./tiling.js";

/** @typedef {import("./detector.js").Detection} Detection */
/** @typedef {{number: number, box: import("./image.js").Box, missed: number}} Track */

const MIN_IOU = 0.3; // above, two boxes are the same face
const MAX_MISSED = 10; // a face that returns within this number of frames keeps its number
const MAX_MISSING_FACES = 16;

export class Tracker {
  /** @type {Track[]} */
  #tracks = [];
  #lastNumber = 0;

  /**
   * @param {Detection[]} detections The faces of the next frame, largest first.
   * @returns {number[]} The number of each face, from 1.
   */
  update(detections) {
    const matched = this.#match(detections);
    const seen = detections.map(({ box }, i) => ({ number: matched[i]?.number ?? ++this.#lastNumber, box, missed: 0 }));
    const missing = this.#tracks.filter((track) => !matched.includes(track));
    for (const track of missing) track.missed += 1;
    const kept = missing.filter((track) => track.missed < MAX_MISSED).slice(0, MAX_MISSING_FACES);
    this.#tracks = [...seen, ...kept];
    return seen.map((track) => track.number);
  }

  /** The boxes of the faces in the newest frame. */
  get boxes() {
    return this.#tracks.filter((track) => !track.missed).map((track) => track.box);
  }

  /** Drop all faces: the next frame is unrelated to the last one. Numbers are not reused. */
  reset() {
    this.#tracks = [];
  }

  /**
   * @param {Detection[]} detections
   * @returns {(Track | undefined)[]} The track of each detection. The pairs with the largest IoU are matched first.
   */
  #match(detections) {
    const pairs = detections.flatMap(({ box }, i) => this.#tracks.map((track) => ({ i, track, overlap: iou(box, track.box) })));
    pairs.sort((a, b) => b.overlap - a.overlap);
    /** @type {(Track | undefined)[]} */
    const matched = detections.map(() => undefined);
    for (const { i, track, overlap } of pairs) {
      if (overlap >= MIN_IOU && !matched[i] && !matched.includes(track)) matched[i] = track;
    }
    return matched;
  }
}
