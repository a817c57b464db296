"""Records of latency: one immutable JSON line per file, board and number of threads. Statistics are derived, never stored."""

import json
from dataclasses import dataclass
from pathlib import Path

from fer_edge.artifacts.metrics import ClassificationMetrics, VoteMetrics
from fer_edge.artifacts.npu_summary import NpuSummary
from fer_edge.artifacts.typed_json import from_data

RECORD_VERSION = 2  # 1: no field record_version, and none of the fields that have a default
TIMED = ("invoke",)
STAGES = ("detect", "preprocess", "classify", "end_to_end")
# xnnpack: the default of the interpreter. no-xnnpack: its own kernels. compiled-model: LiteRT's newer API.
BACKENDS = ("xnnpack", "no-xnnpack", "compiled-model", "tflite-runtime")
WEB_BACKEND = "litert-js"  # of the web page's ?bench, which also copies the input and the output in each run


@dataclass(frozen=True)
class LatencyProtocol:
    """How a latency is measured.

    Attributes:
        warmup_runs: Runs that are not counted.
        min_runs: Minimum number of counted runs.
        min_seconds: Minimum counted time, seconds.
        stage: What one run is, one of TIMED; the stages of the pipeline are in StageSamples.

    Raises:
        ValueError: If a number is out of range or the stage is unknown.
    """

    warmup_runs: int = 10
    min_runs: int = 50
    min_seconds: float = 1.5
    stage: str = "invoke"

    def __post_init__(self) -> None:
        if self.min_runs < 1 or self.warmup_runs < 0 or self.min_seconds < 0:
            raise ValueError(f"a protocol needs at least 1 counted run and no negative numbers. Received: {self}")
        if self.stage not in TIMED:
            raise ValueError(f"unknown stage '{self.stage}'; choose one of: {', '.join(TIMED)}")


@dataclass(frozen=True)
class Environment:
    """Where a measurement was made. None is what could not be read.

    Attributes:
        board: Board name from the device tree; of a web page, the device and browser as the user typed them.
        cpu: CPU name.
        integer_dot_product: Best int8 dot-product instruction set of the CPU; it determines how fast int8 is.
        machine: Architecture, as ``uname -m`` prints it.
        cores: Number of cores.
        os: Name of the operating system.
        kernel: Kernel release.
        python: Python version; None in a browser.
        runtimes: Version per installed TFLite runtime.
        governor: CPU frequency governor.
        emulator: Name of the emulator that ran the measurement; None on a real machine. Emulated times are not latencies.
    """

    board: str | None
    cpu: str | None
    machine: str
    cores: int | None
    os: str | None
    kernel: str | None
    python: str | None
    runtimes: dict[str, str]
    governor: str | None
    integer_dot_product: str | None = None
    emulator: str | None = None

    @property
    def title(self) -> str:
        """Board or CPU for tables, with its integer dot product, marked if it is emulated."""
        name = self.board or self.cpu or self.machine
        details = [self.integer_dot_product, "emulated" if self.emulator else None]
        text = ", ".join(filter(None, details))
        return f"{name} ({text})" if text else name


@dataclass(frozen=True)
class MachineState:
    """What can change during a measurement. None is what could not be read.

    Attributes:
        temperature_c: Temperature of the CPU, degrees Celsius.
        throttle_bits: Throttling flags of the Raspberry Pi firmware, hexadecimal.
        load_1min: Load average over one minute; None in a browser.
        throttle_count: How often the CPU of a PC has lowered its frequency because of heat.
    """

    temperature_c: float | None
    throttle_bits: str | None
    load_1min: float | None
    throttle_count: int | None = None


@dataclass(frozen=True)
class ConversionCost:
    """What conversion cost, copied from the contract. None marks unknown values.

    Attributes:
        accuracy_before: Accuracy of the Keras model on the held-out faces of the run, 0..1.
        accuracy_after: Accuracy of the file on them, 0..1.
        agreement: Fraction of them with the Keras model's label, 0..1.
        worst_recall_change: Most negative change of a class's recall, -1..1.
        conversion_s: Time of the quantizer, seconds.
        rejected: Whether the gate rejected the file.
        faces: Number of these faces; None in an earlier record.
    """

    accuracy_before: float
    accuracy_after: float
    agreement: float
    worst_recall_change: float | None
    conversion_s: float | None
    rejected: bool | None = None
    faces: int | None = None


@dataclass(frozen=True)
class MeasuredAccuracy:
    """Accuracy of the same file, measured in the same benchmark. The fields with a default are None in an earlier record.

    Attributes:
        data: Name of the dataset.
        protocol: How the dataset was divided.
        split: Which split was measured.
        count: Number of faces.
        warning: What inflates the figure; None where nothing is known to.
        accuracy: Fraction of faces with the right label, 0..1.
        macro_f1: Mean F1 over the classes, 0..1.
        metrics: All metrics, with recall per class and the confusion matrix.
        votes: Agreement with the annotators; None also where the faces have no votes.
        correct: One character per face, in the order of the dataset: 1 where the label is right, otherwise 0.
        faces_digest: sha256 over the ids of these faces. Only records with the same digest can be compared face by face.
    """

    data: str
    protocol: str
    split: str
    count: int
    warning: str | None
    accuracy: float
    macro_f1: float
    metrics: ClassificationMetrics | None = None
    votes: VoteMetrics | None = None
    correct: str | None = None
    faces_digest: str | None = None


@dataclass(frozen=True)
class StageSamples:
    """Times of the stages of the pipeline, on one frame with one face.

    Attributes:
        samples_ms: Each counted run in order, milliseconds, by stage (STAGES). ``detect``: from the frame to the box.
            ``preprocess``: crop and resize. ``classify``: from the crop to the probabilities. ``end_to_end``: all three.
            Stages that could not run are missing, such as ``detect`` without a detector.
        detector: Name of the detector; None without one.
        frame_px: Width and height of the frame, pixels.
    """

    samples_ms: dict[str, tuple[float, ...]]
    detector: str | None
    frame_px: tuple[int, int]


@dataclass(frozen=True)
class Energy:
    """Energy of the board or CPU package during the counted runs, idle power included.

    Attributes:
        sensor: Name of the sensor.
        joules: Energy, joules.
        seconds: Time, seconds.
        runs: Number of inferences in that time.
    """

    sensor: str
    joules: float
    seconds: float
    runs: int


@dataclass(frozen=True)
class LatencyRecord:
    """One measurement of one file. Values that were not measured, or that an earlier version did not record, are None.

    Attributes:
        file: Name of the file.
        file_bytes: Its size, bytes.
        network: Name of the network; of a file without a contract, its file name without suffix.
        precision: Its precision; of a file without a contract, from the types of its tensors.
        data: Name of the training data; None without a contract.
        protocol: How the training data was divided; None likewise.
        leaky: Whether that division inflates the metrics.
        parameters: Number of weights; None likewise.
        source_digest: sha256 of the Keras model that the file was made from; None likewise.
        conversion: What conversion cost; None if the contract does not say.
        num_threads: Threads of the interpreter.
        load_ms: From file to allocated tensors, milliseconds.
        first_inference_ms: The first inference, milliseconds.
        samples_ms: Each counted run in order, milliseconds; empty if the file could not run, or an emulator ran it.
        memory_before_bytes: Peak memory of the process before loading, bytes.
        peak_memory_bytes: Peak memory of the process, bytes, before the other stages run.
        environment: Where it was measured.
        state_before: State of the machine before.
        state_after: State of the machine after.
        latency_protocol: How it was measured.
        compressed_bytes: Its size after zlib, level 9: what a download or an app package takes.
        measured_accuracy: Accuracy of the same file.
        problem: Why the file could not run, or its accuracy could not be measured; None if there was no problem.
        backend: Which of BACKENDS ran it, or WEB_BACKEND.
        arena_bytes: Memory that the interpreter plans for activations, bytes, without XNNPACK.
        stages: Times of the stages of the pipeline.
        energy: Energy of the counted runs.
        busy: Why the samples are unreliable, such as load of other processes or throttling; empty if nothing was found.
        sha256: Digest of the file.
        instructions: Executed instructions per inference, counted by the emulator.
        npu: How the file was compiled for an NPU, which no machine of fer-edge has; None for a file for CPUs.
        record_version: Version of this format.

    Raises:
        ValueError: If the backend is unknown, if there are neither samples nor a problem, or if an emulator was timed.
    """

    file: str
    file_bytes: int
    network: str
    precision: str | None
    data: str | None
    protocol: str | None
    leaky: bool
    parameters: int | None
    source_digest: str | None
    conversion: ConversionCost | None
    num_threads: int
    load_ms: float | None
    first_inference_ms: float | None
    samples_ms: tuple[float, ...]
    memory_before_bytes: int | None
    peak_memory_bytes: int | None
    environment: Environment
    state_before: MachineState
    state_after: MachineState
    latency_protocol: LatencyProtocol
    compressed_bytes: int | None = None
    measured_accuracy: MeasuredAccuracy | None = None
    problem: str | None = None
    backend: str = "xnnpack"
    arena_bytes: int | None = None
    stages: StageSamples | None = None
    energy: Energy | None = None
    busy: tuple[str, ...] | None = None
    sha256: str | None = None
    instructions: int | None = None
    npu: NpuSummary | None = None
    record_version: int = 1

    def __post_init__(self) -> None:
        if self.backend not in (*BACKENDS, WEB_BACKEND):
            raise ValueError(f"unknown backend '{self.backend}'; choose one of: {', '.join((*BACKENDS, WEB_BACKEND))}")
        times = (self.load_ms, self.first_inference_ms, self.stages, self.energy)
        if self.environment.emulator and (self.samples_ms or any(time is not None for time in times)):
            raise ValueError(f"times of an emulator ({self.environment.emulator}) are not latencies; the record must have none")
        if not (self.samples_ms or self.problem or self.environment.emulator):
            raise ValueError("a record needs samples, or the problem that prevented them")


def read_latency_records(path: Path) -> list[LatencyRecord]:
    """Read a JSON-lines file of latency records.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it has no records, or a line is not a latency record of this or an earlier version. The error names
            the line.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no records at '{path}'. Make some: fer-edge bench MODEL... --record {path}")
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        try:
            records.append(_read_record(json.loads(line)))
        except ValueError as error:  # json.JSONDecodeError is one
            truncated = isinstance(error, json.JSONDecodeError)
            remedy = ". The line is truncated or damaged: delete it, or measure again" if truncated else ""
            raise ValueError(f"line {number} of {path} is not a LatencyRecord ({error}){remedy}") from error
    if not records:
        raise ValueError(f"{path} has no records. Make some: fer-edge bench MODEL... --record {path}")
    return records


def _read_record(data: object) -> LatencyRecord:
    version = data.get("record_version", 1) if isinstance(data, dict) else 1
    if version not in range(1, RECORD_VERSION + 1):
        raise ValueError(
            f"it has version {str(version)[:20]}, this fer-edge reads 1 to {RECORD_VERSION}. Install the fer-edge that wrote it"
        )
    return from_data(LatencyRecord, data)
