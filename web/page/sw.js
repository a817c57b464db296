// The service worker: keeps the files of one exported version, so that the page works offline.

/** @typedef {{version: string, files: string[], builds: Record<string, string[]>}} Precache Written by fer-edge export web. */

const worker = /** @type {ServiceWorkerGlobalScope & {PRECACHE: Precache}} */ (/** @type {unknown} */ (self));
worker.importScripts("precache.js");

const { version, files, builds } = worker.PRECACHE;
const CACHE = `fer-edge ${version}`;

worker.addEventListener("install", (event) => {
  // The page names the build of LiteRT.js that it has loaded. The other one is not needed here.
  const build = new URL(worker.location.href).searchParams.get("build") ?? "";
  const requests = [...files, ...(builds[build] ?? [])].map((file) => new Request(file, { cache: "no-cache" }));
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(requests)));
});

worker.addEventListener("activate", (event) => {
  const isOld = (/** @type {string} */ name) => name.startsWith("fer-edge ") && name !== CACHE;
  event.waitUntil(caches.keys().then((names) => Promise.all(names.filter(isOld).map((name) => caches.delete(name)))));
});

worker.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET" || !request.url.startsWith(worker.registration.scope)) return;
  event.respondWith(fromCache(request));
});

/** @param {Request} request */
async function fromCache(request) {
  const cache = await caches.open(CACHE);
  return (await cache.match(request, { ignoreSearch: true })) ?? fetch(request);
}
