import assert from "node:assert/strict";
import { test } from "node:test";

import { boxTransform, readContract, readMember } from "../page/contract.js";

/** @param {string} text */
const bytesOf = (text) => new TextEncoder().encode(text);

/**
 * An archive with one uncompressed member, after some other bytes. Offsets count from the start of the file.
 *
 * @param {string} name
 * @param {string} content
 * @param {{method?: number}} options
 */
function fileWith(name, content, { method = 0 } = {}) {
  const [before, title, data] = [bytesOf("flatbuffer"), bytesOf(name), bytesOf(content)];
  const local = new DataView(new ArrayBuffer(30));
  local.setUint32(0, 0x04034b50, true);
  local.setUint16(26, title.length, true);
  const central = new DataView(new ArrayBuffer(46));
  central.setUint32(0, 0x02014b50, true);
  central.setUint16(10, method, true);
  central.setUint32(20, data.length, true);
  central.setUint16(28, title.length, true);
  central.setUint32(42, before.length, true);
  const end = new DataView(new ArrayBuffer(22));
  end.setUint32(0, 0x06054b50, true);
  end.setUint16(10, 1, true);
  end.setUint32(16, before.length + 30 + title.length + data.length, true);
  const parts = [before, local, title, data, central, title, end];
  return Uint8Array.from(parts.flatMap((part) => [...new Uint8Array(part.buffer, part.byteOffset, part.byteLength)]));
}

test("a member of the archive at the end of a file is read", () => {
  const file = fileWith("labels.txt", "happy\nsad");
  assert.equal(new TextDecoder().decode(readMember(file, "labels.txt") ?? undefined), "happy\nsad");
  assert.equal(readMember(file, "other.txt"), null);
  assert.equal(readMember(fileWith("labels.txt", "happy", { method: 8 }), "labels.txt"), null);
});

test("a contract without the own detector uses the box of Haar", () => {
  const [haar, own] = [1, 0.9].map((scale) => ({ scale, shift_x: 0, shift_y: 0 }));
  const contract = (/** @type {object} */ transforms) => /** @type {any} */ ({ crop: { box_transforms: transforms } });
  assert.equal(boxTransform(contract({ haar }), "own"), haar);
  assert.equal(boxTransform(contract({ haar, own }), "own"), own);
  assert.throws(() => boxTransform(contract({ haar }), "other"), /no box transform for 'other'; it has haar/);
});

test("a model without a contract is rejected", () => {
  const text = JSON.stringify({ contract_version: 2, output: { scale: 1 / 256, zero_point: 0 }, labels: ["happy"] });
  assert.deepEqual(readContract(fileWith("fer_edge.json", text)).labels, ["happy"]);
  const thirdParty = fileWith("labels.txt", "cat\ndog");
  for (const model of [thirdParty, fileWith("fer_edge.json", text).slice(0, 60), new Uint8Array(0), new Uint8Array(100)]) {
    assert.throws(
      () => readContract(model),
      /^Error: The model contains no contract: it is truncated, or fer-edge did not make it/,
    );
  }
});

test("a model with a float output or of another version is rejected", () => {
  for (const contract of [
    { contract_version: 2, output: null, precision: "float32" },
    { contract_version: 1, output: {}, precision: "int8" },
  ]) {
    const version = contract.contract_version;
    const expected = new RegExp(`has contract version ${version} and precision ${contract.precision}. This page needs an int8`);
    assert.throws(() => readContract(fileWith("fer_edge.json", JSON.stringify(contract))), expected);
  }
});
