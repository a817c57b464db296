/** What the page shows: the video or an opened image, with a box and a label for each face. */

import { contextOf, percent } from "./cards.js";

/** @typedef {import("./engine.js").LabeledImage} LabeledImage */

const BOX_COLOR = "#00e5b0";
const TEXT_COLOR = "#00251f";
const LINE_SHARE = 1 / 160; // of the image's longer side
const TEXT_SHARE = 1 / 28;

export class Screen {
  #frame;
  #video;
  #photo;
  #boxes;
  #hint;
  /** @type {LabeledImage | null} */
  #labeled = null;

  /**
   * @param {HTMLElement} frame Contains the other elements.
   * @param {HTMLVideoElement} video
   * @param {HTMLCanvasElement} photo Shows an opened image.
   * @param {HTMLCanvasElement} boxes Above both.
   * @param {HTMLElement} hint Shown while there is neither.
   */
  constructor(frame, video, photo, boxes, hint) {
    this.#frame = frame;
    this.#video = video;
    this.#photo = photo;
    this.#boxes = boxes;
    this.#hint = hint;
  }

  /** The element with the shown image. */
  get image() {
    return this.#photo.hidden ? this.#video : this.#photo;
  }

  get isMirrored() {
    return this.#photo.hidden && this.#frame.classList.contains("mirrored");
  }

  /** @param {boolean} on Whether the video is shown as in a mirror. */
  mirror(on) {
    this.#frame.classList.toggle("mirrored", on);
    if (this.#labeled) this.show(this.#labeled);
  }

  /** Show the video. */
  showVideo() {
    this.#photo.hidden = true;
    this.#hint.hidden = true;
    this.#video.hidden = false;
    this.clear();
  }

  /** @param {ImageBitmap} bitmap The image to show. */
  showPhoto(bitmap) {
    this.#photo.width = bitmap.width;
    this.#photo.height = bitmap.height;
    contextOf(this.#photo).drawImage(bitmap, 0, 0);
    this.#photo.hidden = false;
    this.#video.hidden = true;
    this.#hint.hidden = true;
    this.clear();
  }

  /** Show neither video nor image. */
  showHint() {
    this.#photo.hidden = true;
    this.#video.hidden = true;
    this.#hint.hidden = false;
    this.clear();
  }

  /** Remove the boxes. */
  clear() {
    this.#labeled = null;
    contextOf(this.#boxes).clearRect(0, 0, this.#boxes.width, this.#boxes.height);
  }

  /** @param {LabeledImage} labeled Draws its boxes. */
  show(labeled) {
    this.#labeled = labeled;
    const { width, height } = labeled;
    if (this.#boxes.width !== width || this.#boxes.height !== height) {
      this.#boxes.width = width;
      this.#boxes.height = height;
      this.#frame.style.aspectRatio = `${width} / ${height}`;
    }
    const context = contextOf(this.#boxes);
    context.clearRect(0, 0, width, height);
    this.#draw(context, labeled);
  }

  /** @returns {Promise<Blob>} The shown image with its boxes, PNG. */
  async save() {
    const { width, height } = this.#boxes;
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    const context = contextOf(canvas);
    if (this.isMirrored) context.setTransform(-1, 0, 0, 1, width, 0);
    context.drawImage(this.image, 0, 0, width, height);
    context.resetTransform();
    context.drawImage(this.#boxes, 0, 0);
    const blob = await new Promise((/** @type {(blob: Blob | null) => void} */ resolve) => canvas.toBlob(resolve, "image/png"));
    if (!blob) throw new Error("The browser cannot write this image");
    return blob;
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {LabeledImage} labeled
   */
  #draw(context, { width, height, faces }) {
    const longer = Math.max(width, height);
    const text = Math.max(14, Math.round(longer * TEXT_SHARE));
    context.lineWidth = Math.max(2, longer * LINE_SHARE);
    context.font = `600 ${text}px system-ui, sans-serif`;
    context.textBaseline = "middle";
    for (const face of faces) {
      const [left, top, boxWidth, boxHeight] = face.box;
      const x = this.isMirrored ? width - left - boxWidth : left;
      context.strokeStyle = BOX_COLOR;
      context.setLineDash(face.unsure ? [text / 2, text / 3] : []);
      context.strokeRect(x, top, boxWidth, boxHeight);
      const words = `${face.label} ${percent(face.probability)}`;
      const wordsWidth = context.measureText(words).width + text * 0.6;
      const wordsLeft = Math.max(0, Math.min(x, width - wordsWidth));
      const wordsTop = Math.max(0, top - text * 1.4);
      context.fillStyle = BOX_COLOR;
      context.fillRect(wordsLeft, wordsTop, wordsWidth, text * 1.4);
      context.fillStyle = TEXT_COLOR;
      context.fillText(words, wordsLeft + text * 0.3, wordsTop + text * 0.75);
    }
  }
}
