// Runs one npm package: node worker.mjs JOB.json. The same job and results as worker.py; no image decoder is needed.
import fs from 'node:fs';
import { createRequire } from 'node:module';

const WARMUP = 3; // images

// A .npy file of uint8 (n, height, width).
function readImages(file) {
  const bytes = fs.readFileSync(file);
  const start = bytes[6] === 1 ? 10 : 12;
  const length = bytes[6] === 1 ? bytes.readUInt16LE(8) : bytes.readUInt32LE(8);
  const header = bytes.toString('latin1', start, start + length);
  const [, count, height, width] = header.match(/\((\d+), (\d+), (\d+)\)/).map(Number);
  if (!header.includes("'|u1'") || header.includes("'fortran_order': True")) throw new Error(`${file} is not uint8 (n, height, width)`);
  const pixels = (i) => bytes.subarray(start + length + i * height * width, start + length + (i + 1) * height * width);
  return Array.from({ length: count }, (_, i) => ({ height, width, gray: pixels(i) }));
}

async function timed(call, images) {
  for (const image of images.slice(0, WARMUP)) await call(image);
  const result = { outputs: [], cpu_ms: [], elapsed_ms: [] };
  for (const image of images) {
    const [cpu, elapsed] = [process.cpuUsage(), process.hrtime.bigint()];
    result.outputs.push(await call(image));
    const used = process.cpuUsage(cpu);
    result.cpu_ms.push((used.user + used.system) / 1000);
    result.elapsed_ms.push(Number(process.hrtime.bigint() - elapsed) / 1e6);
  }
  return result;
}

const cpuSeconds = () => (process.cpuUsage().user + process.cpuUsage().system) / 1e6;
const job = JSON.parse(fs.readFileSync(process.argv[2]));
const folder = `${job.environment}/node_modules`;
const require = createRequire(`${folder}/`);
const adapter = await import(`./${job.adapter}.mjs`);
const start = cpuSeconds();
const modules = adapter.importPackages(require, folder);
const imported = cpuSeconds();
const peer = await adapter.load(modules, folder);
const results = { labels: adapter.LABELS, import_s: imported - start, load_s: cpuSeconds() - imported, faces: {}, images: {} };
results.model_bytes = fs.statSync(peer.modelFile).size;
const version = (name) => JSON.parse(fs.readFileSync(`${folder}/${name}/package.json`)).version;
results.versions = Object.fromEntries(adapter.PACKAGES.map((name) => [name, version(name)]));
for (const kind of ['faces', 'images']) {
  const call = kind === 'faces' ? peer.classify : peer.analyze;
  for (const [name, file] of Object.entries(job[kind])) results[kind][name] = await timed(call, readImages(file));
}
fs.writeFileSync(job.results, JSON.stringify(results));
