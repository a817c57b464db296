"""The graph of a .tflite file as a list of float layers, for compilers that start from a Keras model.

A layer has the name and the settings that Keras 2 and Keras 3 share, so a process with another TensorFlow can rebuild the
network from JSON and arrays alone.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.check_graph import NO_OPTIONS, OPERATORS, SAME
from fer_edge.artifacts.graph import Graph, Operator, Tensor, dequantize, read_graph

RELU, RELU6 = 1, 3  # fused activations
SAME_VALUE = ("QUANTIZE", "DEQUANTIZE")  # operators that only change the type
Floats = npt.NDArray[np.float32]


class Layer(NamedTuple):
    """A layer.

    Attributes:
        kind: Name of the Keras class.
        settings: Arguments of its constructor.
        inputs: Indices of its input tensors.
        output: Index of its output tensor.
        weights: Its weights in the order of Keras, float32.
        operator: Name of the TFLite operator that it is or is part of.
    """

    kind: str
    settings: dict[str, Any]
    inputs: tuple[int, ...]
    output: int
    weights: tuple[Floats, ...]
    operator: str


class LayerList(NamedTuple):
    """A network.

    Attributes:
        input: Index of the input tensor: RGB 0..255, in float.
        input_shape: Height, width and channels.
        output: Index of the output tensor.
        layers: In the order of execution.
    """

    input: int
    input_shape: tuple[int, ...]
    output: int
    layers: tuple[Layer, ...]

    def to_data(self) -> dict[str, Any]:
        """Return everything but the weights, for JSON."""
        names = ("kind", "settings", "inputs", "output")
        layers = [{name: getattr(layer, name) for name in names} for layer in self.layers]
        return {"input": self.input, "input_shape": self.input_shape, "output": self.output, "layers": layers}

    def arrays(self) -> dict[str, Floats]:
        """Return the weights by number of the layer and number of the array, such as ``12_0``."""
        pairs = ((f"{n}_{k}", array) for n, layer in enumerate(self.layers) for k, array in enumerate(layer.weights))
        return dict(pairs)


def read_layers(flatbuffer: bytes) -> LayerList:
    """Return the layers of a classifier. Weights of int8 files are those that the file computes with, as real numbers.

    Args:
        flatbuffer: A .tflite file without zip archive, which check_graph accepts.

    Raises:
        ValueError: If it has an operator or an option that this list cannot express.
    """
    graph = read_graph(flatbuffer)
    same = {graph.input: graph.input}
    layers: list[Layer] = []
    constants = {index: _real_values(tensor) for index, tensor in enumerate(graph.tensors) if tensor.values is not None}
    for operator in graph.operators:
        name = OPERATORS[operator.code].name if operator.code in OPERATORS else f"operator {operator.code}"
        first = operator.inputs[0]
        if name in SAME_VALUE:
            if first in constants:
                constants[operator.output] = constants[first]
            else:
                same[operator.output] = same[first]
            continue
        if name not in READERS:
            raise ValueError(f"the operator {name} cannot be rebuilt as a Keras layer; possible: {', '.join(sorted(READERS))}")
        layers += READERS[name](_Node(name, graph, operator, constants, same))
        same[operator.output] = operator.output
    (output,) = graph.outputs
    return LayerList(graph.input, graph.tensors[graph.input].shape[1:], same[output], tuple(layers))


def _real_values(tensor: Tensor) -> npt.NDArray[Any]:
    """Return a constant as real numbers, or as integers if it is not quantized."""
    values = np.asarray(tensor.values)
    if not tensor.scales:
        return values.astype(np.float32) if values.dtype == np.float16 else values
    return dequantize(values, tensor.scales, tensor.zero_point, tensor.axis)


class _Node(NamedTuple):
    """An operator with its constants."""

    name: str
    graph: Graph
    operator: Operator
    constants: dict[int, npt.NDArray[Any]]
    same: dict[int, int]  # the tensor that has the value of a tensor

    def scalar(self, slot: int, code: str = "i", default: int = 0) -> Any:
        return (self.operator.options or NO_OPTIONS).scalar(slot, code, default)

    def constant(self, number: int) -> npt.NDArray[Any]:
        index = self.operator.inputs[number]
        if index not in self.constants:
            raise ValueError(f"the input {number} of {self.name} is computed; it must be a constant")
        return self.constants[index]

    def activations(self, count: int | None = None) -> tuple[int, ...]:
        """Return the first inputs, which the graph computes; all of them by default."""
        inputs = self.operator.inputs[:count]
        if any(index in self.constants for index in inputs):
            raise ValueError(f"an input of {self.name} is a constant; it must be computed")
        return tuple(self.same[index] for index in inputs)

    def shape(self) -> tuple[int, ...]:
        return self.graph.tensors[self.operator.inputs[0]].shape

    def layers(
        self, kind: str, settings: dict[str, Any], weights: list[Any] | None = None, fused_slot: int = -1
    ) -> list[Layer]:
        """Return the layer, and the activation after it."""
        inputs = self.activations(None if weights is None and kind in ("Add", "Concatenate") else 1)
        output = self.operator.output
        arrays = tuple(np.ascontiguousarray(array, np.float32) for array in weights or ())
        activation = self.scalar(fused_slot, "b") if fused_slot >= 0 else 0
        if not activation:
            return [Layer(kind, settings, inputs, output, arrays, self.name)]
        between = -1 - output  # a tensor that the .tflite file does not have
        limit = {RELU: None, RELU6: 6.0}[activation]
        return [
            Layer(kind, settings, inputs, between, arrays, self.name),
            Layer("ReLU", {"max_value": limit}, (between,), output, (), self.name),
        ]

    def padding(self) -> str:
        return "same" if self.scalar(0, "b") == SAME else "valid"

    def bias(self) -> list[npt.NDArray[Any]]:
        inputs = self.operator.inputs
        return [self.constant(2)] if len(inputs) > 2 and inputs[2] >= 0 else []


def _conv(node: _Node) -> list[Layer]:
    kernel, bias = node.constant(1), node.bias()
    settings = {
        "filters": kernel.shape[0],
        "kernel_size": kernel.shape[1:3],
        "strides": (node.scalar(2), node.scalar(1)),
        "dilation_rate": (node.scalar(5, default=1), node.scalar(4, default=1)),
        "padding": node.padding(),
        "use_bias": bool(bias),
    }
    return node.layers("Conv2D", settings, [kernel.transpose(1, 2, 3, 0), *bias], 3)


def _depthwise_conv(node: _Node) -> list[Layer]:
    kernel, bias, multiplier = node.constant(1), node.bias(), node.scalar(3)
    settings = {
        "kernel_size": kernel.shape[1:3],
        "strides": (node.scalar(2), node.scalar(1)),
        "dilation_rate": (node.scalar(6, default=1), node.scalar(5, default=1)),
        "padding": node.padding(),
        "depth_multiplier": multiplier,
        "use_bias": bool(bias),
    }
    return node.layers("DepthwiseConv2D", settings, [kernel[0].reshape(*kernel.shape[1:3], -1, multiplier), *bias], 4)


def _fully_connected(node: _Node) -> list[Layer]:
    kernel, bias, shape = node.constant(1), node.bias(), node.shape()
    if len(shape) != 2:
        raise ValueError(f"the input of FULLY_CONNECTED has the shape {shape}; it must be a vector")
    return node.layers("Dense", {"units": kernel.shape[0], "use_bias": bool(bias)}, [kernel.T, *bias], 0)


def _pool(node: _Node) -> list[Layer]:
    kind = "MaxPooling2D" if node.name == "MAX_POOL_2D" else "AveragePooling2D"
    sizes = {"pool_size": (node.scalar(4), node.scalar(3)), "strides": (node.scalar(2), node.scalar(1))}
    return node.layers(kind, {**sizes, "padding": node.padding()}, [], 5)


def _mean(node: _Node) -> list[Layer]:
    shape = node.shape()
    axes = sorted(int(axis) % len(shape) for axis in node.constant(1).reshape(-1))
    if len(shape) != 4 or axes != [1, 2]:
        raise ValueError(f"MEAN over the axes {axes} of {len(shape)} cannot be rebuilt; possible: height and width of an image")
    return node.layers("GlobalAveragePooling2D", {"keepdims": bool(node.scalar(0, "B"))}, [])


def _pad(node: _Node) -> list[Layer]:
    pairs = node.constant(1).tolist()
    if len(pairs) != 4 or any(pairs[0]) or any(pairs[3]):
        raise ValueError(f"PAD by {pairs} cannot be rebuilt; possible: height and width of an image")
    return node.layers("ZeroPadding2D", {"padding": pairs[1:3]}, [])


def _concatenation(node: _Node) -> list[Layer]:
    return node.layers("Concatenate", {"axis": node.scalar(0)}, None, 1)


def _softmax(node: _Node) -> list[Layer]:
    if node.scalar(0, "f") != 1:
        raise ValueError(f"SOFTMAX with beta {node.scalar(0, 'f'):g} cannot be rebuilt; possible: 1")
    return node.layers("Softmax", {}, [])


READERS: dict[str, Callable[[_Node], list[Layer]]] = {
    "ADD": lambda node: node.layers("Add", {}, None, 0),
    "AVERAGE_POOL_2D": _pool,
    "CONCATENATION": _concatenation,
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise_conv,
    "FULLY_CONNECTED": _fully_connected,
    "LOGISTIC": lambda node: node.layers("Activation", {"activation": "sigmoid"}, []),
    "MAX_POOL_2D": _pool,
    "MEAN": _mean,
    "PAD": _pad,
    "RELU": lambda node: node.layers("ReLU", {}, []),
    "RELU6": lambda node: node.layers("ReLU", {"max_value": 6.0}, []),
    "RESHAPE": lambda node: node.layers("Reshape", {"target_shape": node.graph.tensors[node.operator.output].shape[1:]}, []),
    "SOFTMAX": _softmax,
}
