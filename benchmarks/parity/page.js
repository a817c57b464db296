// Runs .tflite files in LiteRT.js or MediaPipe and sends the outputs to the server that this page came from.
// job.json: the adapter, and for each model its number of classes, input size and faces. web.py serves all of it.
const bytes = async (url) => new Uint8Array(await (await fetch(url)).arrayBuffer());

async function litert() {
  const { loadLiteRt, loadAndCompile, Tensor } = await import("@litertjs/core");
  await loadLiteRt("/packages/@litertjs/core/wasm/");
  return async ({ model, faces, size, float }) => {
    const compiled = await loadAndCompile(await bytes(model), { accelerator: "wasm" });
    const pixels = await bytes(faces);
    const count = size * size * 3;
    const outputs = [];
    for (let start = 0; start < pixels.length; start += count) {
      const face = pixels.slice(start, start + count);
      const input = new Tensor(float ? Float32Array.from(face) : face, [1, size, size, 3]);
      const [output] = await compiled.run(input);
      outputs.push([...(await output.data())]);
      output.delete();
      input.delete();
    }
    compiled.delete();
    return { outputs };
  };
}

async function mediapipe() {
  const { FilesetResolver, ImageClassifier } = await import("@mediapipe/tasks-vision");
  const files = await FilesetResolver.forVisionTasks("/packages/@mediapipe/tasks-vision/wasm");
  return async ({ model, faces, size, classes }) => {
    const options = { baseOptions: { modelAssetBuffer: await bytes(model), delegate: "CPU" }, runningMode: "IMAGE", maxResults: -1 };
    const classifier = await ImageClassifier.createFromOptions(files, options);
    const pixels = await bytes(faces);
    const count = size * size * 3;
    const scores = [];
    const labels = new Array(classes).fill("");
    for (let start = 0; start < pixels.length; start += count) {
      const image = new ImageData(size, size);
      for (let pixel = 0; pixel < size * size; pixel++) {
        image.data.set(pixels.subarray(start + 3 * pixel, start + 3 * pixel + 3), 4 * pixel);
        image.data[4 * pixel + 3] = 255;
      }
      const row = new Array(classes).fill(0);
      for (const category of classifier.classify(image).classifications[0].categories) {
        row[category.index] = category.score;
        labels[category.index] = category.categoryName;
      }
      scores.push(row);
    }
    classifier.close();
    return { scores, labels };
  };
}

const send = (result) => fetch("/result", { method: "POST", body: JSON.stringify(result) });
const reason = (error) => ({ problem: String(error?.message ?? error).split("\n")[0].slice(0, 500) });

const job = await (await fetch("/job.json")).json();
let run;
try {
  run = await { litert, mediapipe }[job.adapter]();
} catch (error) {
  run = async () => { throw error; };
}
for (const [number, model] of job.models.entries()) {
  let result;
  try {
    result = await run(model);
  } catch (error) {
    result = reason(error);
  }
  await send({ number, ...result });
}
await send({ done: true });
