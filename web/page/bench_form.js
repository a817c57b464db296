/** The form of ?bench: measures this device and offers the record as a file. */

import { latencyRecord } from "./bench_record.js";
import { contextOf, setText } from "./cards.js";
import { download } from "./download.js";

const FRAME = { width: 640, height: 480 };
const FILE = "fer-edge-bench.jsonl";

/**
 * @param {import("./worker_client.js").WorkerClient} client
 * @param {import("./worker_client.js").Loaded} loaded
 */
export function showBench(client, loaded) {
  const form = /** @type {HTMLFormElement} */ (document.getElementById("bench"));
  const status = /** @type {HTMLElement} */ (document.getElementById("measured"));
  const button = /** @type {HTMLButtonElement} */ (document.getElementById("measure"));
  const typed = (/** @type {string} */ id) => /** @type {HTMLInputElement} */ (document.getElementById(id)).value.trim();
  form.hidden = false;
  button.disabled = false;
  form.onsubmit = async (event) => {
    event.preventDefault();
    const [device, browser] = [typed("device"), typed("browser")];
    if (!device || !browser) return setText(status, "Type the device and the browser");
    button.disabled = true;
    setText(status, "Measuring. Keep this page in front");
    try {
      const samples = await client.bench(await createImageBitmap(drawFace()));
      const record = latencyRecord(samples, loaded, { device, browser });
      download(new Blob([`${JSON.stringify(record)}\n`], { type: "application/json" }), FILE);
      const middle = [...samples.invoke].sort((a, b) => a - b)[samples.invoke.length >> 1];
      setText(status, `Median ${middle.toFixed(2)} ms per face. Show ${FILE} with: fer-edge bench --from ${FILE}`);
    } catch (error) {
      setText(status, error instanceof Error ? error.message : String(error));
    }
    button.disabled = false;
  };
}

/** @returns {HTMLCanvasElement} A frame with a simple face. */
function drawFace() {
  const canvas = Object.assign(document.createElement("canvas"), FRAME);
  const context = contextOf(canvas);
  const ellipse = (/** @type {[number, number, number, number]} */ [x, y, width, height], /** @type {string} */ color) => {
    context.fillStyle = color;
    context.beginPath();
    context.ellipse(x, y, width, height, 0, 0, 2 * Math.PI);
    context.fill();
  };
  context.fillStyle = "#607d8b";
  context.fillRect(0, 0, FRAME.width, FRAME.height);
  ellipse([320, 240, 96, 124], "#d7a98c");
  ellipse([320, 150, 92, 44], "#3e2723");
  for (const x of [284, 356]) {
    ellipse([x, 222, 15, 8], "#ffffff");
    ellipse([x, 222, 7, 7], "#263238");
    ellipse([x, 202, 20, 4], "#3e2723");
  }
  ellipse([320, 258, 10, 16], "#c08d70");
  ellipse([320, 304, 32, 9], "#9c3b3b");
  return canvas;
}
