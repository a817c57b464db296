/** Cameras of the device. */

/** @typedef {{value: string, name: string}} CameraChoice value is "user", "environment" or the id of a device. */

const SIZE = { width: { ideal: 640 }, height: { ideal: 480 } };
const FACING = [
  { value: "user", name: "Front" },
  { value: "environment", name: "Back" },
];

/** What the page needs and older browsers lack. */
const NEEDED = {
  WebAssembly: () => typeof WebAssembly === "object",
  "WebAssembly.instantiateStreaming": () => typeof WebAssembly.instantiateStreaming === "function",
  Worker: () => typeof Worker === "function",
  OffscreenCanvas: () => typeof OffscreenCanvas === "function",
  createImageBitmap: () => typeof createImageBitmap === "function",
};

/** @returns {string | null} Why this browser cannot show the page; null if it can. */
export function browserProblem() {
  const missing = Object.entries(NEEDED)
    .filter(([, isThere]) => !isThere())
    .map(([name]) => name);
  if (!missing.length) return null;
  return `This browser lacks ${missing.join(", ")}. Use Chrome 93, Firefox 114, Safari 16.4 or newer`;
}

/**
 * Open a camera.
 *
 * @param {string} choice "user" (front), "environment" (back) or the id of a device.
 * @returns {Promise<MediaStream>}
 * @throws {Error} With a text for the user.
 */
export async function openCamera(choice) {
  if (!isSecureContext || !navigator.mediaDevices) {
    throw new Error(
      "Browsers open the camera only over https:// or on localhost. Open this page over https (fer-edge serve --self-signed). " +
        "You can still open an image",
    );
  }
  const isFacing = FACING.some(({ value }) => value === choice);
  const wanted = isFacing ? { facingMode: choice } : { deviceId: { exact: choice } };
  try {
    return await navigator.mediaDevices.getUserMedia({ video: { ...SIZE, ...wanted }, audio: false });
  } catch (error) {
    throw new Error(cameraProblem(error), { cause: error });
  }
}

/**
 * The choices for the user: the cameras by name once the user has allowed one, before that front and back.
 *
 * @returns {Promise<CameraChoice[]>}
 */
export async function listCameras() {
  const devices = (await navigator.mediaDevices?.enumerateDevices().catch(() => [])) ?? [];
  const named = devices.filter(({ kind, label }) => kind === "videoinput" && label);
  return [...FACING, ...named.map(({ deviceId, label }) => ({ value: deviceId, name: label }))];
}

/**
 * @param {MediaStream} stream
 * @returns {boolean} Whether the camera shows the user, so that a mirror image is expected.
 */
export function facesUser(stream) {
  const [track] = stream.getVideoTracks();
  return track?.getSettings().facingMode !== "environment";
}

/** @param {unknown} error */
export function cameraProblem(error) {
  const { name, message } = error instanceof Error ? error : { name: "", message: String(error) };
  switch (name) {
    case "NotAllowedError":
    case "SecurityError":
      return "The camera is blocked. Allow it in the browser's settings for this page, then start the camera again";
    case "NotFoundError":
    case "OverconstrainedError":
      return "No camera was found. Connect one, choose another one, or open an image";
    case "NotReadableError":
    case "AbortError":
      return "The camera cannot be used: another program may be using it. Close that program, then start the camera again";
    default:
      return `The camera cannot be opened: ${message}. Choose another one, or open an image`;
  }
}
