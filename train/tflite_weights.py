"""The weights of a .tflite file, back in a network that can be trained: transfer from a model whose run is not at hand."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.contract import ModelError, read_contract
from fer_edge.edge_runtime.interpreter import find_interpreter, suppress_stderr
from fer_edge.train.batch_norm import unfold_batch_norm
from fer_edge.train.networks import GREY_LAYER, OUTPUT_LAYER, copy_head

if TYPE_CHECKING:
    import keras

KERNEL_AXES = {"CONV_2D": (1, 2, 3, 0), "DEPTHWISE_CONV_2D": (1, 2, 3, 0), "FULLY_CONNECTED": (1, 0)}  # TFLite's to keras'
# TensorFlow's converter names weights after their layer and numbers its calls: vgg16_1/block1_conv1_1/convolution.
WEIGHTS_NAME = re.compile(r"[^/;]+/([^/;]+?)_\d+/(?:convolution|depthwise|MatMul)")

Floats = npt.NDArray[np.float32]
Linear = Mapping[str, tuple[Floats, Floats]]  # kernel and bias by the name of the layer


def load_tflite_weights(
    model: "keras.Model", path: Path, labels: tuple[str, ...], faces: npt.NDArray[np.uint8]
) -> tuple[str, ...]:
    """Give a freshly built network the weights of a .tflite file, in place.

    The file has batch normalisation inside its convolutions. It comes out again: each layer of it gets the mean and variance
    that ``faces`` give, and the scale and offset that make it change nothing. So the network answers as the file does, but
    for the rounding of activations, and trains on as any other.

    Args:
        model: A network made by build_network.
        path: A .tflite file of the same network, of any precision. int8 weights come back as they were rounded.
        labels: The network's labels, in output order.
        faces: uint8 array (n, size, size, 1), grey: training faces, for the mean and variance.

    Returns:
        The names of layers that keep random weights: those that the file has in another shape, and the last one where the
        file does not know all labels.

    Raises:
        FileNotFoundError: If there is no such file.
        ModelError: If it is no .tflite of fer-edge, or lacks weights of a layer.
        ValueError: If it holds another network.
    """
    check_network(path, model.name)
    try:
        linear = _read_linear(path)
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"{path} is damaged ({error}). Convert the run again: fer-edge convert RUN") from error
    fresh = _copy_linear(model, linear, path, labels)
    unfold_batch_norm(model, _folded(model, linear, fresh), faces, fresh)
    return fresh


def check_network(path: Path, name: str) -> None:
    """Check that a .tflite file is of a network.

    Raises:
        FileNotFoundError: If there is no such file.
        ModelError: If it is no .tflite of fer-edge.
        ValueError: If it is of another one.
    """
    own = read_contract(path).architecture
    if own != name:
        raise ValueError(f"{path} holds another network ('{own}') than '{name}'. Give one of {name}")


def _read_linear(path: Path) -> Linear:
    """Return the linear layers of a file, kernels in keras' order of axes."""
    _, interpreter_class = find_interpreter()
    with suppress_stderr():
        interpreter = interpreter_class(model_path=str(path))
    tensors = {tensor["index"]: tensor for tensor in interpreter.get_tensor_details()}
    # No public call tells which operator reads which tensor. Not allocated: a delegate would take the operators' place.
    operators = interpreter._get_ops_details()
    origin = {one["outputs"][0]: one["inputs"][0] for one in operators if one["op_name"] == "DEQUANTIZE"}  # float16 weights

    def values(index: int) -> Floats:
        stored = origin.get(index, index)
        return _dequantized(interpreter.get_tensor(stored), tensors[stored]["quantization_parameters"])

    found = {}
    for one in operators:
        if one["op_name"] not in KERNEL_AXES:
            continue
        _, kernel, bias = one["inputs"]
        named = WEIGHTS_NAME.match(tensors[origin.get(kernel, kernel)]["name"])
        if named:
            weights = values(kernel).transpose(KERNEL_AXES[one["op_name"]])
            channels = weights.shape[2 if one["op_name"] == "DEPTHWISE_CONV_2D" else -1]
            # The converter leaves out a bias of zeros.
            found[named[1]] = (weights, values(bias) if bias >= 0 else np.zeros(channels, np.float32))
    return found


def _dequantized(stored: npt.NDArray[Any], parameters: Mapping[str, Any]) -> Floats:
    scales, zero_points = parameters["scales"], parameters["zero_points"]
    if not len(scales):
        return np.asarray(stored, np.float32)
    shape = [1] * stored.ndim
    if len(scales) > 1:
        shape[parameters["quantized_dimension"]] = len(scales)
    return np.asarray(scales.reshape(shape) * (stored.astype(np.float64) - zero_points.reshape(shape)), np.float32)


def _copy_linear(model: "keras.Model", linear: Linear, path: Path, labels: tuple[str, ...]) -> tuple[str, ...]:
    """Copy what is no batch normalisation; return the names of layers that keep random weights."""
    import keras

    fresh = []
    for layer in model.layers:
        if not layer.weights or layer.name == GREY_LAYER or isinstance(layer, keras.layers.BatchNormalization):
            continue
        if layer.name not in linear:
            raise ModelError(
                f"{path} has no weights of a layer '{layer.name}': another version of fer-edge built or converted it. "
                "Convert its run again, or start from another model"
            )
        kernel, bias = linear[layer.name]
        if layer.input.shape[-1] == 1:  # in the file it reads R, G, B; to_grey's weights add up to 1 / 255
            kernel = kernel.sum(axis=2, keepdims=True) * np.float32(255)
        if layer.name == OUTPUT_LAYER:
            copied = copy_head(model, labels, kernel, bias, read_contract(path).labels)
        else:
            copied = kernel.shape == layer.kernel.shape
            if copied:
                layer.set_weights([kernel, bias] if layer.use_bias else [kernel])
        if not copied:
            fresh.append(layer.name)
    return tuple(fresh)


def _folded(model: "keras.Model", linear: Linear, fresh: tuple[str, ...]) -> dict[str, tuple[Floats, Floats]]:
    """Return scale and offset of each batch normalisation in the file, by its name; of none behind a fresh layer."""
    import keras

    makers = {id(layer.output): layer.name for layer in model.layers}
    found = {}
    for norm in model.layers:
        if not isinstance(norm, keras.layers.BatchNormalization):
            continue
        before = makers[id(norm.input)]
        if norm.name in linear:  # one that stands alone: a 1 x 1 depthwise convolution
            kernel, bias = linear[norm.name]
            found[norm.name] = (kernel.reshape(-1), bias)
        elif before not in fresh:
            found[norm.name] = (np.ones_like(linear[before][1]), linear[before][1])
    return found
