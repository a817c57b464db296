"""Records of latency: one immutable JSON line per file, board and number of threads. Statistics are derived, never stored."""

from dataclasses import dataclass
from pathlib import Path

from fer_edge.artifacts.typed_json import read_json_lines

STAGES = ("invoke",)


@dataclass(frozen=True)
class LatencyProtocol:
    """How a latency is measured.

    Attributes:
        warmup_runs: Runs that are not counted.
        min_runs: Minimum number of counted runs.
        min_seconds: Minimum counted time, seconds.
        stage: What one run is, one of STAGES; stages are never mixed.

    Raises:
        ValueError: If a number is out of range or the stage is unknown.
    """

    warmup_runs: int = 10
    min_runs: int = 50
    min_seconds: float = 2.0
    stage: str = "invoke"

    def __post_init__(self) -> None:
        if self.min_runs < 1 or self.warmup_runs < 0 or self.min_seconds < 0:
            raise ValueError(f"a protocol needs at least 1 counted run and no negative numbers. Received: {self}")
        if self.stage not in STAGES:
            raise ValueError(f"unknown stage '{self.stage}'; choose one of: {', '.join(STAGES)}")


@dataclass(frozen=True)
class Environment:
    """Where a measurement was made. None is what could not be read.

    Attributes:
        board: Board name from the device tree.
        cpu: CPU name.
        integer_dot_product: Best int8 dot-product instruction set of the CPU; it determines how fast int8 is.
        machine: Architecture, as ``uname -m`` prints it.
        cores: Number of cores.
        os: Name of the operating system.
        kernel: Kernel release.
        python: Python version.
        runtimes: Version per installed TFLite runtime.
        governor: CPU frequency governor.
    """

    board: str | None
    cpu: str | None
    machine: str
    cores: int | None
    os: str | None
    kernel: str
    python: str
    runtimes: dict[str, str]
    governor: str | None
    integer_dot_product: str | None = None

    @property
    def title(self) -> str:
        """Board or CPU for tables, with its integer dot product."""
        name = self.board or self.cpu or self.machine
        return f"{name} ({self.integer_dot_product})" if self.integer_dot_product else name


@dataclass(frozen=True)
class MachineState:
    """What can change during a measurement. None is what could not be read.

    Attributes:
        temperature_c: Temperature of the CPU, degrees Celsius.
        throttle_bits: Throttling flags of the Raspberry Pi firmware, hexadecimal.
        load_1min: Load average over one minute.
    """

    temperature_c: float | None
    throttle_bits: str | None
    load_1min: float


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
    """

    accuracy_before: float
    accuracy_after: float
    agreement: float
    worst_recall_change: float | None
    conversion_s: float | None
    rejected: bool | None = None


@dataclass(frozen=True)
class MeasuredAccuracy:
    """Accuracy of the same file, measured in the same benchmark.

    Attributes:
        data: Name of the dataset.
        protocol: How the dataset was divided.
        split: Which split was measured.
        count: Number of faces.
        warning: What inflates the figure; None where nothing is known to.
        accuracy: Fraction of faces with the right label, 0..1.
        macro_f1: Mean F1 over the classes, 0..1.
    """

    data: str
    protocol: str
    split: str
    count: int
    warning: str | None
    accuracy: float
    macro_f1: float


@dataclass(frozen=True)
class LatencyRecord:
    """One measurement of one file.

    Attributes:
        file: Name of the file.
        file_bytes: Its size, bytes.
        compressed_bytes: Its size after zlib, level 9: what a download or an app package takes.
        network: Name of the network.
        precision: Its precision.
        data: Name of the training data.
        protocol: How the training data was divided.
        leaky: Whether that division inflates the metrics.
        parameters: Number of weights.
        source_digest: sha256 of the Keras model that the file was made from.
        conversion: What conversion cost; None if the contract does not say.
        num_threads: Threads of the interpreter.
        load_ms: From file to allocated tensors, milliseconds.
        first_inference_ms: The first inference, milliseconds.
        samples_ms: Each counted run in order, milliseconds.
        memory_before_bytes: Peak memory of the process before loading, bytes; None where unknown.
        peak_memory_bytes: Peak memory of the process, bytes; None where unknown.
        environment: Where it was measured.
        state_before: State of the machine before.
        state_after: State of the machine after.
        latency_protocol: How it was measured.
        measured_accuracy: Accuracy of the same file; None where it was not measured.
    """

    file: str
    file_bytes: int
    network: str
    precision: str
    data: str
    protocol: str
    leaky: bool
    parameters: int
    source_digest: str
    conversion: ConversionCost | None
    num_threads: int
    load_ms: float
    first_inference_ms: float
    samples_ms: tuple[float, ...]
    memory_before_bytes: int | None
    peak_memory_bytes: int | None
    environment: Environment
    state_before: MachineState
    state_after: MachineState
    latency_protocol: LatencyProtocol
    compressed_bytes: int | None = None
    measured_accuracy: MeasuredAccuracy | None = None


def read_latency_records(path: Path) -> list[LatencyRecord]:
    """Read a JSON-lines file of latency records.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a line is not a latency record. The error names the line.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no records at '{path}'. Make some: fer-edge bench MODEL... --record {path}")
    return read_json_lines(LatencyRecord, path)
