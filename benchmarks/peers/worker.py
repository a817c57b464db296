"""Runs one Python package in its own environment, which has numpy but not fer-edge: ``python worker.py JOB.json``.

JOB.json names the module of the adapter and its arguments, the .npy files of gray images and the file of results. An adapter
has ``LABELS``, ``PACKAGES``, ``load(*arguments)`` and what load returns: ``model_file``, ``classify(face)``,
``analyze(image)``.
"""

import importlib
import importlib.metadata
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

WARMUP = 3  # images


def main(job_file: str) -> None:
    """Run the job and write its results.

    Raises:
        OSError: If a file cannot be read or written.
    """
    job = json.loads(Path(job_file).read_text())
    start = time.process_time_ns()
    adapter = importlib.import_module(job["adapter"])
    imported = time.process_time_ns()
    peer = adapter.load(*job["arguments"])
    results: dict[str, Any] = {
        "labels": adapter.LABELS,
        "versions": {name: importlib.metadata.version(name) for name in adapter.PACKAGES},
        "import_s": (imported - start) / 1e9,
        "load_s": (time.process_time_ns() - imported) / 1e9,
        "model_bytes": Path(peer.model_file).stat().st_size,
        "faces": {name: timed(peer.classify, np.load(file)) for name, file in job["faces"].items()},
        "images": {name: timed(peer.analyze, np.load(file)) for name, file in job["images"].items()},
    }
    Path(job["results"]).write_text(json.dumps(results))


def timed(call: Any, images: Any) -> dict[str, Any]:
    """Call a function with each image after a warm-up.

    Args:
        call: ``classify`` or ``analyze`` of an adapter.
        images: uint8 array (n, height, width), gray.

    Returns:
        ``outputs`` per image, ``cpu_ms`` and ``elapsed_ms``: CPU time of all threads, and elapsed time, per image.
    """
    for image in images[:WARMUP]:
        call(image)
    outputs, cpu_ms, elapsed_ms = [], [], []
    for image in images:
        cpu, elapsed = time.process_time_ns(), time.perf_counter_ns()
        output = call(image)
        cpu_ms.append(round((time.process_time_ns() - cpu) / 1e6, 4))
        elapsed_ms.append(round((time.perf_counter_ns() - elapsed) / 1e6, 4))
        outputs.append(plain(output))
    return {"outputs": outputs, "cpu_ms": cpu_ms, "elapsed_ms": elapsed_ms}


def plain(value: Any) -> Any:
    """Return scores, or pairs of a box and its scores, as lists of numbers."""
    return [plain(entry) for entry in value] if hasattr(value, "__len__") else float(value)


if __name__ == "__main__":
    main(sys.argv[1])
