// npm @vladmandic/face-api with the wasm backend: its expression network, and its SSD detector on whole images.
export const LABELS = ['neutral', 'happy', 'sad', 'angry', 'fear', 'disgust', 'surprise'];
export const PACKAGES = ['@vladmandic/face-api', '@tensorflow/tfjs', '@tensorflow/tfjs-backend-wasm'];
const THEIR_NAMES = ['neutral', 'happy', 'sad', 'angry', 'fearful', 'disgusted', 'surprised'];

export function importPackages(require) {
  const tf = require('@tensorflow/tfjs');
  const wasm = require('@tensorflow/tfjs-backend-wasm');
  return { tf, wasm, faceapi: require('@vladmandic/face-api/dist/face-api.node-wasm.js') };
}

export async function load({ tf, wasm, faceapi }, folder) {
  const models = `${folder}/@vladmandic/face-api/model`;
  wasm.setWasmPaths(`${folder}/@tensorflow/tfjs-backend-wasm/dist/`);
  await tf.setBackend('wasm');
  await tf.ready();
  await faceapi.nets.faceExpressionNet.loadFromDisk(models);
  await faceapi.nets.ssdMobilenetv1.loadFromDisk(models);
  const toRgb = ({ gray, height, width }) => tf.tidy(() => tf.tile(tf.tensor(gray, [height, width, 1], 'int32'), [1, 1, 3]));
  const scores = (expressions) => THEIR_NAMES.map((name) => expressions[name]);
  return {
    modelFile: `${models}/face_expression_model.bin`,
    classify: async (image) => {
      const tensor = toRgb(image);
      const expressions = await faceapi.nets.faceExpressionNet.predictExpressions(tensor);
      tf.dispose(tensor);
      return scores(expressions);
    },
    analyze: async (image) => {
      const tensor = toRgb(image);
      const found = await faceapi.detectAllFaces(tensor, new faceapi.SsdMobilenetv1Options()).withFaceExpressions();
      tf.dispose(tensor);
      return found.map(({ detection: { box }, expressions }) => [[box.x, box.y, box.width, box.height], scores(expressions)]);
    },
  };
}
