import assert from "node:assert/strict";
import { test } from "node:test";

import { boxTransform, readContract, readMember } from "../page/contract.js";
import { fileWith } from "./archive.js";

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
