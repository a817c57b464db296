/** LiteRT.js: runs .tflite files in WebAssembly. Only a classic worker can load it: its glue code needs importScripts. */

import { Tensor, loadAndCompile, loadLiteRt, supportsFeature } from "./litert/litert.js";
import { fetchFile } from "./site.js";

/** @typedef {import("./detector.js").Network} Network */
/** @typedef {import("./detector.js").Values} Values */
/** @typedef {import("./site.js").Site} Site */
/** @typedef {(imports: WebAssembly.Imports, done: (instance: WebAssembly.Instance, module: WebAssembly.Module) => void) => object} Instantiate */

const BUILDS = { relaxed: "litert/litert_wasm_internal", compat: "litert/litert_wasm_compat_internal" };

/**
 * Load the build of LiteRT.js that suits the browser: with relaxed SIMD, otherwise the compatible one.
 *
 * @param {Site} site
 * @param {string} base URL of the page's folder.
 * @returns {Promise<keyof typeof BUILDS>} Name of the build.
 * @throws {Error} If the browser cannot run WebAssembly here.
 */
export async function loadRuntime(site, base) {
  const build = (await supportsFeature("relaxedSimd")) ? "relaxed" : "compat";
  const path = BUILDS[build];
  const code = fetchFile(site, `${path}.wasm`, base).then(asWasm);
  code.catch(() => {}); // reported below
  /** @type {(error: unknown) => void} */
  let fail = () => {};
  /** @type {Promise<never>} */
  const failed = new Promise((_, reject) => (fail = reject));
  /** @type {Instantiate} */
  const instantiateWasm = (imports, done) => {
    WebAssembly.instantiateStreaming(code, imports).then(({ instance, module }) => done(instance, module), fail);
    return {};
  };
  // LiteRT.js would open the GPU. This page does not use it: WebGPU changed outputs by up to 14 of 256 steps.
  Object.defineProperty(navigator, "gpu", { value: { requestAdapter: async () => null } });
  Object.assign(self, { Module: { instantiateWasm, print() {}, printErr() {} } });
  try {
    await Promise.race([loadLiteRt(new URL(`${path}.js`, base).href), failed]);
  } catch (error) {
    throw error instanceof WebAssembly.CompileError || error instanceof EvalError ? wasmBlocked(error) : error;
  }
  return build;
}

/**
 * Prepare a model file.
 *
 * @param {Uint8Array} model Content of a .tflite file.
 * @returns {Promise<Network>}
 */
export async function openNetwork(model) {
  const compiled = await loadAndCompile(model, { accelerator: "wasm" });
  return {
    async run(input, shape) {
      const tensor = new Tensor(input, shape);
      try {
        const outputs = await compiled.run(tensor);
        return await Promise.all(outputs.map(readAndDelete));
      } finally {
        tensor.delete();
      }
    },
  };
}

/**
 * @param {import("./litert/litert.js").Tensor} tensor
 * @returns {Promise<Values>}
 */
async function readAndDelete(tensor) {
  const values = await tensor.data();
  tensor.delete();
  return /** @type {Values} */ (values);
}

/**
 * Correct the type of a file from a server that does not know .wasm files.
 *
 * @param {Response} response
 */
function asWasm(response) {
  const type = "application/wasm";
  if (response.headers.get("Content-Type")?.startsWith(type)) return response;
  return new Response(response.body, { headers: { "Content-Type": type } });
}

/** @param {Error} cause */
function wasmBlocked(cause) {
  return new Error(
    "This page may not run WebAssembly here: the server's Content-Security-Policy lacks 'wasm-unsafe-eval', or the browser has " +
      `WebAssembly switched off, as in a lockdown mode (${cause.message})`,
    { cause },
  );
}
