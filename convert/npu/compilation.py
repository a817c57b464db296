"""The result of a compiler, and what runs where in a compiled file."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from fer_edge.artifacts.check_graph import OPERATORS
from fer_edge.artifacts.flatbuffer_reader import FlatbufferError, Table, read_root
from fer_edge.artifacts.graph import read_graph


@dataclass(frozen=True)
class Compilation:
    """The result of a compiler.

    Attributes:
        content: The compiled file, without zip archive.
        compiler: Names and versions of the compiler's packages.
        memory_kib: See NpuSummary.
        estimated_ms: See NpuSummary.
    """

    content: bytes
    compiler: str
    memory_kib: dict[str, float] = field(default_factory=dict)
    estimated_ms: float | None = None


@dataclass(frozen=True)
class Placement:
    """What runs where.

    Attributes:
        npu_operators: Number of operators of the model that the NPU runs.
        cpu_operators: Number of the others by name.
        partitions: Number of parts of the graph that the NPU runs.
    """

    npu_operators: int
    cpu_operators: dict[str, int]
    partitions: int


def placement(original: bytes, compiled: bytes) -> Placement:
    """Compare a compiled file with the original: the CPU runs the operators that are left.

    Args:
        original: The flatbuffer for the CPU.
        compiled: The compiled flatbuffer.

    Raises:
        RuntimeError: If the compiled file cannot be read.
    """
    try:
        operators = [_name(code) for code in _operator_codes(compiled)]
    except FlatbufferError as error:
        raise RuntimeError(f"the compiler wrote a file that cannot be read ({error})") from error
    on_cpu = Counter(name for name, custom in operators if not custom)
    count = len(read_graph(original).operators)
    return Placement(max(0, count - on_cpu.total()), dict(on_cpu), sum(custom for _, custom in operators))


def custom_options(compiled: bytes) -> list[bytes]:
    """Return the options of the custom operators of a compiled file: there the compiler describes the parts for the NPU."""
    model = read_root(compiled)
    codes = model.tables(1)
    (graph,) = model.tables(2)
    return [bytes(node.array(5, "u1")) for node in graph.tables(3) if _name(codes[node.scalar(0, "I")])[1]]


def _operator_codes(compiled: bytes) -> Sequence[Table]:
    """Return the code of each operator of a file, in the order of execution."""
    model = read_root(compiled)
    codes = model.tables(1)
    return [codes[node.scalar(0, "I")] for graph in model.tables(2) for node in graph.tables(3)]


def _name(code: Table) -> tuple[str, bool]:
    """Return the name of an operator, and whether it is a custom one."""
    if code.has(1):
        return code.text(1).decode(errors="replace"), True
    builtin = max(code.scalar(0, "b"), code.scalar(3))
    return (OPERATORS[builtin].name if builtin in OPERATORS else f"operator {builtin}"), False
