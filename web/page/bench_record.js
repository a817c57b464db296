/** The record of a measurement, as artifacts/latency_records.py defines it. */

/** @typedef {import("./worker_client.js").Loaded} Loaded */
/** @typedef {import("./bench.js").Samples} Samples */

const RECORD_VERSION = 2;
const STATE = { temperature_c: null, throttle_bits: null, load_1min: null, throttle_count: null };

/**
 * @param {Samples} samples
 * @param {Loaded} loaded
 * @param {{device: string, browser: string}} typed As the user typed them. A page cannot know them.
 * @returns {object}
 */
export function latencyRecord(samples, { site, build, loadMs, firstMs }, { device, browser }) {
  return {
    ...site.record,
    num_threads: 1,
    load_ms: loadMs,
    first_inference_ms: firstMs,
    samples_ms: samples.invoke,
    memory_before_bytes: null,
    peak_memory_bytes: null,
    environment: {
      board: `${device}, ${browser}`,
      cpu: null,
      machine: "wasm32",
      cores: null,
      os: null,
      kernel: null,
      python: null,
      runtimes: { "LiteRT.js": `${site.packages["@litertjs/core"]} ${build}`, browser },
      governor: null,
    },
    state_before: STATE,
    state_after: STATE,
    latency_protocol: { ...samples.protocol, stage: "invoke" },
    backend: "litert-js",
    stages: { samples_ms: samples.stages, detector: site.detector.name, frame_px: samples.frame },
    record_version: RECORD_VERSION,
  };
}
