"""Read the graph of a .tflite file in pure Python, and reject what the converters of fer-edge do not write.

The interpreters trust a file: a wrong index, shape or scale makes them read memory that is not theirs. So everything that they
follow is checked here first. Field numbers are those of TensorFlow's schema.fbs, version 3.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.flatbuffer_reader import FlatbufferError, Table, read_root

SCHEMA_VERSION = 3
MAX_TENSOR_BYTES = 64 << 20
MAX_ACTIVATION_BYTES = 256 << 20
MAX_RANK = 5
MAX_OUTPUTS = 8  # a face detector has two per heat map
MAX_TEXT_BYTES = 4096
SCALES = (1e-15, 1e6)  # of a quantized tensor; a channel that is always 0 has the smallest
# Number of fields of each table; an unknown field would reach code that nothing here has checked.
FIELDS = {"model": 8, "graph": 6, "tensor": 10, "quantization": 7, "operator": 14, "code": 4, "buffer": 3, "metadata": 2}
# TensorType: name, numpy type, range of the zero point (None: not quantized)
TYPES: dict[int, tuple[str, str, tuple[int, int] | None]] = {
    0: ("float32", "<f4", None),
    1: ("float16", "<f2", None),
    2: ("int32", "<i4", (0, 0)),
    3: ("uint8", "u1", (0, 255)),
    9: ("int8", "i1", (-128, 127)),
}
ITEM_BYTES = {name: int(dtype[-1]) for name, dtype, _ in TYPES.values()}
MAX_ERROR_CHARACTERS = 200


class GraphError(ValueError):
    """A .tflite file that fer-edge does not make, or that is damaged."""


class Tensor(NamedTuple):
    """A tensor.

    Attributes:
        shape: Its shape, all positive.
        kind: ``float32``, ``float16``, ``int32``, ``uint8`` or ``int8``.
        scales: Scale per tensor, or per channel of ``axis``; empty if it is not quantized.
        zero_point: Integer that represents 0.
        axis: Axis of the channels.
        values: The constant values, None for an activation.
    """

    shape: tuple[int, ...]
    kind: str
    scales: tuple[float, ...]
    zero_point: int
    axis: int
    values: npt.NDArray[Any] | None


class Operator(NamedTuple):
    """An operator.

    Attributes:
        code: Its BuiltinOperator.
        inputs: Indices of the input tensors; -1 for an optional one that is left out.
        output: Index of the output tensor.
        options_type: Its BuiltinOptions, 0 for none.
        options: Their table.
    """

    code: int
    inputs: tuple[int, ...]
    output: int
    options_type: int
    options: Table | None


class Graph(NamedTuple):
    """The graph of a .tflite file.

    Attributes:
        tensors: All tensors.
        operators: All operators, in the order of execution.
        input: Index of the only input.
        outputs: Indices of the outputs.
    """

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    input: int
    outputs: tuple[int, ...]


def require(condition: bool, problem: str, *values: object) -> None:
    """Check a condition.

    Args:
        condition: The condition.
        problem: The text of the error, with ``{}`` for each value.
        *values: Values in the text. They are formatted only if the condition is false, which saves half of the time.

    Raises:
        GraphError: If it is false.
    """
    if not condition:
        raise GraphError(problem.format(*values)[:MAX_ERROR_CHARACTERS])


def read_graph(flatbuffer: bytes) -> Graph:
    """Read a .tflite flatbuffer.

    Args:
        flatbuffer: Its bytes, without an appended zip archive.

    Raises:
        GraphError: If it is damaged, or has parts that the converters of fer-edge do not write.
    """
    try:
        return _read_model(read_root(flatbuffer))
    except FlatbufferError as error:
        raise GraphError(f"damaged: {error}") from error


def dequantize(
    values: npt.NDArray[Any], scales: Sequence[float], zero_point: npt.ArrayLike, axis: int
) -> npt.NDArray[np.float32]:
    """Return the real numbers that the integers of a quantized tensor represent.

    Args:
        values: The integers.
        scales: One scale, or one per channel of ``axis``.
        zero_point: Integer that represents 0; or one per scale.
        axis: Axis of the channels.
    """
    shape = [1] * values.ndim
    if len(scales) > 1:
        shape[axis] = len(scales)
    factors = np.asarray(scales, np.float64).reshape(shape)
    zeros = np.broadcast_to(zero_point, len(scales)).reshape(shape)
    return np.asarray((values.astype(np.float64) - zeros) * factors, np.float32)


def _read_model(model: Table) -> Graph:
    _known_fields(model, "model")
    require(model.scalar(0) == SCHEMA_VERSION, "schema version {}", model.scalar(0))
    _text(model, 3)
    buffers = [_buffer(table) for table in model.tables(4)]
    require(bool(buffers) and not len(buffers[0]), "no empty buffer 0")
    graphs = model.tables(2)
    require(len(graphs) == 1, "{} subgraphs, expected 1", len(graphs))
    codes = [_operator_code(table) for table in model.tables(1)]
    (graph,) = graphs
    _known_fields(graph, "graph")
    _text(graph, 4)
    tensors = tuple(_tensor(table, buffers) for table in graph.tables(0))
    ends = [graph.numbers(slot, "i") for slot in (1, 2)]
    for indices, maximum in zip(ends, (1, MAX_OUTPUTS), strict=True):
        require(1 <= len(indices) <= maximum, "{} inputs or outputs", len(indices))
        require(all(0 <= index < len(tensors) for index in indices), "inputs or outputs {}", indices)
    activations = sum(_bytes(tensor) for tensor in tensors if tensor.values is None)
    require(activations <= MAX_ACTIVATION_BYTES, "activations of {} bytes", activations)
    operators = tuple(_operator(table, codes, len(tensors)) for table in graph.tables(3))
    _check_extras(model, len(buffers), len(tensors))
    return Graph(tensors, operators, ends[0][0], tuple(ends[1]))


def _known_fields(table: Table, kind: str) -> None:
    require(table.fields <= FIELDS[kind], "an unknown field {} of a {}", table.fields - 1, kind)


def _text(table: Table, slot: int) -> None:
    require(len(table.text(slot)) <= MAX_TEXT_BYTES, "a text that is too long")


def _buffer(table: Table) -> npt.NDArray[Any]:
    _known_fields(table, "buffer")
    require(not table.scalar(1, "Q") and not table.scalar(2, "Q"), "a buffer outside the flatbuffer")
    return table.array(0, "u1")


def _operator_code(table: Table) -> tuple[int, int]:
    """Return BuiltinOperator and version."""
    _known_fields(table, "code")
    require(not table.has(1), "a custom operator")
    return max(table.scalar(0, "b"), table.scalar(3)), table.scalar(2, default=1)


def _bytes(tensor: Tensor) -> int:
    return math.prod(tensor.shape) * ITEM_BYTES[tensor.kind]


def _tensor(table: Table, buffers: list[npt.NDArray[Any]]) -> Tensor:
    _known_fields(table, "tensor")
    shape, code, buffer = table.numbers(0, "i"), table.scalar(1, "b"), table.scalar(2, "I")
    _text(table, 3)
    require(code in TYPES, "a tensor of type {}", code)
    kind, dtype, zero_points = TYPES[code]
    require(len(shape) <= MAX_RANK and min(shape, default=1) > 0, "a tensor of shape {}", shape)
    require(not (table.scalar(5, "B") or table.has(6) or table.has(9)), "a variable, sparse or variant tensor")
    require(table.numbers(7, "i") in ((), shape), "a tensor of variable shape")
    size = math.prod(shape) * ITEM_BYTES[kind]
    require(size <= MAX_TENSOR_BYTES, "a tensor of {} bytes", size)
    require(buffer < len(buffers), "a buffer {} of {}", buffer, len(buffers))
    data = buffers[buffer]
    values = None
    if len(data):
        require(len(data) == size, "{} bytes for a tensor of shape {} and type {}", len(data), shape, kind)
        values = data.view(dtype).reshape(shape)
        require(values.flags.aligned, "constant values that are not aligned")
        require(kind not in ("float32", "float16") or bool(np.isfinite(values).all()), "weights that are not finite numbers")
    return Tensor(shape, kind, *_quantization(table.table(4), shape, kind, zero_points), values)


def _quantization(
    table: Table | None, shape: tuple[int, ...], kind: str, zero_points: tuple[int, int] | None
) -> tuple[tuple[float, ...], int, int]:
    """Return scales, zero point and axis."""
    scales = table.numbers(2, "f") if table else ()
    if table is None or not scales:
        require(kind not in ("int8", "uint8"), "a tensor of type {} without a scale", kind)
        require(table is None or not (table.numbers(3, "q") or table.scalar(4, "B")), "zero points without scales")
        return (), 0, 0
    _known_fields(table, "quantization")
    require(zero_points is not None and not table.scalar(4, "B"), "a quantized tensor of type {}", kind)
    require(not (table.numbers(0, "f") or table.numbers(1, "f")), "a quantization with a range")
    zeros, axis = table.numbers(3, "q"), table.scalar(6)
    low, high = SCALES
    # A sum with NaN is NaN; minimum and maximum may ignore it.
    finite = low <= min(scales) and max(scales) <= high and math.isfinite(sum(scales))
    require(finite, "a scale that is not finite and positive")
    require(len(zeros) == len(scales), "{} zero points for {} scales", len(zeros), len(scales))
    smallest, largest = zero_points or (0, 0)
    require(smallest <= min(zeros) and max(zeros) <= largest, "a zero point out of range")
    require(0 <= axis < max(1, len(shape)), "channels on axis {} of {}", axis, len(shape))
    if len(scales) > 1:
        require(shape[axis] == len(scales), "{} scales for {} channels", len(scales), shape[axis])
        require(not any(zeros), "channels with a zero point")
    return scales, zeros[0], axis


def _operator(table: Table, codes: list[tuple[int, int]], tensors: int) -> Operator:
    _known_fields(table, "operator")
    index = table.scalar(0, "I")
    require(index < len(codes), "an operator {} of {}", index, len(codes))
    inputs, outputs = table.numbers(1, "i"), table.numbers(2, "i")
    require(bool(inputs) and min(inputs) >= -1 and max(inputs) < tensors, "operator inputs {}", inputs)
    require(len(outputs) == 1 and 0 <= outputs[0] < tensors, "operator outputs {}", outputs)
    unused = any(len(table.array(slot, dtype)) for slot, dtype in ((5, "u1"), (7, "u1"), (8, "<i4")))
    require(not (unused or any(table.has(slot) for slot in (9, 10, 11, 12))), "custom options or intermediate tensors")
    code, version = codes[index]
    require(1 <= version <= 12, "operator version {}", version)
    return Operator(code, inputs, outputs[0], table.scalar(3, "B"), table.table(4))


def _check_extras(model: Table, buffers: int, tensors: int) -> None:
    """Check metadata and signatures, which an interpreter reads too."""
    require(all(0 <= index < buffers for index in model.numbers(5, "i")), "a metadata buffer that does not exist")
    for entry in model.tables(6):
        _known_fields(entry, "metadata")
        _text(entry, 0)
        require(entry.scalar(1, "I") < buffers, "a metadata buffer that does not exist")
    for signature in model.tables(7):
        _text(signature, 2)
        require(signature.scalar(4, "I") == 0, "a signature of another subgraph")
        for slot in (0, 1):
            for tensor in signature.tables(slot):
                _text(tensor, 0)
                require(tensor.scalar(1, "I") < tensors, "a signature of a tensor that does not exist")
