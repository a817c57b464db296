"""Check that the shapes in the graph of a .tflite file are consistent, and that fer-edge emits its operators.

Each operator has one check. It derives the output shape from the inputs and options, so that no interpreter meets a shape,
type or option that its kernels do not expect.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from fer_edge.artifacts.flatbuffer_reader import FlatbufferError, Table
from fer_edge.artifacts.graph import ITEM_BYTES, MAX_ACTIVATION_BYTES, Graph, GraphError, Operator, Tensor, read_graph, require

MAX_MULTIPLICATIONS = 20_000_000_000  # per inference; VGG16 at 224 px needs 15e9
MAX_WINDOW = 64  # pixels, of kernels and strides
MAX_PADDING = 64
SAME, VALID = 0, 1
ACTIVATIONS = (0, 1, 3)  # none, ReLU, ReLU6
QUANTIZED = ("int8", "uint8")
MAX_ADD_RATIO = 2.0**18  # of input scales to the output scale; above 2^19 the kernel of ADD ends the process
MIN_SOFTMAX_SCALE = 1e-7  # of the input; below 2^-26 the kernel ends the process
Shape = tuple[int, ...]


class _Node(NamedTuple):
    """An operator with its tensors."""

    inputs: tuple[Tensor | None, ...]
    output: Tensor
    options: Table

    def scalar(self, slot: int, code: str = "i", default: int = 0) -> int:
        return int(self.options.scalar(slot, code, default))

    def tensor(self, index: int) -> Tensor:
        tensor = self.inputs[index] if index < len(self.inputs) else None
        if tensor is None:
            raise GraphError(f"an operator without its input {index}")
        return tensor


def check_graph(flatbuffer: bytes, image_size: int, classes: int) -> Tensor:
    """Check a .tflite flatbuffer before it is passed to an interpreter.

    Args:
        flatbuffer: Its bytes, without an appended zip archive.
        image_size: Side of the square input, pixels, from the contract.
        classes: Number of labels in the contract.

    Returns:
        The output.

    Raises:
        GraphError: If it is damaged, or differs from what the converters of fer-edge write.
    """
    graph = read_graph(flatbuffer)
    require(len(graph.outputs) == 1, "{} outputs, expected 1", len(graph.outputs))
    first, last = graph.tensors[graph.input], graph.tensors[graph.outputs[0]]
    require(
        first.shape == (1, image_size, image_size, 3) and last.shape == (1, classes),
        "input {}, output {}, contract {} and {}",
        first.shape,
        last.shape,
        (1, image_size, image_size, 3),
        (1, classes),
    )
    require(
        first.kind in ("uint8", "float32") and last.kind in ("uint8", "float32"),
        "{} in, {} out; apps take only uint8 and float32",
        first.kind,
        last.kind,
    )
    _check_operators(graph)
    return last


def check_detector_graph(
    flatbuffer: bytes, height: int, width: int, strides: Sequence[int], integer_only: bool = False
) -> None:
    """Check the flatbuffer of a face detector before it is passed to an interpreter.

    Args:
        flatbuffer: Its bytes, without an appended zip archive.
        height: Height of the input, pixels, from the contract.
        width: Width of the input, pixels.
        strides: Pixels of the input per cell, one per heat map.
        integer_only: Whether the outputs are int8; otherwise they are float32.

    Raises:
        GraphError: If it is damaged, or differs from what the converters of fer-edge write.
    """
    graph = read_graph(flatbuffer)
    first, last = graph.tensors[graph.input], [graph.tensors[index] for index in graph.outputs]
    require(first.shape == (1, height, width, 1), "input {}, contract {}", first.shape, (1, height, width, 1))
    expected = [(1, height // s, width // s, channels) for channels in (1, 7) for s in strides]
    require([tensor.shape for tensor in last] == expected, "outputs {}, contract {}", [t.shape for t in last], expected)
    kinds = [first.kind, *(tensor.kind for tensor in last)]
    expected_kind = "int8" if integer_only else "float32"
    require(kinds[0] in ("uint8", "float32") and set(kinds[1:]) == {expected_kind}, "{} in and out", kinds)
    _check_operators(graph)


def _check_operators(graph: Graph) -> None:
    try:
        _check_each_operator(graph)
    except (FlatbufferError, ZeroDivisionError) as error:
        raise GraphError(f"damaged: {error}") from error


def _check_each_operator(graph: Graph) -> None:
    known = {index for index, tensor in enumerate(graph.tensors) if tensor.values is not None}
    require(graph.input not in known, "a constant input")
    known.add(graph.input)
    work = 0
    for operator in graph.operators:
        require(operator.code in OPERATORS, "the operator {}, which fer-edge does not emit", operator.code)
        require(all(index in known for index in operator.inputs if index >= 0), "an operator that reads an unwritten tensor")
        require(operator.output not in known, "an operator that overwrites a tensor")
        known.add(operator.output)
        work += _check_operator(graph, operator)
    for output in graph.outputs:
        require(output in known and graph.tensors[output].values is None, "an output that nothing writes")
    require(work <= MAX_MULTIPLICATIONS, "{} multiplications per image; the maximum is {}", work, MAX_MULTIPLICATIONS)


def _check_operator(graph: Graph, operator: Operator) -> int:
    """Check one operator and return its number of multiplications."""
    rule = OPERATORS[operator.code]
    require(operator.options_type in rule.options, "{} with the options of another operator", rule.name)
    require((operator.options is None) == (operator.options_type == 0), "{} without its options", rule.name)
    require(rule.min_inputs <= len(operator.inputs) <= rule.max_inputs, "{} with {} inputs", rule.name, len(operator.inputs))
    inputs = tuple(graph.tensors[index] if index >= 0 else None for index in operator.inputs)
    node = _Node(inputs, graph.tensors[operator.output], operator.options or NO_OPTIONS)
    first = node.tensor(0)
    kinds = (first.kind, node.output.kind)
    require(kinds in rule.kinds, "{} from {} to {}", rule.name, kinds[0], kinds[1])
    per_channel = max(len(first.scales) if rule.name != "DEQUANTIZE" else 0, len(node.output.scales)) > 1
    require(not per_channel, "{} of a tensor with a scale per channel", rule.name)
    require(rule.fused_slot is None or node.scalar(rule.fused_slot, "b") in ACTIVATIONS, "{} with an activation", rule.name)
    shape, work = rule.check(node)
    require(shape == node.output.shape, "{} to the shape {}, expected {}", rule.name, node.output.shape, shape)
    return work


def _same(node: _Node) -> tuple[Shape, int]:
    return node.tensor(0).shape, 0


def _softmax(node: _Node) -> tuple[Shape, int]:
    x, beta = node.tensor(0), float(node.options.scalar(0, "f", 0.0))
    require(0.01 <= beta <= 100, "SOFTMAX with beta {}", beta)
    require(not x.scales or x.scales[0] * beta >= MIN_SOFTMAX_SCALE, "SOFTMAX with a scale that is too small")
    return x.shape, 0


def _binary(node: _Node) -> tuple[Shape, int]:
    a, b = node.tensor(0), node.tensor(1)
    require(a.kind == b.kind and len(b.scales) <= 1, "{} and {} operands", a.kind, b.kind)
    if a.scales and b.scales:
        ratio = max(a.scales[0], b.scales[0]) / node.output.scales[0]
        require(ratio <= MAX_ADD_RATIO, "operands with too large a scale")
    rank = max(len(a.shape), len(b.shape))
    pairs = list(zip(*((1,) * (rank - len(x.shape)) + x.shape for x in (a, b)), strict=True))
    require(all(m == n or 1 in (m, n) for m, n in pairs), "operands of shapes {} and {}", a.shape, b.shape)
    shape = tuple(max(pair) for pair in pairs)
    return shape, math.prod(shape)


def _windows(node: _Node, size: int, window: int, stride: int, dilation: int = 1) -> int:
    """Return the number of positions of a sliding window."""
    require(1 <= window <= MAX_WINDOW and 1 <= stride <= MAX_WINDOW and 1 <= dilation <= MAX_WINDOW, "a window of a bad size")
    padding, extent = node.scalar(0, "b"), (window - 1) * dilation + 1
    require(padding in (SAME, VALID), "padding {}", padding)
    require(padding == SAME or extent <= size, "a window of {} in {} pixels", extent, size)
    return -(-size // stride) if padding == SAME else (size - extent) // stride + 1


def _image(tensor: Tensor) -> Shape:
    require(len(tensor.shape) == 4 and tensor.shape[0] == 1, "an image of shape {}", tensor.shape)
    return tensor.shape


def _pool(node: _Node) -> tuple[Shape, int]:
    _, height, width, channels = _image(node.tensor(0))
    rows = _windows(node, height, node.scalar(4), node.scalar(2))
    columns = _windows(node, width, node.scalar(3), node.scalar(1))
    shape = (1, rows, columns, channels)
    return shape, math.prod(shape) * node.scalar(3) * node.scalar(4)


def _check_weights(node: _Node, kernel_axis: int, channels: int) -> None:
    """Check type and scales of kernel and bias."""
    x, kernel = node.tensor(0), node.tensor(1)
    require(kernel.kind == x.kind or (x.kind, kernel.kind) == ("float32", "int8"), "a {} kernel for {}", kernel.kind, x.kind)
    require(kernel.values is not None or kernel.kind == "float32", "a kernel that is not constant")
    if kernel.scales:
        require(len(kernel.scales) in (1, channels), "{} scales for {} channels", len(kernel.scales), channels)
        require(len(kernel.scales) == 1 or kernel.axis == kernel_axis, "channels on axis {} of a kernel", kernel.axis)
        require(kernel.kind == "int8" and kernel.zero_point == 0, "a kernel with a zero point")
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        bias = node.inputs[2]
        require(bias.shape == (channels,), "a bias of shape {} for {} channels", bias.shape, channels)
        require(bias.kind == ("int32" if x.kind in QUANTIZED else "float32"), "a {} bias for {}", bias.kind, x.kind)
        require(x.kind not in QUANTIZED or len(bias.scales) in (1, channels), "a bias without its scales")


def _conv(node: _Node) -> tuple[Shape, int]:
    _, height, width, depth = _image(node.tensor(0))
    kernel = node.tensor(1).shape
    require(len(kernel) == 4 and kernel[3] == depth, "a kernel of shape {} for {} channels", kernel, depth)
    rows = _windows(node, height, kernel[1], node.scalar(2), node.scalar(5, default=1))
    columns = _windows(node, width, kernel[2], node.scalar(1), node.scalar(4, default=1))
    _check_weights(node, 0, kernel[0])
    unrolled_bytes = rows * columns * math.prod(kernel[1:]) * ITEM_BYTES[node.tensor(0).kind]
    require(unrolled_bytes <= MAX_ACTIVATION_BYTES, "windows of {} bytes", unrolled_bytes)  # a kernel may copy all of them
    shape = (1, rows, columns, kernel[0])
    return shape, math.prod(shape) * math.prod(kernel[1:])


def _depthwise_conv(node: _Node) -> tuple[Shape, int]:
    _, height, width, depth = _image(node.tensor(0))
    kernel, multiplier = node.tensor(1).shape, node.scalar(3)
    require(len(kernel) == 4 and kernel[0] == 1, "a kernel of shape {}", kernel)
    require(multiplier >= 1 and kernel[3] == depth * multiplier, "{} channels from {}", kernel[3], depth)
    rows = _windows(node, height, kernel[1], node.scalar(2), node.scalar(6, default=1))
    columns = _windows(node, width, kernel[2], node.scalar(1), node.scalar(5, default=1))
    _check_weights(node, 3, kernel[3])
    shape = (1, rows, columns, kernel[3])
    return shape, math.prod(shape) * kernel[1] * kernel[2]


def _fully_connected(node: _Node) -> tuple[Shape, int]:
    x, kernel = node.tensor(0).shape, node.tensor(1).shape
    require(len(kernel) == 2 and len(x) >= 1 and math.prod(x) % kernel[1] == 0, "a kernel of shape {} for {}", kernel, x)
    require(node.scalar(1, "b") == 0, "shuffled weights")
    keep = bool(node.scalar(2, "B"))
    require(not keep or x[-1] == kernel[1], "a kernel of shape {} for {}", kernel, x)
    _check_weights(node, 0, kernel[0])
    batch = math.prod(x) // kernel[1]
    return ((*x[:-1], kernel[0]) if keep else (batch, kernel[0])), batch * math.prod(kernel)


def _constant(node: _Node, index: int) -> list[int]:
    """Return the values of a constant int32 input."""
    tensor = node.tensor(index)
    if tensor.values is None or tensor.kind != "int32" or tensor.values.size > 16:
        raise GraphError(f"an input {index} that is not a short constant of integers")
    return [int(value) for value in tensor.values.reshape(-1)]


def _reshape(node: _Node) -> tuple[Shape, int]:
    shape = node.output.shape
    require(math.prod(shape) == math.prod(node.tensor(0).shape), "RESHAPE of {} to {}", node.tensor(0).shape, shape)
    if len(node.inputs) > 1:
        requested = _constant(node, 1)
        fits = len(requested) == len(shape) and all(r in (-1, s) for r, s in zip(requested, shape, strict=True))
        require(fits and requested.count(-1) <= 1, "RESHAPE to {}", requested)
    elif node.options is not NO_OPTIONS:
        require(tuple(node.options.numbers(0, "i")) in (shape, (-1, *shape[1:])), "RESHAPE to another shape")
    return shape, 0


def _pad(node: _Node) -> tuple[Shape, int]:
    x, paddings = node.tensor(0).shape, node.tensor(1)
    require(paddings.shape == (len(x), 2) and paddings.values is not None, "PAD by a tensor of shape {}", paddings.shape)
    values = _constant(node, 1)
    require(all(0 <= value <= MAX_PADDING for value in values), "PAD by {}", values)
    return tuple(size + before + after for size, before, after in zip(x, values[::2], values[1::2], strict=True)), 0


def _mean(node: _Node) -> tuple[Shape, int]:
    x, axes = node.tensor(0).shape, _constant(node, 1)
    require(len(node.tensor(1).shape) <= 1 and all(-len(x) <= axis < len(x) for axis in axes), "MEAN over {}", axes)
    reduced = {axis % len(x) for axis in axes}
    if node.scalar(0, "B"):
        return tuple(1 if axis in reduced else size for axis, size in enumerate(x)), math.prod(x)
    return tuple(size for axis, size in enumerate(x) if axis not in reduced), math.prod(x)


def _resize_nearest(node: _Node) -> tuple[Shape, int]:
    _, height, width, channels = _image(node.tensor(0))
    size = _constant(node, 1)
    require(len(size) == 2, "RESIZE_NEAREST_NEIGHBOR to {}", size)
    fits = all(0 < new <= 2 * old for new, old in zip(size, (height, width), strict=True))
    require(fits, "RESIZE_NEAREST_NEIGHBOR of {} to {}", (height, width), size)
    return (1, *size, channels), 0


def _concatenation(node: _Node) -> tuple[Shape, int]:
    tensors = [node.tensor(index) for index in range(len(node.inputs))]
    first, axis = tensors[0].shape, node.scalar(0)
    require(-len(first) <= axis < len(first), "CONCATENATION along {}", axis)
    axis %= len(first)
    for tensor in tensors:
        others = tensor.shape[:axis] == first[:axis] and tensor.shape[axis + 1 :] == first[axis + 1 :]
        require(len(tensor.shape) == len(first) and others, "CONCATENATION of {} and {}", first, tensor.shape)
        require(tensor.kind == tensors[0].kind and len(tensor.scales) <= 1, "CONCATENATION of several types")
    return (*first[:axis], sum(tensor.shape[axis] for tensor in tensors), *first[axis + 1 :]), 0


class _Rule(NamedTuple):
    name: str
    check: Callable[[_Node], tuple[Shape, int]]
    options: tuple[int, ...]  # BuiltinOptions that it may have; 0 for none
    inputs: tuple[int, int] = (1, 1)  # minimum and maximum number
    fused_slot: int | None = None  # field of the fused activation
    kinds: Sequence[tuple[str, str]] = (("float32", "float32"), ("int8", "int8"))

    @property
    def min_inputs(self) -> int:
        return self.inputs[0]

    @property
    def max_inputs(self) -> int:
        return self.inputs[1]


NO_OPTIONS = Table(bytes([4, 0, 4, 0, 4, 0, 0, 0]), 4)  # a table without fields
_TO_FLOAT = (("int8", "float32"), ("uint8", "float32"), ("float16", "float32"))
_TO_INTEGER = tuple((source, target) for source in ("float32", *QUANTIZED) for target in QUANTIZED)
OPERATORS: dict[int, _Rule] = {  # by BuiltinOperator
    0: _Rule("ADD", _binary, (11,), (2, 2), 0),
    1: _Rule("AVERAGE_POOL_2D", _pool, (5,), fused_slot=5),
    2: _Rule("CONCATENATION", _concatenation, (10,), (1, 64), 1),
    3: _Rule("CONV_2D", _conv, (1,), (2, 3), 3),
    4: _Rule("DEPTHWISE_CONV_2D", _depthwise_conv, (2,), (2, 3), 4),
    6: _Rule("DEQUANTIZE", _same, (0, 38), kinds=_TO_FLOAT),
    9: _Rule("FULLY_CONNECTED", _fully_connected, (8,), (2, 3), 0),
    14: _Rule("LOGISTIC", _same, (0,)),
    17: _Rule("MAX_POOL_2D", _pool, (5,), fused_slot=5),
    18: _Rule("MUL", _binary, (21,), (2, 2), 0),
    19: _Rule("RELU", _same, (0,)),
    21: _Rule("RELU6", _same, (0,)),
    22: _Rule("RESHAPE", _reshape, (0, 17), (1, 2)),
    25: _Rule("SOFTMAX", _softmax, (9,)),
    34: _Rule("PAD", _pad, (0, 22), (2, 2)),
    40: _Rule("MEAN", _mean, (27,), (2, 2)),
    41: _Rule("SUB", _binary, (28,), (2, 2), 0),
    97: _Rule("RESIZE_NEAREST_NEIGHBOR", _resize_nearest, (74,), (2, 2)),
    114: _Rule("QUANTIZE", _same, (0, 89), kinds=_TO_INTEGER),
}
