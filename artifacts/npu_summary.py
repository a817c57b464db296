"""What compiling a model for an NPU did, stored in the contract of the compiled file."""

from dataclasses import dataclass, field

from fer_edge.artifacts.conversion import ConversionMetrics


@dataclass(frozen=True)
class NpuSummary:
    """A compilation for an NPU. Its latency is never part of it: no NPU was measured.

    Attributes:
        target: The target, such as ``qualcomm:SM8750``.
        compiler: Names and versions of the compiler's packages.
        npu_operators: Number of operators of the model that the NPU runs.
        cpu_operators: Number of the others by name.
        partitions: Number of parts of the graph that the NPU runs; 1 is best.
        memory_kib: Memory that the compiler reports, KiB, by name, such as ``SRAM``.
        capacity_kib: Memory of the chip that the compiler compares with, KiB; None if it does not.
        estimated_ms: Time of the part on the NPU as the compiler estimates it, milliseconds; None without an estimate.
        simulated: The compiled file in the vendor's simulator (``after``) against the file for the CPU (``before``); None where
            there is no simulator or no faces.
        simulator: Name of the simulator; None if it was not run.
    """

    target: str
    compiler: str
    npu_operators: int
    cpu_operators: dict[str, int]
    partitions: int
    memory_kib: dict[str, float] = field(default_factory=dict)
    capacity_kib: float | None = None
    estimated_ms: float | None = None
    simulated: ConversionMetrics | None = None
    simulator: str | None = None

    @property
    def operators(self) -> int:
        """Number of operators of the model."""
        return self.npu_operators + sum(self.cpu_operators.values())
