/** Calls of the worker as promises. */

/** @typedef {import("./engine.js").LabeledImage} LabeledImage */
/**
 * @typedef {object} Loaded
 * @property {string} build Build of LiteRT.js.
 * @property {import("./site.js").Site} site
 * @property {import("./contract.js").Contract} contract
 * @property {number} loadMs From the bytes of the model to the compiled network, milliseconds.
 * @property {number} firstMs The first inference, milliseconds.
 */

export class WorkerClient {
  #worker = new Worker("worker.js");
  /** @type {Map<number, {resolve: (result: any) => void, reject: (error: Error) => void}>} */
  #calls = new Map();
  #lastId = 0;

  constructor() {
    this.#worker.onmessage = ({ data: { id, result, error } }) => {
      const call = this.#calls.get(id);
      this.#calls.delete(id);
      if (error === undefined) call?.resolve(result);
      else call?.reject(new Error(error));
    };
    this.#worker.onerror = (event) => {
      const error = new Error(`The worker failed: ${event.message ?? "worker.js cannot be loaded"}. Reload the page`);
      for (const { reject } of this.#calls.values()) reject(error);
      this.#calls.clear();
    };
  }

  /**
   * Load LiteRT.js and the models.
   *
   * @returns {Promise<Loaded>}
   */
  load() {
    return this.#call("load");
  }

  /**
   * Label the next frame of the camera.
   *
   * @param {VideoFrame | ImageBitmap} bitmap The worker closes it.
   * @returns {Promise<LabeledImage & {readMs: number}>}
   */
  frame(bitmap) {
    return this.#call("frame", { bitmap }, [bitmap]);
  }

  /**
   * Label a single image.
   *
   * @param {ImageBitmap} bitmap The worker closes it.
   * @returns {Promise<LabeledImage>}
   */
  still(bitmap) {
    return this.#call("still", { bitmap }, [bitmap]);
  }

  /**
   * Measure the networks.
   *
   * @param {ImageBitmap} bitmap An image with one face. The worker closes it.
   * @returns {Promise<import("./bench.js").Samples>}
   */
  bench(bitmap) {
    return this.#call("bench", { bitmap }, [bitmap]);
  }

  /** The next frame is unrelated to the last one. */
  reset() {
    return this.#call("reset");
  }

  /**
   * @param {string} type
   * @param {object} options
   * @param {Transferable[]} transfer
   * @returns {Promise<any>}
   */
  #call(type, options = {}, transfer = []) {
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      this.#calls.set(id, { resolve, reject });
      this.#worker.postMessage({ id, type, ...options }, transfer);
    });
  }
}
