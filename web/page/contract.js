/** The contract: the file fer_edge.json in the zip archive at the end of a .tflite file. See artifacts/contract.py. */

/**
 * @typedef {object} BoxTransform
 * @property {number} scale Side of the crop as a multiple of the longer side of the detector's box.
 * @property {number} shift_x Shift of the crop's center to the right, in box widths.
 * @property {number} shift_y Shift of the crop's center downwards, in box heights.
 *
 * @typedef {object} CropConvention
 * @property {number} training_resolution_px Side of the training faces, pixels.
 * @property {Record<string, BoxTransform>} box_transforms By name of the detector.
 *
 * @typedef {object} Contract
 * @property {number} contract_version
 * @property {string} architecture
 * @property {string} data
 * @property {string} precision
 * @property {string} recipe
 * @property {number} parameters
 * @property {string[]} labels In output order.
 * @property {number} image_size Side of the square input, pixels.
 * @property {CropConvention} crop
 * @property {{scale: number, zero_point: number} | null} output How an output byte becomes a probability.
 * @property {number | null} unsure_threshold
 * @property {string} source_digest
 * @property {string | null} flatbuffer_sha256
 * @property {{title?: string, protocol: string}} split
 */

const CONTRACT_VERSION = 2;
const CONTRACT_FILE = "fer_edge.json";
const END_OF_ARCHIVE = 0x06054b50;
const MAX_COMMENT_BYTES = 65535;
const END_BYTES = 22;

/**
 * @param {Uint8Array} model Content of a .tflite file.
 * @returns {Contract}
 * @throws {Error} If the file has no contract that this page can use.
 */
export function readContract(model) {
  const contract = /** @type {Contract | null} */ (readContractData(model));
  if (!contract) {
    throw new Error(
      "The model contains no contract: it is truncated, or fer-edge did not make it. Export the page again: fer-edge export web MODEL",
    );
  }
  if (contract.contract_version !== CONTRACT_VERSION || !contract.output) {
    throw new Error(
      `The model has contract version ${contract.contract_version} and precision ${contract.precision}. This page needs an int8 ` +
        `model with contract version ${CONTRACT_VERSION}. Convert it again, then export the page again`,
    );
  }
  return contract;
}

/**
 * @param {Contract} contract
 * @param {string} detector
 * @returns {BoxTransform} Of the detector.
 * @throws {Error} If the contract has none for it.
 */
export function boxTransform({ crop: { box_transforms: known } }, detector) {
  const transform = known[detector] ?? (detector === "own" ? known.haar : undefined);
  if (transform) return transform;
  const names = Object.keys(known).join(", ");
  throw new Error(`The model's contract has no box transform for '${detector}'; it has ${names}. Convert the run again`);
}

/**
 * Read the contract of any file of fer-edge.
 *
 * @param {Uint8Array} file Content of a .tflite file.
 * @returns {unknown} null if it has none.
 */
export function readContractData(file) {
  const text = readMember(file, CONTRACT_FILE);
  return text && JSON.parse(new TextDecoder().decode(text));
}

/**
 * Read an uncompressed member of the zip archive at the end of a file.
 *
 * @param {Uint8Array} file
 * @param {string} name
 * @returns {Uint8Array | null} null if there is no archive or no such member.
 */
export function readMember(file, name) {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const end = findEnd(view);
  if (end < 0) return null;
  const count = view.getUint16(end + 10, true);
  let entry = view.getUint32(end + 16, true);
  for (let i = 0; i < count && entry + 46 <= end; i++) {
    const [nameBytes, extraBytes, commentBytes] = [28, 30, 32].map((offset) => view.getUint16(entry + offset, true));
    const found = new TextDecoder().decode(file.subarray(entry + 46, entry + 46 + nameBytes));
    if (found === name && view.getUint16(entry + 10, true) === 0) {
      const local = view.getUint32(entry + 42, true);
      if (local + 30 > end) return null;
      const start = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
      return file.subarray(start, start + view.getUint32(entry + 20, true));
    }
    entry += 46 + nameBytes + extraBytes + commentBytes;
  }
  return null;
}

/**
 * @param {DataView} view
 * @returns {number} Position of the end of the archive, negative without one.
 */
function findEnd(view) {
  const first = Math.max(0, view.byteLength - END_BYTES - MAX_COMMENT_BYTES);
  for (let position = view.byteLength - END_BYTES; position >= first; position--) {
    if (view.getUint32(position, true) === END_OF_ARCHIVE) return position;
  }
  return -1;
}
