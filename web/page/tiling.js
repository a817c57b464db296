/** Choose the parts of an image (tiles) that a detector searches in each frame. As edge_runtime/detectors/tiling.py. */

import { roundHalfEven } from "./image.js";

/** @typedef {import("./image.js").Box} Box */

const MIN_FACE_FRACTION = 0.2; // of a tile's longer side; smaller faces are searched in smaller tiles
const MAX_TILES_PER_SIDE = 4;
const TILES_PER_SEARCH = 3; // per frame, in addition to the full frame, while no face is known
const FULL_FRAME_EVERY = 3; // searches while a face is known

/** Distributes the tiles of an image over successive frames. */
export class TileScheduler {
  next = 0;
  searches = 0;

  /**
   * @param {number} width Of the image, pixels.
   * @param {number} height Of the image, pixels.
   * @param {number} minFace Side of the smallest face to find, pixels.
   * @param {Box[] | null} previous Boxes in the previous frame. null returns all tiles.
   * @returns {{known: Box[], tiles: Box[]}} The boxes around which to search, and the tiles in turn.
   */
  nextTiles(width, height, minFace, previous) {
    const all = tiles(width, height, minFace);
    if (!previous || previous.length >= all.length) return { known: [], tiles: all };
    const [fullFrame, ...squares] = all;
    const isKnown = previous.length > 0;
    this.searches += 1;
    if (isKnown && (!squares.length || this.searches % FULL_FRAME_EVERY === 0)) return { known: previous, tiles: [fullFrame] };
    const count = Math.min(squares.length, isKnown ? 1 : TILES_PER_SEARCH);
    const turn = Array.from({ length: count }, (_, k) => squares[(this.next + k) % squares.length]);
    this.next += count;
    return { known: previous, tiles: isKnown ? turn : [fullFrame, ...turn] };
  }
}

/**
 * The full frame and, if faces may be too small in it, squares that overlap by half.
 *
 * @param {number} width Of the image, pixels.
 * @param {number} height Of the image, pixels.
 * @param {number} minFace Side of the smallest face to find, pixels.
 * @returns {Box[]} Boxes inside the image. The first one is the full frame.
 */
export function tiles(width, height, minFace) {
  const longer = Math.max(width, height);
  /** @type {Box[]} */
  const found = [[0, 0, width, height]];
  if (minFace >= MIN_FACE_FRACTION * longer) return found;
  const smallest = Math.min(roundHalfEven(minFace / MIN_FACE_FRACTION), width, height);
  const side = Math.max(smallest, Math.floor(longer / MAX_TILES_PER_SIDE));
  const starts = (/** @type {number} */ length) => {
    const last = Math.max(0, length - side);
    const steps = Math.ceil(last / Math.max(1, Math.floor(side / 2)));
    return Array.from({ length: steps + 1 }, (_, k) => roundHalfEven((last * k) / Math.max(1, steps)));
  };
  for (const y of starts(height)) {
    for (const x of starts(width)) found.push([x, y, Math.min(side, width), Math.min(side, height)]);
  }
  return found;
}

/**
 * Intersection over union of two boxes, 0..1.
 *
 * @param {ArrayLike<number>} first x, y, width, height; more numbers are ignored.
 * @param {ArrayLike<number>} second In the same unit.
 * @returns {number}
 */
export function iou(first, second) {
  const width = Math.min(first[0] + first[2], second[0] + second[2]) - Math.max(first[0], second[0]);
  const height = Math.min(first[1] + first[3], second[1] + second[3]) - Math.max(first[1], second[1]);
  const intersection = Math.max(0, width) * Math.max(0, height);
  const union = first[2] * first[3] + second[2] * second[3] - intersection;
  return union > 0 ? intersection / union : 0;
}
