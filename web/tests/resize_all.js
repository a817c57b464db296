// Resizes images for tests/test_web_pixels.py: reads a list of jobs as JSON from standard input, writes the bytes as base64.

import { readFileSync } from "node:fs";

import { AreaSimd } from "../page/area_simd.js";
import { cropFace, preprocessFace } from "../page/crop.js";
import { squareInput } from "../page/blazeface.js";
import { resizeArea, resizeLinearExact, useSimd } from "../page/resize.js";
import { warpAffine } from "../page/warp_affine.js";

const FUNCTIONS = { resizeArea, resizeLinearExact, warpAffine, cropFace, preprocessFace, squareInput };

if (process.argv[2] === "simd") {
  const code = readFileSync(new URL("../page/area.wasm", import.meta.url));
  useSimd(new AreaSimd((await WebAssembly.instantiate(code)).instance));
}

/** @type {{name: keyof typeof FUNCTIONS, image: any, rest: any[]}[]} */
const jobs = JSON.parse(readFileSync(0, "utf8"));
const results = jobs.map(({ name, image, rest }) => {
  const pixels = { ...image, data: new Uint8Array(Buffer.from(image.data, "base64")) };
  const result = /** @type {Function} */ (FUNCTIONS[name])(pixels, ...rest);
  const data = result.data ?? result;
  return Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString("base64");
});
process.stdout.write(JSON.stringify(results));
