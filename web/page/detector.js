/** Face detectors: classes with the interface Detector, made of a network and the content of its file. */

import { BlazeFace } from "./blazeface.js";
import { OwnDetector } from "./own_detector.js";

/**
 * @typedef {import("./image.js").Image} Image
 * @typedef {import("./image.js").Box} Box
 * @typedef {Float32Array<ArrayBuffer> | Uint8Array<ArrayBuffer>} Values Of a tensor.
 *
 * @typedef {object} Detection A face.
 * @property {Box} box
 * @property {import("./image.js").Eyes | null} eyes null if the detector finds no eyes.
 * @property {number} score How sure the detector is, 0..1.
 *
 * @typedef {object} Network A model file that is ready to run.
 * @property {(input: Values, shape: number[]) => Promise<Values[]>} run Returns its outputs.
 *
 * @typedef {object} Detector
 * @property {string} name Of its box transform in the contract.
 * @property {() => Promise<void>} warmUp Runs its network once.
 * @property {(image: Image, minFace: number, previous: Box[] | null) => Promise<Detection[]>} detect Finds the faces, largest first.
 *   minFace is the side of the smallest face, pixels. previous are the boxes in the previous frame; null searches everything.
 */

/** @type {Record<string, new (network: Network, file: Uint8Array) => Detector>} */
const DETECTORS = { blazeface: BlazeFace, own: OwnDetector };

/**
 * @param {string} name Of the detector.
 * @param {Network} network Its model file.
 * @param {Uint8Array} file Content of that file.
 * @returns {Detector}
 */
export function openDetector(name, network, file) {
  if (!Object.hasOwn(DETECTORS, name)) throw new Error(`Unknown face detector '${name}'. Export the page again`);
  return new DETECTORS[name](network, file);
}
