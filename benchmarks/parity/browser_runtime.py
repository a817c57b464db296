"""Run models in a runtime for browsers: a page in headless Chromium, from a server on this machine.

The page sends its outputs back to the server, so nothing controls the browser. A content security policy limits its requests to
that server: MediaPipe would send usage metrics to its vendor.
"""

import json
import os
import subprocess
import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from fer_edge.benchmarks.parity.parity_model import ParityModel, RuntimeOutput
from fer_edge.benchmarks.parity.runtimes import Runtime, find_browser
from fer_edge.benchmarks.parity.worker import quantized

PAGE = Path(__file__).with_name("page.js")
MAX_SILENT_SECONDS = 300  # without a request of the page
POLL_SECONDS = 0.5
MAX_RESULT_BYTES = 64 << 20
POLICY = "connect-src 'self'"
MODULES = {
    "@litertjs/core": "@litertjs/core/dist/index.js",
    "@litertjs/wasm-utils": "@litertjs/wasm-utils/dist/index.js",
    "@mediapipe/tasks-vision": "@mediapipe/tasks-vision/vision_bundle.mjs",
}
TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm", ".json": "application/json"}
FLAGS = (
    "--headless=new",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-gl=angle",  # MediaPipe needs WebGL, also for its CPU delegate
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
)


def run_in_browser(runtime: Runtime, models: Sequence[ParityModel]) -> list[RuntimeOutput]:
    """Run models in a runtime for browsers.

    Args:
        runtime: The runtime, which must be installed.
        models: The models with their faces.

    Returns:
        One output per model.

    Raises:
        RuntimeError: If the runtime or a browser is missing.
    """
    problem = runtime.missing()
    if problem or runtime.environment is None:
        raise RuntimeError(f"{runtime.package}: {problem}")
    packages = runtime.environment.folder / "node_modules"
    version = json.loads((packages / runtime.package / "package.json").read_text())["version"]
    server = _Server(runtime.adapter, models, packages)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        problem = _browse(server)
    finally:
        server.shutdown()
        server.server_close()
    return [_output(server.results.get(number), model, version, problem) for number, model in enumerate(models)]


def _output(result: dict[str, Any] | None, model: ParityModel, version: str, problem: str | None) -> RuntimeOutput:
    if result is None or "problem" in result:
        return RuntimeOutput(version, problem=result["problem"] if result else problem or "it sent no result")
    if "scores" in result:
        outputs = quantized(np.array(result["scores"], np.float32), model.scale, model.zero_point)
        return RuntimeOutput(version, outputs, tuple(result["labels"]))
    return RuntimeOutput(version, np.array(result["outputs"], np.uint8 if model.scale else np.float32))


def _browse(server: "_Server") -> str | None:
    """Open the page and wait until it is done. Returns what went wrong, None if nothing did."""
    flags = [*FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]  # Chromium has no sandbox for root
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        address = f"http://127.0.0.1:{server.server_port}/"
        command = [str(find_browser()), *flags, f"--user-data-dir={profile}", address]
        browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            while not server.done.wait(POLL_SECONDS):
                if browser.poll() is not None:
                    return f"the browser ended with exit status {browser.returncode}"
                if time.monotonic() - server.last_request > MAX_SILENT_SECONDS:
                    return f"no answer of the browser within {MAX_SILENT_SECONDS} s"
        finally:
            browser.terminate()
            try:
                browser.wait(10)
            except subprocess.TimeoutExpired:
                browser.kill()
                browser.wait()
    return None


class _Server(ThreadingHTTPServer):
    """Serves the page, the packages and the models, and takes the results."""

    daemon_threads = True

    def __init__(self, adapter: str, models: Sequence[ParityModel], packages: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.models = models
        self.packages = packages.resolve()
        self.results: dict[int, dict[str, Any]] = {}
        self.done = threading.Event()
        self.last_request = time.monotonic()
        entries = [
            {
                "model": f"/model/{number}",
                "faces": f"/faces/{number}",
                "size": model.image_size,
                "classes": len(model.labels),
                "float": model.float_input,
            }
            for number, model in enumerate(models)
        ]
        imports = {name: f"/packages/{path}" for name, path in MODULES.items()}
        self.documents = {
            "/": (
                "text/html",
                "<!doctype html><meta charset=utf-8><title>parity</title>"
                f'<script type="importmap">{json.dumps({"imports": imports})}</script>'
                '<script type="module" src="/page.js"></script>',
            ),
            "/page.js": ("text/javascript", PAGE.read_text(encoding="utf-8")),
            "/job.json": ("application/json", json.dumps({"adapter": adapter, "models": entries})),
        }

    def find(self, path: str) -> tuple[str, bytes] | None:
        """Return type and content of a path of the page; None if there is none."""
        if path in self.documents:
            kind, text = self.documents[path]
            return kind, text.encode()
        _, folder, rest = path.split("/", 2) if path.count("/") > 1 else ("", "", "")
        if folder in ("model", "faces") and rest.isdigit() and int(rest) < len(self.models):
            model = self.models[int(rest)]
            return "application/octet-stream", model.path.read_bytes() if folder == "model" else model.faces.tobytes()
        file = (self.packages / rest).resolve()
        if folder == "packages" and file.is_relative_to(self.packages) and file.is_file():
            return TYPES.get(file.suffix, "application/octet-stream"), file.read_bytes()
        return None


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self.server.last_request = time.monotonic()
        found = self.server.find(self.path.partition("?")[0])
        self.send_response(200 if found else 404)
        kind, content = found or ("text/plain", b"")
        for name, value in (("Content-Type", kind), ("Content-Length", str(len(content))), ("Content-Security-Policy", POLICY)):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self) -> None:
        self.server.last_request = time.monotonic()
        length = min(int(self.headers.get("Content-Length", 0)), MAX_RESULT_BYTES)
        result = json.loads(self.rfile.read(length))
        if result.get("done"):
            self.server.done.set()
        else:
            self.server.results[result["number"]] = result
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        """Write no log."""
