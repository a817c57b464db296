/** A card per face: label, probabilities and the last minute. Looks like the preview page of fer-edge run. */

/** @typedef {import("./engine.js").LabeledFace} LabeledFace */

const HISTORY_MS = 60_000;
const SAMPLE_MS = 200; // between two samples of a history
const GAP_MS = 1500; // a longer gap between two samples is left empty
const REUSE_MS = 5000; // a new face takes the card of a face that left at least this long ago
const THUMBNAIL_PX = 128;
const UNSURE_COLOR = "#888888";
/**
 * Colors that people with color blindness can distinguish (Okabe and Ito), for the labels of the bundled models.
 *
 * @type {Record<string, string>}
 */
const COLORS = {
  angry: "#d55e00",
  contempt: "#a6761d",
  disgust: "#009e73",
  fear: "#9467bd",
  happy: "#d9a400",
  neutral: "#56b4e9",
  sad: "#0072b2",
  surprise: "#cc79a7",
};

/** @param {number} share */
export function percent(share) {
  return `${Math.round(share * 100)} %`;
}

/**
 * @param {string} label
 * @param {number} index
 */
function colorOf(label, index) {
  return Object.hasOwn(COLORS, label) ? COLORS[label] : `hsl(${(index * 137.5) % 360} 60% 50%)`;
}

/**
 * @template {keyof HTMLElementTagNameMap} Name
 * @param {Name} name
 * @param {string} text
 * @param {string} kind Class of the element.
 * @returns {HTMLElementTagNameMap[Name]}
 */
function element(name, text = "", kind = "") {
  const node = document.createElement(name);
  node.textContent = text;
  if (kind) node.className = kind;
  return node;
}

/**
 * @param {Element} node
 * @param {string} text
 */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * @param {HTMLCanvasElement} canvas
 * @returns {CanvasRenderingContext2D}
 */
export function contextOf(canvas) {
  return /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
}

/**
 * The two most probable labels and the margin between them, in percentage points.
 *
 * @param {LabeledFace} face
 * @param {string[]} labels
 */
export function summary(face, labels) {
  const order = labels.map((_, i) => i).sort((a, b) => face.probabilities[b] - face.probabilities[a]);
  const [first, second] = order.map((i) => `${labels[i]} ${percent(face.probabilities[i])}`);
  if (face.unsure) return `between ${first} and ${second}`;
  const lead = face.label === labels[order[0]] ? "" : `${first}, `; // over time, a label stays until another one clearly leads
  const margin = Math.round((face.probabilities[order[0]] - face.probabilities[order[1]]) * 100);
  return `${lead}then ${second}, margin ${margin} points`;
}

class Card {
  item = element("li");
  /** @type {LabeledFace | null} */
  face = null;
  seen = -Infinity;
  #section = element("section");
  #thumbnail = element("canvas", "", "thumbnail");
  #label = element("span", "", "label");
  #probability = element("span");
  #summary = element("p", "", "summary");
  #history = element("canvas", "", "history");
  #bars = element("dl");
  /** @type {{meter: HTMLElement, fill: HTMLElement, text: HTMLElement, color: string}[]} */
  #rows = [];
  /** @type {{time: number, label: string, probability: number, color: string}[]} */
  #samples = [];

  /** @param {string[]} labels */
  constructor(labels) {
    const [title, text, top, axis] = [element("h2"), element("div"), element("header"), element("div", "", "axis")];
    this.#thumbnail.width = this.#thumbnail.height = THUMBNAIL_PX;
    this.#thumbnail.setAttribute("aria-hidden", "true");
    this.#history.setAttribute("role", "img");
    axis.append(element("span", "60 s ago"), element("span", "now"));
    axis.setAttribute("aria-hidden", "true");
    title.append(this.#label, this.#probability);
    text.append(title, this.#summary);
    top.append(this.#thumbnail, text);
    this.#rows = labels.map((label, index) => this.#addRow(label, index));
    this.#section.append(top, this.#history, axis, this.#bars);
    this.item.append(this.#section);
    this.clear();
  }

  clear() {
    this.face = null;
    this.seen = -Infinity;
    this.#samples = [];
    this.#section.removeAttribute("data-label");
    this.#section.setAttribute("aria-label", "No face");
    contextOf(this.#thumbnail).clearRect(0, 0, THUMBNAIL_PX, THUMBNAIL_PX);
    for (const { fill, text, meter } of this.#rows) {
      fill.style.width = "0";
      meter.setAttribute("aria-valuenow", "0");
      setText(text, "");
    }
    this.#say("no face", "", "");
  }

  /**
   * @param {LabeledFace} face
   * @param {string[]} labels
   * @param {number} now
   */
  show(face, labels, now) {
    if (this.face?.number !== face.number) this.clear();
    this.face = face;
    this.seen = now;
    this.#section.classList.remove("absent");
    this.#section.dataset.label = face.label;
    this.#section.setAttribute("aria-label", `Face ${face.number}`);
    this.#label.classList.toggle("unsure", face.unsure);
    const isStillUnsure = face.unsure && labels.includes(face.label);
    this.#say(face.label + (isStillUnsure ? " (unsure)" : ""), percent(face.probability), summary(face, labels));
    face.probabilities.forEach((probability, i) => {
      const { fill, meter, text } = this.#rows[i];
      fill.style.width = `${probability * 100}%`;
      meter.setAttribute("aria-valuenow", String(Math.round(probability * 100)));
      setText(text, percent(probability));
    });
    if (now - (this.#samples.at(-1)?.time ?? -Infinity) >= SAMPLE_MS) {
      const color = face.unsure ? UNSURE_COLOR : this.#rows[labels.indexOf(face.label)].color;
      this.#samples.push({ time: now, label: face.unsure ? "unsure" : face.label, probability: face.probability, color });
    }
  }

  /** @param {number} now */
  showAbsent(now) {
    if (!this.face) return;
    this.#section.classList.add("absent");
    this.#section.removeAttribute("data-label");
    this.#label.classList.remove("unsure");
    this.#say("not in view", "", `last label: ${this.face.label}`);
    if (now - this.seen > HISTORY_MS) this.clear();
  }

  /**
   * Cut the face out of the shown image.
   *
   * @param {CanvasImageSource} image
   */
  drawThumbnail(image) {
    if (!this.face) return;
    const context = contextOf(this.#thumbnail);
    context.clearRect(0, 0, THUMBNAIL_PX, THUMBNAIL_PX);
    context.drawImage(image, ...this.face.box, 0, 0, THUMBNAIL_PX, THUMBNAIL_PX);
  }

  /** @param {number} now */
  drawHistory(now) {
    const canvas = this.#history;
    const ratio = devicePixelRatio || 1;
    const width = (canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio)));
    const height = (canvas.height = Math.max(1, Math.round(canvas.clientHeight * ratio)));
    const context = contextOf(canvas);
    const x = (/** @type {number} */ time) => width * (1 - (now - time) / HISTORY_MS);
    this.#samples = this.#samples.filter((sample) => now - sample.time < HISTORY_MS);
    /** @type {Record<string, number>} */
    const durations = {};
    this.#samples.forEach((sample, i) => {
      const next = this.#samples[i + 1]?.time ?? Math.min(now, sample.time + SAMPLE_MS);
      const end = next - sample.time > GAP_MS ? sample.time + SAMPLE_MS : next;
      const left = Math.floor(x(sample.time));
      context.fillStyle = sample.color;
      context.clearRect(left, 0, width, height); // columns of two samples may overlap by a pixel
      context.fillRect(left, height * (1 - sample.probability), Math.max(1, Math.ceil(x(end)) - left), height);
      durations[sample.label] = (durations[sample.label] ?? 0) + end - sample.time;
    });
    context.fillStyle = "#8888";
    context.fillRect(0, height / 2, width, ratio); // 50 %
    const total = Object.values(durations).reduce((sum, value) => sum + value, 0) || 1;
    const parts = Object.entries(durations).sort((a, b) => b[1] - a[1]);
    const text = parts.map(([label, value]) => `${label} ${percent(value / total)}`).join(", ");
    canvas.setAttribute("aria-label", `Last minute: ${text || "no face"}`);
  }

  /**
   * @param {string} label
   * @param {number} index
   */
  #addRow(label, index) {
    const [meter, fill, cell] = [element("div"), element("div"), element("dd")];
    const [name, text] = [element("dt", label), element("dd", "", "percent")];
    const color = colorOf(label, index);
    meter.setAttribute("role", "meter");
    meter.setAttribute("aria-label", label);
    meter.setAttribute("aria-valuemin", "0");
    meter.setAttribute("aria-valuemax", "100");
    name.title = label;
    fill.style.background = color;
    meter.append(fill);
    cell.append(meter);
    this.#bars.append(name, cell, text);
    return { meter, fill, text, color };
  }

  /**
   * @param {string} label
   * @param {string} probability
   * @param {string} text
   */
  #say(label, probability, text) {
    setText(this.#label, label);
    this.#label.title = label; // a long one is cut off
    setText(this.#probability, probability);
    setText(this.#summary, text);
  }
}

/** The cards of all faces. A card keeps its place for as long as the page is open. */
export class Cards {
  #list;
  #labels;
  /** @type {Card[]} */
  #cards = [];

  /**
   * @param {HTMLElement} list Receives the cards.
   * @param {string[]} labels In output order.
   */
  constructor(list, labels) {
    this.#list = list;
    this.#labels = labels;
    this.#add();
  }

  /**
   * @param {LabeledFace[]} faces The faces in view.
   * @param {number} now Milliseconds.
   */
  show(faces, now) {
    for (const face of faces) this.#cardOf(face, now).show(face, this.#labels, now);
    for (const card of this.#cards) if (card.seen < now) card.showAbsent(now);
    while (this.#cards.length > 1 && !this.#cards[this.#cards.length - 1].face) this.#cards.pop()?.item.remove();
  }

  /**
   * Draw thumbnails and histories.
   *
   * @param {CanvasImageSource} image The shown image.
   * @param {number} now As in show().
   */
  draw(image, now) {
    for (const card of this.#cards) {
      if (card.seen === now) card.drawThumbnail(image);
      card.drawHistory(now);
    }
  }

  /** Forget all faces: another source of images begins. */
  clear() {
    for (const card of this.#cards) card.clear();
  }

  #add() {
    const card = new Card(this.#labels);
    this.#cards.push(card);
    this.#list.append(card.item);
    return card;
  }

  /**
   * @param {LabeledFace} face
   * @param {number} now
   */
  #cardOf(face, now) {
    return (
      this.#cards.find((card) => card.face?.number === face.number) ??
      this.#cards.find((card) => !card.face) ??
      this.#cards.find((card) => now - card.seen > REUSE_MS) ??
      this.#add()
    );
  }
}
