"""Measure one .tflite file in a process of its own: load time, first inference, latency, peak memory."""

import json
import subprocess
import sys
import time
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from fer_edge.artifacts.contract import Contract, ModelError, check_tflite, read_contract
from fer_edge.benchmarks.environment import describe_environment, read_state
from fer_edge.benchmarks.protocol import Protocol, time_runs
from fer_edge.edge_runtime.classify import Classifier
from fer_edge.edge_runtime.interpreter import find_interpreter

STATUS = Path("/proc/self/status")
CHILD_SECONDS = 600


def measure_model(model: str | Path, num_threads: int, protocol: Protocol | None = None) -> dict[str, Any]:
    """Measure a model in a fresh process, so that nothing else is in its memory and its load is a first one.

    Args:
        model: A .tflite file of fer-edge.
        num_threads: Threads of the interpreter.
        protocol: The rules.

    Returns:
        One record: the file and what it is, the board, the protocol, and the raw samples. See measure_here.

    Raises:
        FileNotFoundError: If there is no such file.
        ModelError: If the model cannot be loaded.
        RuntimeError: If the measuring process fails.
    """
    check_tflite(model)
    read_contract(model)
    rules = protocol or Protocol()
    command = [sys.executable, "-m", "fer_edge.benchmarks.measure", str(model), str(num_threads), json.dumps(asdict(rules))]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=CHILD_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"measuring {model} took more than {CHILD_SECONDS} s. Lower --min-runs and --min-seconds") from error
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        kind = ModelError if "ModelError" in reason else RuntimeError
        raise kind(f"measuring {model} failed: {reason}")
    record: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return record


def measure_here(model: str | Path, num_threads: int, protocol: Protocol) -> dict[str, Any]:
    """Measure a model in this process, which should be fresh.

    Returns:
        A record: ``samples_ms`` (raw, in order), ``load_ms`` (file to allocated tensors), ``first_inference_ms``,
        ``peak_memory_bytes`` and ``memory_before_bytes`` (of the process; None where the system does not say),
        ``file_bytes`` and ``compressed_bytes`` (zlib, level 9), the contract's facts, what ``conversion`` cost,
        ``environment``, ``state_before``, ``state_after``, ``protocol``.
    """
    find_interpreter()  # its own import does not count as loading the model
    state_before = read_state()
    memory_before = _memory("VmHWM")
    started = time.perf_counter_ns()
    classifier = Classifier(model, num_threads)
    load_ms = (time.perf_counter_ns() - started) / 1e6
    size = classifier.contract.image_size
    face = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
    started = time.perf_counter_ns()
    classifier.probabilities(face)
    first_ms = (time.perf_counter_ns() - started) / 1e6
    samples = time_runs(
        classifier.interpreter.invoke,
        protocol.warmup_runs,
        protocol.min_runs,
        protocol.min_seconds,
        time.perf_counter_ns,
    )
    contract = classifier.contract
    return {
        "file": Path(model).name,
        "file_bytes": Path(model).stat().st_size,
        "compressed_bytes": len(zlib.compress(Path(model).read_bytes(), 9)),
        "architecture": contract.architecture,
        "precision": contract.precision,
        "data": contract.data,
        "split": contract.split["name"],
        "leaky": contract.split["leakage"]["leaky"],
        "parameters": contract.parameters,
        "source_digest": contract.source_digest,
        "conversion": _conversion(contract),
        "num_threads": num_threads,
        "load_ms": load_ms,
        "first_inference_ms": first_ms,
        "samples_ms": [round(sample, 4) for sample in samples],  # to 0.1 microseconds
        "memory_before_bytes": memory_before,
        "peak_memory_bytes": _memory("VmHWM"),
        "environment": describe_environment(),
        "state_before": state_before,
        "state_after": read_state(),
        "protocol": asdict(protocol),
    }


def _conversion(contract: Contract) -> dict[str, Any]:
    """Return what the contract says that conversion cost."""
    metrics = contract.metrics
    recalls = [(metrics["recall_before"][label], after) for label, after in metrics["recall_after"].items()]
    return {
        "accuracy_before": metrics["accuracy_before"],
        "accuracy_after": metrics["accuracy_after"],
        "agreement": metrics["agreement"],
        "worst_recall_change": min((after - before for before, after in recalls if after is not None), default=None),
        "conversion_s": contract.quantization.get("conversion_s"),
        "refused": bool(metrics["gate"]["problems"]) if "gate" in metrics else None,
    }


def _memory(field: str) -> int | None:
    """Return a memory figure of this process in bytes. VmHWM is the peak, and unlike getrusage's it starts at exec."""
    if not STATUS.is_file():
        return None
    for line in STATUS.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return None


if __name__ == "__main__":
    print(json.dumps(measure_here(sys.argv[1], int(sys.argv[2]), Protocol(**json.loads(sys.argv[3])))))
