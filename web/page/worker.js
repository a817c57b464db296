// The worker that runs the networks. A classic worker: LiteRT.js loads its glue code with importScripts, which module workers
// lack. The modules come through import().

/** @typedef {import("./engine.js").Engine} Engine */
/** @typedef {import("./engine.js").LabeledImage} LabeledImage */

const scope = /** @type {DedicatedWorkerGlobalScope} */ (/** @type {unknown} */ (self));
const base = new URL(".", scope.location.href).href;

/** @type {Engine} */
let engine;
/** @type {OffscreenCanvas | undefined} */
let canvas;

const handlers = { load, frame, still, bench, reset: () => engine.reset() };

scope.onmessage = async ({ data: { id, type, ...options } }) => {
  try {
    const handler = handlers[/** @type {keyof typeof handlers} */ (type)];
    scope.postMessage({ id, result: await handler(options) });
  } catch (error) {
    scope.postMessage({ id, error: error instanceof Error ? error.message : String(error) });
  }
};

/** @returns {Promise<import("./worker_client.js").Loaded>} */
async function load() {
  const [{ readSite, fetchFile }, { readContract }, { openDetector }, { Engine }, runtime] = await Promise.all([
    import("./site.js"),
    import("./contract.js"),
    import("./detector.js"),
    import("./engine.js"),
    import("./runtime.js"),
  ]);
  const site = await readSite(base);
  const read = async (/** @type {string} */ path) => new Uint8Array(await (await fetchFile(site, path, base)).arrayBuffer());
  const [build, model, detectorModel] = await Promise.all([
    runtime.loadRuntime(site, base),
    read(site.model),
    read(site.detector.file),
    loadSimd(read),
  ]);
  const contract = readContract(model);
  const start = performance.now();
  const network = await runtime.openNetwork(model);
  const loaded = performance.now();
  const detector = openDetector(site.detector.name, await runtime.openNetwork(detectorModel), detectorModel);
  engine = new Engine(detector, network, contract);
  const firstMs = await engine.warmUp();
  return { build, site, contract, loadMs: loaded - start, firstMs };
}

/**
 * Resize with SIMD instructions where the browser has them.
 *
 * @param {(path: string) => Promise<Uint8Array<ArrayBuffer>>} read
 */
async function loadSimd(read) {
  const [{ AreaSimd }, { useSimd }, code] = await Promise.all([
    import("./area_simd.js"),
    import("./resize.js"),
    read("area.wasm"),
  ]);
  if (WebAssembly.validate(code)) useSimd(new AreaSimd((await WebAssembly.instantiate(code)).instance));
}

/**
 * @param {{bitmap: VideoFrame | ImageBitmap, keepBytes?: boolean, time?: number}} options time in seconds
 * @returns {Promise<LabeledImage & {readMs: number}>}
 */
async function frame({ bitmap, keepBytes, time }) {
  const start = performance.now();
  const image = pixels(bitmap);
  const readMs = performance.now() - start;
  return { ...(await engine.labelFrame(image, time ?? start / 1000, keepBytes)), readMs };
}

/**
 * @param {{bitmap: ImageBitmap, keepBytes?: boolean}} options
 * @returns {Promise<LabeledImage>}
 */
async function still({ bitmap, keepBytes }) {
  return engine.labelStill(pixels(bitmap), keepBytes);
}

/**
 * @param {{bitmap: ImageBitmap}} options An image with one face.
 * @returns {Promise<import("./bench.js").Samples>}
 */
async function bench({ bitmap }) {
  const { measure } = await import("./bench.js");
  return measure(engine, pixels(bitmap));
}

/**
 * Read the pixels of a frame, and close it.
 *
 * @param {VideoFrame | ImageBitmap} bitmap
 * @returns {import("./image.js").Image}
 */
function pixels(bitmap) {
  const width = bitmap instanceof ImageBitmap ? bitmap.width : bitmap.displayWidth;
  const height = bitmap instanceof ImageBitmap ? bitmap.height : bitmap.displayHeight;
  if (canvas?.width !== width || canvas.height !== height) canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true, colorSpace: "srgb" });
  if (!context) throw new Error("The browser cannot read the pixels of an image. Close other tabs, or use another browser");
  context.globalCompositeOperation = "copy";
  context.drawImage(bitmap, 0, 0, width, height);
  if (bitmap instanceof ImageBitmap) {
    context.globalCompositeOperation = "destination-over"; // transparent pixels are drawn on white, as fer-edge run does
    context.fillStyle = "#fff";
    context.fillRect(0, 0, width, height);
  }
  bitmap.close();
  return { data: context.getImageData(0, 0, width, height).data, width, height, channels: 4 };
}
