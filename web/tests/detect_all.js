/** Run searches of the own detector for tests/test_web_detector.py: JSON on the standard input and output. */

import { readFileSync } from "node:fs";

import { OwnDetector } from "../page/own_detector.js";

/** The network of the test: maps that are a fixed function of the pixels. */
class PatternNetwork {
  /** @type {string[]} */
  inputs = [];

  /** @param {import("../page/detector.js").Values} input */
  async run(input) {
    this.inputs.push(Buffer.from(input).toString("base64"));
    const heat = new Float32Array(320);
    const geometry = new Float32Array(320 * 7);
    for (let cell = 0; cell < 320; cell++) {
      const start = Math.floor(cell / 20) * 8 * 160 + (cell % 20) * 8;
      let sum = 0;
      for (let i = 0; i < 64; i++) sum += input[start + Math.floor(i / 8) * 160 + (i % 8)];
      const first = input[start];
      heat[cell] = (((sum * 7 + first * 13) % 997) / 997) * 10 - 7.5;
      geometry.set([first / 255 - 0.5, 0.25, ((sum % 37) / 37) * 2 - 1, -0.2, -0.1, 0.2, -0.1], cell * 7);
    }
    return [heat, geometry];
  }
}

const { file, images } = JSON.parse(readFileSync(0, "utf8"));
const results = [];
for (const { data, width, height, minFace, previous } of images) {
  const network = new PatternNetwork();
  const detector = new OwnDetector(network, Buffer.from(file, "base64"));
  const image = { data: Buffer.from(data, "base64"), width, height, channels: /** @type {const} */ (3) };
  const faces = [];
  for (const boxes of previous) faces.push(await detector.detect(image, minFace, boxes));
  results.push({ inputs: network.inputs, faces });
}
process.stdout.write(JSON.stringify(results));
