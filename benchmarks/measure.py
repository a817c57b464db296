"""Measure one .tflite file in its own process: load time, first inference, latency, peak memory."""

import json
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np

from fer_edge.artifacts.contract import Contract, ModelError
from fer_edge.artifacts.latency_records import ConversionCost, LatencyProtocol, LatencyRecord
from fer_edge.artifacts.model_file import read_model_file
from fer_edge.artifacts.typed_json import from_data, to_data
from fer_edge.benchmarks.environment import describe_environment, read_state
from fer_edge.benchmarks.timing import time_runs
from fer_edge.edge_runtime.interpreter import find_interpreter, open_interpreter
from fer_edge.edge_runtime.trial_load import try_loading

STATUS = Path("/proc/self/status")
CHILD_SECONDS = 600


def measure_model(model: str | Path, num_threads: int, protocol: LatencyProtocol | None = None) -> LatencyRecord:
    """Measure a model in a new process, so that memory and load time are those of this model alone.

    Args:
        model: A .tflite file of fer-edge.
        num_threads: Threads of the interpreter.
        protocol: How to measure. Default: LatencyProtocol().

    Returns:
        The record, with the raw samples.

    Raises:
        FileNotFoundError: If there is no such file.
        ModelError: If the model cannot be loaded.
        RuntimeError: If the measuring process fails.
    """
    try_loading(read_model_file(model))
    rules = json.dumps(to_data(protocol or LatencyProtocol()))
    command = [sys.executable, "-m", "fer_edge.benchmarks.measure", str(model), str(num_threads), rules]
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=CHILD_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"measuring {model} took more than {CHILD_SECONDS} s. Lower --min-runs and --min-seconds") from error
    if child.returncode:
        reason = (child.stderr.strip().splitlines() or ["no reason given"])[-1]
        kind = ModelError if "ModelError" in reason else RuntimeError
        raise kind(f"measuring {model} failed: {reason}")
    return from_data(LatencyRecord, json.loads(child.stdout.splitlines()[-1]))


def measure_here(model: str | Path, num_threads: int, protocol: LatencyProtocol) -> LatencyRecord:
    """Measure a model in this process, which should be new.

    Args:
        model: A .tflite file of fer-edge.
        num_threads: Threads of the interpreter.
        protocol: How to measure.

    Returns:
        The record, with the raw samples.
    """
    find_interpreter()  # importing the interpreter is not part of loading the model
    state_before = read_state()
    memory_before = _peak_memory_bytes()
    start = time.perf_counter_ns()
    file = read_model_file(model)
    interpreter = open_interpreter(file.path, num_threads, file.flatbuffer)  # a Classifier would run the first inference
    load_ms = (time.perf_counter_ns() - start) / 1e6
    contract = file.contract
    (inputs,), (outputs,) = interpreter.get_input_details(), interpreter.get_output_details()
    face = np.random.default_rng(0).integers(0, 256, inputs["shape"], np.uint8).astype(inputs["dtype"])
    start = time.perf_counter_ns()
    interpreter.set_tensor(inputs["index"], face)
    interpreter.invoke()
    interpreter.get_tensor(outputs["index"])
    first_ms = (time.perf_counter_ns() - start) / 1e6
    limits = (protocol.warmup_runs, protocol.min_runs, protocol.min_seconds)
    samples = time_runs(interpreter.invoke, *limits, time.perf_counter_ns)
    content = Path(model).read_bytes()
    return LatencyRecord(
        file=Path(model).name,
        file_bytes=len(content),
        compressed_bytes=len(zlib.compress(content, 9)),
        network=contract.architecture,
        precision=contract.precision,
        data=contract.data,
        protocol=contract.split.protocol,
        leaky=contract.split.leakage.leaky,
        parameters=contract.parameters,
        source_digest=contract.source_digest,
        conversion=_conversion_cost(contract),
        num_threads=num_threads,
        load_ms=load_ms,
        first_inference_ms=first_ms,
        samples_ms=tuple(round(sample, 4) for sample in samples),  # to 0.1 microseconds
        memory_before_bytes=memory_before,
        peak_memory_bytes=_peak_memory_bytes(),
        environment=describe_environment(),
        state_before=state_before,
        state_after=read_state(),
        latency_protocol=protocol,
    )


def _conversion_cost(contract: Contract) -> ConversionCost | None:
    metrics = contract.metrics
    if metrics is None:
        return None
    return ConversionCost(
        accuracy_before=metrics.before.accuracy,
        accuracy_after=metrics.after.accuracy,
        agreement=metrics.agreement,
        worst_recall_change=metrics.worst_recall_change(),
        conversion_s=contract.quantization.conversion_s,
        rejected=None if metrics.gate is None else bool(metrics.gate.issues),
        faces=metrics.faces,
    )


def _peak_memory_bytes() -> int | None:
    """Return the peak memory of this process. Unlike the value of getrusage, VmHWM starts at exec."""
    if not STATUS.is_file():
        return None
    for line in STATUS.read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


if __name__ == "__main__":
    rules = from_data(LatencyProtocol, json.loads(sys.argv[3]))
    print(json.dumps(to_data(measure_here(sys.argv[1], int(sys.argv[2]), rules))))
