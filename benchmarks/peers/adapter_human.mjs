// npm @vladmandic/human with the wasm backend: its emotion model on face crops, and human.detect on whole images.
import fs from 'node:fs';

export const LABELS = ['angry', 'disgust', 'fear', 'happy', 'sad', 'surprise', 'neutral'];
export const PACKAGES = ['@vladmandic/human', '@tensorflow/tfjs-core', '@tensorflow/tfjs-backend-wasm'];
const OFF = { enabled: false };
const NAMES = Object.fromEntries(LABELS.map((name, index) => [name, index]));

// The exports of its package.json lack the leading "./", so that only a path reaches the wasm build.
export const importPackages = (require, folder) => require(`${folder}/@vladmandic/human/dist/human.node-wasm.js`);

export async function load({ Human }, folder) {
  globalThis.fetch = async (url) => new Response(fs.readFileSync(new URL(url))); // Node.js fetches no file: URLs
  const models = `${folder}/@vladmandic/human/models/`;
  const face = { emotion: { enabled: true, minConfidence: 0, skipFrames: 0, skipTime: 0 }, iris: OFF, description: OFF };
  const human = new Human({
    backend: 'wasm', wasmPath: `${folder}/@tensorflow/tfjs-backend-wasm/dist/`, wasmPlatformFetch: false, debug: false,
    modelBasePath: `file://${models}`, cacheSensitivity: 0, face, body: OFF, hand: OFF, object: OFF, gesture: OFF, segmentation: OFF,
  });
  await human.init();
  await human.load();
  const { tf } = human;
  const toRgb = ({ gray, height, width }) => tf.tidy(() => tf.tile(tf.tensor(gray, [1, height, width, 1], 'float32'), [1, 1, 1, 3]));
  return {
    modelFile: `${models}emotion.bin`,
    // The network takes gray from -1 to 1 at 64 x 64 pixels.
    classify: async ({ gray, height, width }) => {
      const scores = tf.tidy(() => {
        const resized = tf.image.resizeBilinear(tf.tensor(gray, [1, height, width, 1], 'float32'), [64, 64]);
        return human.models.models.emotion.execute(tf.sub(tf.div(resized, 127.5), 1));
      });
      const values = Array.from(await scores.data());
      tf.dispose(scores);
      return values;
    },
    analyze: async (image) => {
      const tensor = toRgb(image);
      const { face: faces } = await human.detect(tensor);
      tf.dispose(tensor);
      return faces.map(({ box, emotion }) => {
        const scores = LABELS.map(() => 0);
        for (const { emotion: name, score } of emotion || []) scores[NAMES[name]] = score;
        return [box, scores];
      });
    },
  };
}
