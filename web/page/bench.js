/** Measure the networks in this browser by the protocol of fer-edge bench. See benchmarks/timing.py and stages.py. */

import { MIN_FACE_PX } from "./engine.js";

/** @typedef {import("./engine.js").Engine} Engine */
/** @typedef {import("./image.js").Image} Image */
/** @typedef {{warmup_runs: number, min_runs: number, min_seconds: number}} Protocol */
/**
 * @typedef {object} Samples Milliseconds of each counted run, in order.
 * @property {Protocol} protocol
 * @property {number[]} invoke The classifier alone.
 * @property {Record<string, number[]>} stages detect, preprocess, classify and end_to_end on one frame.
 * @property {[number, number]} frame Width and height of the frame, pixels.
 */

/** @type {Protocol} */
const PROTOCOL = { warmup_runs: 10, min_runs: 50, min_seconds: 1.5 };
/** @type {Protocol} */
const STAGES_PROTOCOL = { warmup_runs: 2, min_runs: 5, min_seconds: 0.3 };

/**
 * @param {Engine} engine
 * @param {Image} image A frame with one face.
 * @returns {Promise<Samples>}
 */
export async function measure(engine, image) {
  const faces = await engine.detect(image, MIN_FACE_PX, null);
  // Where the detector does not find the drawn face, its place is known.
  const face = faces[0] ?? {
    box: [image.width / 4, image.height / 4, image.height / 2, image.height / 2],
    eyes: null,
    score: 0,
  };
  const input = engine.crop(image, face);
  const invoke = await timeRuns(() => engine.classify(input), PROTOCOL);
  /** @type {Record<string, number[]>} */
  const stages = { detect: [], preprocess: [], classify: [], end_to_end: [] };
  const runOnce = async () => {
    const times = [performance.now()];
    await engine.detect(image, MIN_FACE_PX, null);
    times.push(performance.now());
    const crop = engine.crop(image, face);
    times.push(performance.now());
    await engine.classify(crop);
    times.push(performance.now());
    Object.keys(stages).forEach((stage, i) => stages[stage].push(round((times[i + 1] ?? times[3]) - times[i < 3 ? i : 0])));
  };
  await timeRuns(runOnce, STAGES_PROTOCOL);
  for (const samples of Object.values(stages)) samples.splice(0, STAGES_PROTOCOL.warmup_runs);
  return { protocol: PROTOCOL, invoke, stages, frame: [image.width, image.height] };
}

/**
 * Time a call until both minima are reached.
 *
 * @param {() => Promise<unknown>} run
 * @param {Protocol} protocol
 * @returns {Promise<number[]>} Milliseconds of each counted call.
 */
export async function timeRuns(run, { warmup_runs: warmup, min_runs: minRuns, min_seconds: minSeconds }) {
  for (let i = 0; i < warmup; i++) await run();
  const samples = [];
  let total = 0;
  while (samples.length < minRuns || total < minSeconds * 1000) {
    const start = performance.now();
    await run();
    const elapsed = performance.now() - start;
    total += elapsed;
    samples.push(round(elapsed));
  }
  return samples;
}

/** @param {number} ms */
function round(ms) {
  return Math.round(ms * 1e4) / 1e4;
}
