/** The page: camera, image files, controls. worker.js runs the networks. */

import { browserProblem, facesUser, listCameras, openCamera } from "./camera.js";
import { Cards, setText } from "./cards.js";
import { download } from "./download.js";
import { Screen } from "./screen.js";
import { WorkerClient } from "./worker_client.js";

/** @typedef {import("./engine.js").LabeledImage} LabeledImage */
/** @typedef {import("./worker_client.js").Loaded} Loaded */

const DRAW_MS = 250; // between two updates of thumbnails, histories and facts
const ANNOUNCE_MS = 3000;
const SPEED_FRAMES = 30; // the speed is the median of so many frames
const MAX_PIXELS = 16_000_000; // of an opened image; iPhones have no larger canvas

const $ = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));
const buttons = {
  start: /** @type {HTMLButtonElement} */ ($("start")),
  freeze: /** @type {HTMLButtonElement} */ ($("freeze")),
  save: /** @type {HTMLButtonElement} */ ($("save")),
};
const video = /** @type {HTMLVideoElement} */ ($("video"));
const photo = /** @type {HTMLCanvasElement} */ ($("photo"));
const cameraChoice = /** @type {HTMLSelectElement} */ ($("camera"));
const mirror = /** @type {HTMLInputElement} */ ($("mirror"));
const file = /** @type {HTMLInputElement} */ ($("open"));
const announced = /** @type {HTMLInputElement} */ ($("announce"));
const screen = new Screen($("screen"), video, photo, /** @type {HTMLCanvasElement} */ ($("boxes")), $("hint"));

/** @type {WorkerClient} */
let client;
/** @type {Cards} */
let cards;
/** @type {MediaStream | null} */
let stream = null;
let frozen = false;
/** Counts the starts of a source: the loop of an earlier one ends. */
let source = 0;
let drawn = -Infinity;
let spoken = -Infinity;
let spokenText = "";
/** @type {number[]} */
const frameTimes = [];

/** @param {string} text Shown above the image; empty hides it. */
function showProblem(text) {
  $("problem").hidden = !text;
  setText($("problem"), text);
}

/** @param {unknown} error */
function showError(error) {
  showProblem(error instanceof Error ? error.message : String(error));
}

/** @param {() => Promise<void>} action Its error is shown to the user. */
async function attempt(action) {
  showProblem("");
  try {
    await action();
  } catch (error) {
    showError(error);
  }
}

/** @param {LabeledImage} labeled */
function showLabeled(labeled) {
  const now = performance.now();
  const { faces } = labeled;
  screen.show(labeled);
  cards.show(faces, now);
  setText($("status"), faces.length === 0 ? "no face" : faces.length === 1 ? "1 face" : `${faces.length} faces`);
  if (now - drawn >= DRAW_MS || frozen || !stream) {
    drawn = now;
    cards.draw(screen.image, now);
    showSpeed(labeled);
  }
  const text = faces.map((face) => `face ${face.number}: ${face.label}`).join(", ") || "no face";
  if (announced.checked && text !== spokenText && now - spoken >= ANNOUNCE_MS) {
    [spoken, spokenText] = [now, text];
    setText($("announcement"), text);
  }
}

/** @param {LabeledImage} labeled */
function showSpeed({ ms }) {
  const middle = [...frameTimes].sort((a, b) => a - b)[frameTimes.length >> 1];
  const rate = middle ? `${(1000 / middle).toFixed(0)} frames/s, ` : "";
  const stages = `detect ${ms.detect.toFixed(1)}, crop ${ms.crop.toFixed(1)}, classify ${ms.classify.toFixed(1)} ms`;
  setText($("speed"), rate + stages);
}

/** Resolves when the video shows a new frame. */
function nextFrame() {
  return new Promise((resolve) => {
    if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(resolve);
    else requestAnimationFrame(resolve);
  });
}

/** @returns {Promise<VideoFrame | ImageBitmap>} The shown frame of the video. */
async function grab() {
  return typeof VideoFrame === "function" ? new VideoFrame(video) : createImageBitmap(video);
}

async function startCamera() {
  stopCamera();
  const mine = source;
  const opened = await openCamera(cameraChoice.value);
  if (mine !== source) return opened.getTracks().forEach((track) => track.stop());
  stream = opened;
  opened.getVideoTracks()[0].onended = () => {
    if (stream !== opened) return;
    stopCamera();
    showProblem("The camera was disconnected. Connect it, then start the camera again");
  };
  video.srcObject = opened;
  await video.play();
  mirror.checked = facesUser(opened);
  await client.reset();
  if (mine !== source) return;
  cards.clear();
  screen.showVideo();
  screen.mirror(mirror.checked);
  showButtons();
  await fillCameras();
  labelVideo(mine).catch(showError);
}

/** Stop the camera and the labeling of its frames. */
function stopCamera() {
  source += 1;
  frozen = false;
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  video.srcObject = null;
  frameTimes.length = 0;
  screen.showHint();
  setText($("status"), "ready");
  showButtons();
}

function showButtons() {
  buttons.start.textContent = stream ? "Stop camera" : "Start camera";
  buttons.freeze.disabled = !stream;
  buttons.freeze.setAttribute("aria-pressed", String(frozen));
  buttons.save.disabled = photo.hidden && !stream;
}

/**
 * Label frames, always the newest one, until another source begins.
 *
 * @param {number} mine Number of the source.
 */
async function labelVideo(mine) {
  let last = performance.now();
  while (mine === source) {
    if (!document.hidden) {
      const labeled = await client.frame(await grab());
      if (mine !== source) return;
      showLabeled(labeled);
    }
    await nextFrame();
    const now = performance.now();
    frameTimes.push(now - last);
    if (frameTimes.length > SPEED_FRAMES) frameTimes.shift();
    last = now;
  }
}

async function toggleFreeze() {
  frozen = !frozen;
  source += 1; // ends the loop, which may wait for a frame
  const mine = source;
  showButtons();
  if (frozen) {
    video.pause(); // the boxes must be those of the shown frame
    const labeled = await client.frame(await grab());
    if (mine === source) showLabeled(labeled);
  } else {
    await video.play();
    labelVideo(mine).catch(showError);
  }
}

async function openImage() {
  const [chosen] = file.files ?? [];
  if (!chosen) return;
  file.value = ""; // the same file can be chosen again
  /** @type {ImageBitmap} */
  let bitmap;
  try {
    bitmap = await createImageBitmap(chosen, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch (error) {
    throw new Error(`The browser cannot read ${chosen.name}. Choose a JPEG, PNG or WebP image`, { cause: error });
  }
  if (bitmap.width * bitmap.height > MAX_PIXELS) {
    const text = `${chosen.name} has ${bitmap.width} x ${bitmap.height} pixels; the maximum is 16 million. Choose a smaller image`;
    bitmap.close();
    throw new Error(text);
  }
  stopCamera();
  cards.clear();
  screen.showPhoto(bitmap);
  showButtons();
  setText($("status"), "searching faces");
  const mine = source;
  const labeled = await client.still(bitmap);
  if (mine === source) showLabeled(labeled);
}

async function saveImage() {
  const time = new Date().toISOString().slice(0, 19).replaceAll(":", "-");
  download(await screen.save(), `fer-edge-${time}.png`);
}

async function fillCameras() {
  const chosen = cameraChoice.value || "user";
  const choices = await listCameras();
  cameraChoice.replaceChildren(...choices.map(({ value, name }) => new Option(name, value, false, value === chosen)));
}

/** @param {Loaded} loaded */
function showFacts({ contract, site, build }) {
  const { architecture, data, precision } = contract;
  setText($("model"), `${architecture}, ${data}, ${precision}`);
  setText($("detector"), site.detector.name);
  setText($("runtime"), `LiteRT.js ${site.packages["@litertjs/core"]}, WebAssembly (${build})`);
}

function connect() {
  buttons.start.onclick = () => attempt(stream ? async () => stopCamera() : startCamera);
  buttons.freeze.onclick = () => attempt(toggleFreeze);
  buttons.save.onclick = () => attempt(saveImage);
  file.onchange = () => attempt(openImage);
  mirror.onchange = () => screen.mirror(mirror.checked);
  cameraChoice.onchange = () => {
    if (stream) attempt(startCamera);
  };
}

async function main() {
  const problem = browserProblem();
  if (problem) throw new Error(problem);
  client = new WorkerClient();
  await fillCameras();
  const loaded = await client.load();
  cards = new Cards($("faces"), loaded.contract.labels);
  showFacts(loaded);
  connect();
  buttons.start.disabled = false;
  setText($("status"), "ready");
  if (new URLSearchParams(location.search).has("bench")) {
    const { showBench } = await import("./bench_form.js");
    showBench(client, loaded);
  }
  // After the load: the service worker then gets the files from the browser's cache. Without one, the page works online.
  navigator.serviceWorker?.register(`sw.js?build=${loaded.build}`).catch(() => {});
}

main().catch((error) => {
  setText($("status"), "not ready");
  showError(error);
});
