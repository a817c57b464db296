"""Export a web page that labels faces on the device that opens it: static files for any web server."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fer_edge import __version__
from fer_edge.artifacts.atomic_write import atomic_write, check_writable
from fer_edge.artifacts.contract import ModelError
from fer_edge.artifacts.detector_contract import read_detector_file
from fer_edge.artifacts.model_file import ModelFile, read_model_file
from fer_edge.artifacts.reporter import Reporter
from fer_edge.artifacts.user_folders import user_cache_folder
from fer_edge.deploy.web_parts import BLAZEFACE, BLAZEFACE_FILE, BUILDS, WEB_PARTS, read_web_parts
from fer_edge.edge_runtime.detectors.detector_network import MISSING_FILE, own_detector_model
from fer_edge.edge_runtime.find_model import find_model
from fer_edge.web import FOLDER

SITE_FILE = "site.json"
COMPRESSED_SUFFIX = ".br"
OWN_DETECTOR = "own"
OWN_DETECTOR_FILE = "models/face_detector.tflite"
UNCOMPRESSED = (".png",)
# Not kept by the service worker: itself, files for servers and readers, and the builds of LiteRT.js, of which it keeps one.
NOT_PRECACHED = {"sw.js", "precache.js", "_headers", "licenses.txt", *(file for build in BUILDS.values() for file in build)}
POLICY = re.compile(r'http-equiv="Content-Security-Policy"\s+content="([^"]+)"')
LOCAL_FILE = re.compile(r'(?:href|src)="((?:style\.css|main\.js))"')
# Quality 9 compresses 19 MB in 20 seconds; 11 takes minutes for 3 % less.
COMPRESS = """
const { readFileSync, writeFileSync } = require("node:fs");
const { brotliCompressSync, constants: c } = require("node:zlib");
for (const [from, to] of JSON.parse(readFileSync(0, "utf8"))) {
  const params = { [c.BROTLI_PARAM_QUALITY]: 9, [c.BROTLI_PARAM_LGWIN]: 24 };
  writeFileSync(to, brotliCompressSync(readFileSync(from), { params }));
}
"""
MIN_CACHED_BYTES = 1_000_000  # the compressed copies of larger files are kept for the next export


@dataclass(frozen=True)
class ExportedPage:
    """What was exported.

    Attributes:
        folder: The folder.
        files: Number of files, without compressed copies.
        total_bytes: Their size.
        transfer_bytes: What a browser with relaxed SIMD downloads at its first visit, compressed where there is a copy.
        compressed: Whether there are compressed copies.
    """

    folder: Path
    files: int
    total_bytes: int
    transfer_bytes: int
    compressed: bool


def export_web(
    model: str | Path | None, out: Path, packages: Path | None, reporter: Reporter, detector: str = OWN_DETECTOR
) -> ExportedPage:
    """Write the page with a model into a folder.

    Args:
        model: An int8 model, see ``find_model``.
        out: The folder. It is created, or replaced if it contains an exported page.
        packages: Folder with archives of ``npm pack``; None for the cache and the npm registry.
        reporter: Gets notes.
        detector: ``auto`` or ``own``, ``blazeface``, or the path of a .tflite file of a face detector of fer-edge.

    Returns:
        What was exported.

    Raises:
        FileNotFoundError: If the model, the detector or a part of the page is missing.
        FileExistsError: If the folder contains something else.
        ModelError: If a file is not an int8 model of fer-edge, or not a detector.
        OSError: If a part cannot be downloaded or the folder cannot be written.
        ValueError: If a part is another one than the pinned one.
    """
    file = read_model_file(find_model(model))
    if file.contract.output is None:
        raise ModelError(
            f"{file.path} has precision {file.contract.precision}. The web page needs an int8 model with contract: "
            "fer-edge convert RUN --int8"
        )
    detector_file = None if detector == BLAZEFACE else _own_detector_file(detector)
    _check_target(out)
    content = _page_content(file, packages, detector_file)
    target = out.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as temporary:
        new = Path(temporary) / "page"
        for path, data in content.items():
            (new / path).parent.mkdir(parents=True, exist_ok=True)
            (new / path).write_bytes(data)
        compressed = _compress(new, content, reporter)
        new.chmod(0o755)
        if target.exists():
            target.replace(Path(temporary) / "old")
        new.replace(target)
    return _summary(out, content, compressed)


def security_headers(index: str) -> dict[str, str]:
    """Return the response headers that a server should send with each file of the page.

    Args:
        index: Content of the page's index.html, which contains the content security policy.
    """
    policy = POLICY.search(index)
    return {
        "Content-Security-Policy": f"{policy[1]}; frame-ancestors 'none'" if policy else "default-src 'none'",
        "Permissions-Policy": "camera=(self), microphone=(), geolocation=(), display-capture=(), usb=(), payment=()",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        # Cross-origin isolation: timers with a resolution of 5 microseconds, for ?bench.
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Embedder-Policy": "require-corp",
        "Cross-Origin-Resource-Policy": "same-origin",
    }


def _check_target(out: Path) -> None:
    if out.is_dir():
        if any(out.iterdir()) and not (out / SITE_FILE).is_file():
            raise FileExistsError(f"'{out}' contains other files than an exported page. Choose a new or empty folder")
    elif out.exists():
        raise FileExistsError(f"'{out}' is a file. Choose a folder")
    check_writable(out / SITE_FILE)


def _own_detector_file(detector: str) -> Path:
    path = own_detector_model() if detector in ("auto", OWN_DETECTOR) else Path(detector)
    if path is None:
        raise FileNotFoundError(MISSING_FILE)
    if not path.is_file():
        raise FileNotFoundError(
            f"the web page has no detector '{detector}'. Choose {OWN_DETECTOR}, {BLAZEFACE} or a file of "
            "fer-edge convert detector"
        )
    contract = read_detector_file(path).contract
    if contract.precision != "int8" or contract.integer_only:
        kind = "int8 outputs" if contract.integer_only else f"precision {contract.precision}"
        raise ModelError(
            f"{path} has {kind}. The web page needs an int8 detector with float outputs: fer-edge convert detector RUN"
        )
    return path


def _page_content(file: ModelFile, packages: Path | None, detector: Path | None) -> dict[str, bytes]:
    """Return the content of all files by path."""
    contract = file.contract
    model = f"models/{contract.architecture}_{contract.data}_{contract.precision}.tflite"
    content = {path.name: path.read_bytes() for path in sorted(FOLDER.iterdir())}
    parts = [part for part in WEB_PARTS if not detector or BLAZEFACE_FILE not in part.files.values()]
    content |= read_web_parts(parts, packages) | {model: file.path.read_bytes()}
    used_detector = {"name": BLAZEFACE, "file": BLAZEFACE_FILE}
    if detector:
        used_detector = {"name": OWN_DETECTOR, "file": OWN_DETECTOR_FILE}
        content[OWN_DETECTOR_FILE] = detector.read_bytes()
    index = content["index.html"].decode()
    content["_headers"] = _headers_file(security_headers(index)).encode()
    index = LOCAL_FILE.sub(lambda found: f'{found[0]} integrity="{integrity_of(content[found[1]])}"', index)
    content["index.html"] = index.encode()
    site = {
        "fer_edge": __version__,
        "model": model,
        "detector": used_detector,
        "packages": {part.package.name: part.package.version for part in parts},
        "record": _record_facts(file),
        "files": {path: integrity_of(data) for path, data in sorted(content.items())},
    }
    content[SITE_FILE] = json.dumps(site, indent=1).encode()
    precache = {
        "version": hashlib.sha256(content[SITE_FILE]).hexdigest()[:16],
        "files": ["./", *sorted(set(content) - NOT_PRECACHED)],
        "builds": BUILDS,
    }
    content["precache.js"] = f"self.PRECACHE = {json.dumps(precache, indent=1)};\n".encode()
    return content


def _record_facts(file: ModelFile) -> dict[str, Any]:
    """Return the fields of a latency record that describe the model."""
    contract, data = file.contract, file.path.read_bytes()
    return {
        "file": file.path.name,
        "file_bytes": len(data),
        "compressed_bytes": len(zlib.compress(data, 9)),
        "sha256": hashlib.sha256(data).hexdigest(),
        "network": contract.architecture,
        "precision": contract.precision,
        "data": contract.data,
        "protocol": contract.split.protocol,
        "leaky": contract.split.leakage.leaky,
        "parameters": contract.parameters,
        "source_digest": contract.source_digest,
        "conversion": None,
    }


def _headers_file(headers: dict[str, str]) -> str:
    """Return the headers in the format that Netlify and Cloudflare Pages read."""
    return "/*\n" + "".join(f"  {name}: {value}\n" for name, value in headers.items())


def integrity_of(data: bytes) -> str:
    """Return the sha256 of a file as an integrity attribute has it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(data).digest()).decode()


def _compress(folder: Path, content: dict[str, bytes], reporter: Reporter) -> bool:
    """Write a brotli copy of each file, if node is installed. Python's standard library has no brotli."""
    node = shutil.which("node")
    if node is None:
        reporter.warn("node is not installed, so the files are not compressed: a visitor downloads 10 MB instead of 3 MB")
        return False
    cache = user_cache_folder() / "brotli"
    copies = {path: folder / (path + COMPRESSED_SUFFIX) for path in content if not path.endswith(UNCOMPRESSED)}
    large = [path for path in copies if len(content[path]) >= MIN_CACHED_BYTES]
    cached = {path: cache / hashlib.sha256(content[path]).hexdigest() for path in large}
    new = [path for path in copies if path not in cached or not cached[path].is_file()]
    jobs = [(str(folder / path), str(copies[path])) for path in new]
    done = subprocess.run([node, "-e", COMPRESS], input=json.dumps(jobs), capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise OSError(f"node cannot compress the files of the page ({reason}). Update Node.js to version 18 or later")
    for path, kept in cached.items():
        if copies[path].is_file():
            atomic_write(kept, copies[path].read_bytes())
        else:
            copies[path].write_bytes(kept.read_bytes())
    return True


def _summary(out: Path, content: dict[str, bytes], compressed: bool) -> ExportedPage:
    def transferred(path: str) -> int:
        copy = out / (path + COMPRESSED_SUFFIX)
        return copy.stat().st_size if copy.is_file() else len(content[path])

    visited = (set(content) - NOT_PRECACHED) | set(BUILDS["relaxed"]) | {"sw.js", "precache.js"}
    return ExportedPage(
        folder=out,
        files=len(content),
        total_bytes=sum(map(len, content.values())),
        transfer_bytes=sum(map(transferred, visited)),
        compressed=compressed,
    )
