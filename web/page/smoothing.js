/** Smooth labels over time. As edge_runtime/live/smoothing.py. */

export const UNSURE = "unsure";
const DEFAULT_MIN_CONFIDENCE = 0.4; // for a model whose contract has no threshold
const TIME_CONSTANT_S = 0.25;
const HYSTERESIS = 0.1;
const MAX_GAP_S = 2; // a face that was not seen for longer starts a new average

/**
 * @typedef {object} Prediction
 * @property {string} label The most probable label; of a live face the current one, or "unsure".
 * @property {number} probability Of the label, 0..1.
 * @property {number[]} probabilities In the order of the contract's labels.
 * @property {boolean} unsure
 *
 * @typedef {{average: number[], current: number, seen: number, unsure: boolean}} Face
 */

/**
 * The prediction for a single image. It keeps its label, marked as unsure.
 *
 * @param {number[]} probabilities
 * @param {string[]} labels
 * @param {number | null} threshold Of the contract.
 * @returns {Prediction}
 */
export function predict(probabilities, labels, threshold) {
  const best = indexOfMax(probabilities);
  const probability = probabilities[best];
  return { label: labels[best], probability, probabilities, unsure: probability < (threshold ?? DEFAULT_MIN_CONFIDENCE) };
}

/** Smooths the predictions of all faces in view. */
export class Smoother {
  /** @type {Map<number, Face>} */
  #faces = new Map();
  #labels;
  #minConfidence;

  /**
   * @param {string[]} labels
   * @param {number | null} threshold Of the contract.
   */
  constructor(labels, threshold) {
    this.#labels = labels;
    this.#minConfidence = threshold ?? DEFAULT_MIN_CONFIDENCE;
  }

  /**
   * Add the probabilities of one face in a new frame.
   *
   * @param {number} number Of the face.
   * @param {number[]} probabilities
   * @param {number} now Time of the frame, seconds.
   * @returns {Prediction} With the averaged probabilities.
   */
  update(number, probabilities, now) {
    let face = this.#faces.get(number);
    if (!face || now - face.seen > MAX_GAP_S) {
      face = { average: probabilities, current: indexOfMax(probabilities), seen: now, unsure: false };
      this.#faces.set(number, face);
    } else {
      this.#add(face, probabilities, now);
    }
    for (const [other, { seen }] of this.#faces) if (now - seen > MAX_GAP_S) this.#faces.delete(other);
    const highest = Math.max(...face.average);
    face.unsure = highest < this.#minConfidence + (face.unsure ? HYSTERESIS / 2 : 0);
    const label = face.unsure ? UNSURE : this.#labels[face.current];
    const probability = face.unsure ? highest : face.average[face.current];
    return { label, probability, probabilities: face.average, unsure: face.unsure };
  }

  /**
   * @param {Face} face
   * @param {number[]} probabilities
   * @param {number} now
   */
  #add(face, probabilities, now) {
    const weight = 1 - Math.exp(-Math.max(0, now - face.seen) / TIME_CONSTANT_S);
    face.average = face.average.map((value, i) => value + weight * (probabilities[i] - value));
    face.seen = now;
    const best = indexOfMax(face.average);
    const current = face.average[face.current];
    if (face.average[best] >= current + HYSTERESIS || current < this.#minConfidence) face.current = best;
  }
}

/** @param {number[]} values */
function indexOfMax(values) {
  return values.indexOf(Math.max(...values));
}
