"""Measure one .tflite file in its own process: load time, latency, memory, stages, energy."""

import hashlib
import json
import re
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from fer_edge.artifacts.contract import CONTRACT_FILE, TFLITE_IDENTIFIER, Contract, CropConvention, ModelError, read_contract
from fer_edge.artifacts.latency_records import RECORD_VERSION, ConversionCost, LatencyProtocol, LatencyRecord, StageSamples
from fer_edge.artifacts.model_file import read_model_file
from fer_edge.artifacts.typed_json import from_data, to_data
from fer_edge.benchmarks.backends import Array, Runner, TensorInfo, import_backend, open_runner, plan_of
from fer_edge.benchmarks.energy import measure_energy
from fer_edge.benchmarks.environment import busy_reasons, describe_environment, read_state
from fer_edge.benchmarks.foreign_model import image_size, resize_face
from fer_edge.benchmarks.instructions import count_instructions
from fer_edge.benchmarks.stages import time_stages
from fer_edge.benchmarks.timing import time_runs
from fer_edge.edge_runtime.crop import preprocess_face, to_rgb
from fer_edge.edge_runtime.images import Image

STATUS = Path("/proc/self/status")
CHILD_SECONDS = 600
# Not -m: with it, a module in the current folder could take the place of one that is imported.
CHILD = (
    "import sys; sys.path[:] = [path for path in sys.path if path]; "
    "from fer_edge.benchmarks.measure import main; main(sys.argv[1:])"
)
ZIPPED_CONTRACT = re.compile(rb"PK\x03\x04.{26}" + re.escape(CONTRACT_FILE.encode()), re.DOTALL)  # the head of a zip member
REASON = "it cannot run: "  # the line of the measuring process; libraries write others, also at its end
FORMATS = {".onnx": "an ONNX file", ".keras": "a Keras file", ".h5": "a Keras file", ".pt": "a PyTorch file"}


def measure_model(
    model: str | Path,
    num_threads: int,
    protocol: LatencyProtocol | None = None,
    backend: str = "xnnpack",
    detector: str = "auto",
) -> LatencyRecord:
    """Measure a model in a new process, so that memory and load time are those of this model alone.

    Args:
        model: A .tflite file.
        num_threads: Threads of the interpreter.
        protocol: How to measure. Default: LatencyProtocol().
        backend: One of BACKENDS.
        detector: Finds the face in the stage ``detect``; see open_detector.

    Returns:
        The record, with the raw samples. If the file cannot be run, ``problem`` says why, and there are no samples.
    """
    rules = protocol or LatencyProtocol()
    npu = _npu_target(Path(model))
    if npu:
        problem = f"its latency was not measured: only a device with {npu} can run it"
        return failed_record(Path(model), num_threads, rules, backend, problem)
    arguments = (str(model), str(num_threads), json.dumps(to_data(rules)), backend, detector)
    command = [sys.executable, "-c", CHILD, *arguments]
    try:
        child = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=CHILD_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        problem = f"measuring it took more than {CHILD_SECONDS} s. Lower --min-runs and --min-seconds"
    else:
        if not child.returncode:
            return from_data(LatencyRecord, json.loads(child.stdout.splitlines()[-1]))
        lines = child.stderr.strip().splitlines() or ["no reason given"]
        problem = next((line for line in lines if line.startswith(REASON)), lines[-1])
        if child.returncode < 0:
            problem = f"it ends the process that runs it ({signal.Signals(-child.returncode).name})"
    return failed_record(Path(model), num_threads, rules, backend, problem)


def _npu_target(model: Path) -> str | None:
    """Return the NPU that a file was compiled for, None for a file for CPUs and for a file that cannot be read."""
    try:
        contract = _contract(model)
    except (ModelError, OSError):  # the measuring process reports it
        return None
    return contract.npu.target if contract and contract.npu else None


def failed_record(model: Path, num_threads: int, protocol: LatencyProtocol, backend: str, problem: str) -> LatencyRecord:
    """Return the record of a file that could not be run.

    Args:
        model: The file.
        num_threads: Threads of the interpreter.
        protocol: How it should have been measured.
        backend: One of BACKENDS.
        problem: The reason.
    """
    try:
        contract = _contract(model)
    except ModelError:
        contract = None
    return LatencyRecord(
        **_facts(model, contract, None),
        num_threads=num_threads,
        backend=backend,
        load_ms=None,
        first_inference_ms=None,
        samples_ms=(),
        memory_before_bytes=None,
        peak_memory_bytes=None,
        environment=describe_environment(),
        state_before=read_state(),
        state_after=read_state(),
        latency_protocol=protocol,
        problem=problem,
        record_version=RECORD_VERSION,
    )


def measure_here(
    model: Path, num_threads: int, protocol: LatencyProtocol, backend: str = "xnnpack", detector: str = "auto"
) -> LatencyRecord:
    """Measure a model in this process, which should be new.

    Args:
        model: A .tflite file.
        num_threads: Threads of the interpreter.
        protocol: How to measure.
        backend: One of BACKENDS.
        detector: Finds the face in the stage ``detect``.

    Returns:
        The record, with the raw samples.
    """
    import_backend(backend)
    state_before, memory_before, environment = read_state(), _peak_memory_bytes(), describe_environment()
    start = time.perf_counter_ns()
    contract, flatbuffer = read_model(model)
    runner = open_runner(flatbuffer, num_threads, backend)
    load_ms = (time.perf_counter_ns() - start) / 1e6
    start = time.perf_counter_ns()
    runner.write(random_inputs(runner.inputs))
    runner.invoke()
    runner.read()
    first_ms = (time.perf_counter_ns() - start) / 1e6
    measured: dict[str, Any] = {"load_ms": load_ms, "first_inference_ms": first_ms}
    if environment.emulator:  # its times are not latencies
        measured = {"load_ms": None, "first_inference_ms": None, "samples_ms": ()}
        measured["instructions"] = count_instructions(runner.invoke)
    else:
        limits = (protocol.warmup_runs, protocol.min_runs, protocol.min_seconds)
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        samples = time_runs(runner.invoke, *limits, time.perf_counter_ns)
        cpu_share = (time.process_time() - cpu_s) / (time.perf_counter() - wall_s)
        measured["samples_ms"] = tuple(round(sample, 4) for sample in samples)  # to 0.1 microseconds
        measured["busy"] = busy_reasons(samples, cpu_share, (state_before, read_state()), environment.cores)
    measured["peak_memory_bytes"], state_after = _peak_memory_bytes(), read_state()
    if environment.emulator:  # the memory is that of the emulator
        measured["peak_memory_bytes"] = memory_before = None
    else:
        measured["energy"], measured["stages"] = measure_energy(runner.invoke), _stages(runner, contract, detector)
    arena_bytes, weights = plan_of(flatbuffer)
    return LatencyRecord(
        **_facts(model, contract, weights),
        **measured,
        num_threads=num_threads,
        backend=backend,
        memory_before_bytes=memory_before,
        arena_bytes=arena_bytes,
        environment=environment,
        state_before=state_before,
        state_after=state_after,
        latency_protocol=protocol,
        record_version=RECORD_VERSION,
    )


def random_inputs(inputs: tuple[TensorInfo, ...]) -> list[Array]:
    """Return random values for float and 8-bit inputs, and zeros for others: these can be indices.

    Args:
        inputs: The inputs of a model.
    """
    rng = np.random.default_rng(0)
    arrays: list[Array] = []
    for shape, dtype, scale, _ in inputs:
        if dtype.kind == "f":
            arrays.append((rng.random(shape) * 255).astype(dtype))
        elif dtype.itemsize == 1 and (scale or dtype == np.uint8):
            arrays.append(rng.integers(0, 256, shape).astype(np.uint8).view(dtype))
        else:
            arrays.append(np.zeros(shape, dtype))
    return arrays


def read_model(model: Path) -> tuple[Contract | None, bytes]:
    """Return the contract, None for a file of another tool, and the flatbuffer. Files of fer-edge are checked.

    Raises:
        ModelError: If it is not a .tflite file, or it is damaged.
    """
    content = model.read_bytes()
    if content[4:8] != TFLITE_IDENTIFIER:
        kind = FORMATS.get(model.suffix.lower(), f"not a .tflite file (its first bytes are {content[:8]!r})")
        raise ModelError(f"{kind}; bench runs .tflite files. Convert it first")
    if _contract(model) is None:
        return None, content
    file = read_model_file(model)
    return file.contract, file.flatbuffer


def _contract(model: Path) -> Contract | None:
    """Return the contract inside a file, None if it has none.

    Raises:
        ModelError: If it has a contract that cannot be used.
    """
    return read_contract(model) if ZIPPED_CONTRACT.search(model.read_bytes()) else None


def _facts(model: Path, contract: Contract | None, weights: str | None) -> dict[str, Any]:
    """Return the fields of a record that describe the file. ``weights`` is the type of most of its weights."""
    content = model.read_bytes()
    file = {
        "file": model.name,
        "file_bytes": len(content),
        "compressed_bytes": len(zlib.compress(content, 9)),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    if contract is None:
        unknown = dict.fromkeys(("data", "protocol", "parameters", "source_digest", "conversion"))
        return {**file, **unknown, "network": model.stem, "precision": weights, "leaky": False}
    return {
        **file,
        "network": contract.architecture,
        "precision": contract.precision,
        "data": contract.data,
        "protocol": contract.split.protocol,
        "leaky": contract.split.leakage.leaky,
        "parameters": contract.parameters,
        "source_digest": contract.source_digest,
        "conversion": None if contract.npu else _conversion_cost(contract),
        "npu": contract.npu,
    }


def _stages(runner: Runner, contract: Contract | None, detector: str) -> StageSamples | None:
    """Time the stages, if the model takes one image."""
    size = image_size(runner.inputs)
    if size is None:
        return None
    (info,) = runner.inputs
    crop = contract.crop if contract else CropConvention()

    def preprocess(face: Image) -> Image:
        if contract:
            return to_rgb(preprocess_face(face, contract.image_size, crop.training_resolution_px))
        return resize_face(face, size)

    def classify(face: Image) -> list[Array]:
        runner.write([face.astype(info.dtype).reshape(info.shape)])
        runner.invoke()
        return runner.read()

    return time_stages(detector, crop, preprocess, classify)


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


def main(arguments: list[str]) -> None:
    """Measure a file and print its record. The entry point of the measuring process.

    Args:
        arguments: File, number of threads, protocol as JSON, backend and detector.
    """
    model, num_threads, rules, backend, detector = arguments
    protocol = from_data(LatencyProtocol, json.loads(rules))
    try:
        record = measure_here(Path(model), int(num_threads), protocol, backend, detector)
    except (ValueError, RuntimeError, ImportError, OSError, MemoryError) as error:
        sys.exit(f"{REASON}{(str(error) or type(error).__name__).strip().splitlines()[0]}")
    print(json.dumps(to_data(record)))
