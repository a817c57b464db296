"""The weights of a .tflite file as initial weights of a network, for transfer from a model without its run folder."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.contract import ModelError, read_contract
from fer_edge.artifacts.graph import dequantize
from fer_edge.artifacts.model_file import read_model_file
from fer_edge.artifacts.run_folder import GRAY_LAYER
from fer_edge.edge_runtime.interpreter import find_interpreter
from fer_edge.edge_runtime.native_stderr import suppress_stderr
from fer_edge.edge_runtime.trial_load import try_loading
from fer_edge.train.batch_norm import unfold_batch_norm
from fer_edge.train.networks import OUTPUT_LAYER, copy_head

if TYPE_CHECKING:
    import keras

# From TFLite's order of axes to Keras's.
KERNEL_AXES = {"CONV_2D": (1, 2, 3, 0), "DEPTHWISE_CONV_2D": (1, 2, 3, 0), "FULLY_CONNECTED": (1, 0)}
# TensorFlow's converter names weights after their layer and numbers the calls: vgg16_1/block1_conv1_1/convolution.
WEIGHTS_NAME = re.compile(r"[^/;]+/([^/;]+?)_\d+/(?:convolution|depthwise|MatMul)")

Floats = npt.NDArray[np.float32]
LinearLayers = Mapping[str, tuple[Floats, Floats]]  # kernel and bias by name of the layer


def load_tflite_weights(
    model: "keras.Model", path: Path, labels: tuple[str, ...], faces: npt.NDArray[np.uint8]
) -> tuple[str, ...]:
    """Set the weights of a new network to those of a .tflite file, in place.

    Folded batch normalization is reconstructed: each layer gets the mean and variance of its inputs on ``faces``, and the scale
    and offset that keep its output. So the network outputs the same as the file, except for the rounding of activations.

    Args:
        model: A network made by build_network.
        path: A .tflite file of the same network, of any precision. int8 weights keep their rounding.
        labels: Labels of the network, in output order.
        faces: uint8 array (n, size, size, 1), gray: training faces.

    Returns:
        The names of layers that keep random weights: those with another shape in the file, and the last layer if the file does
        not have all labels.

    Raises:
        FileNotFoundError: If there is no such file.
        ModelError: If the file was not made by fer-edge, is damaged, or lacks the weights of a layer.
        ValueError: If it is of another network.
    """
    check_network(path, model.name)
    file = read_model_file(path)
    try_loading(file)
    try:
        linear = _read_linear(file.flatbuffer)
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"{path} is damaged ({error}). Convert the run again: fer-edge convert RUN") from error
    reinitialized = _copy_linear(model, linear, path, labels)
    unfold_batch_norm(model, _folded(model, linear, reinitialized), faces, reinitialized)
    return reinitialized


def check_network(path: Path, name: str) -> None:
    """Check which network a .tflite file is of.

    Args:
        path: The file.
        name: Name of the expected network.

    Raises:
        FileNotFoundError: If there is no such file.
        ModelError: If it was not made by fer-edge.
        ValueError: If it is of another network.
    """
    architecture = read_contract(path).architecture
    if architecture != name:
        raise ValueError(f"{path} contains the network '{architecture}', not '{name}'. Give a file of {name}")


def _read_linear(flatbuffer: bytes) -> LinearLayers:
    """Return the linear layers of a file, kernels in Keras's order of axes."""
    _, interpreter_class = find_interpreter()
    with suppress_stderr():
        interpreter = interpreter_class(model_content=flatbuffer)
    tensors = {tensor["index"]: tensor for tensor in interpreter.get_tensor_details()}
    # There is no public call for the inputs of operators. Tensors stay unallocated: a delegate would replace the operators.
    operators = interpreter._get_ops_details()
    origin = {op["outputs"][0]: op["inputs"][0] for op in operators if op["op_name"] == "DEQUANTIZE"}  # float16 weights

    def values(index: int) -> Floats:
        stored = origin.get(index, index)
        return _dequantized(interpreter.get_tensor(stored), tensors[stored]["quantization_parameters"])

    layers = {}
    for op in operators:
        if op["op_name"] not in KERNEL_AXES:
            continue
        _, kernel, bias = op["inputs"]
        name = WEIGHTS_NAME.match(tensors[origin.get(kernel, kernel)]["name"])
        if name:
            weights = values(kernel).transpose(KERNEL_AXES[op["op_name"]])
            channels = weights.shape[2 if op["op_name"] == "DEPTHWISE_CONV_2D" else -1]
            # The converter leaves out a bias of zeros.
            layers[name[1]] = (weights, values(bias) if bias >= 0 else np.zeros(channels, np.float32))
    return layers


def _dequantized(stored: npt.NDArray[Any], parameters: Mapping[str, Any]) -> Floats:
    if not len(parameters["scales"]):
        return np.asarray(stored, np.float32)
    return dequantize(stored, parameters["scales"], parameters["zero_points"], parameters["quantized_dimension"])


def _copy_linear(model: "keras.Model", linear: LinearLayers, path: Path, labels: tuple[str, ...]) -> tuple[str, ...]:
    """Copy the weights of linear layers; return the names of layers that keep random weights."""
    import keras

    reinitialized = []
    for layer in model.layers:
        if not layer.weights or layer.name == GRAY_LAYER or isinstance(layer, keras.layers.BatchNormalization):
            continue
        if layer.name not in linear:
            raise ModelError(
                f"{path} has no weights for the layer '{layer.name}': it was made by a different version of fer-edge. "
                "Convert its run again, or start from another model"
            )
        kernel, bias = linear[layer.name]
        if layer.input.shape[-1] == 1:  # in the file its input is R, G, B; the weights of to_gray add up to 1 / 255
            kernel = kernel.sum(axis=2, keepdims=True) * np.float32(255)
        if layer.name == OUTPUT_LAYER:
            copied = copy_head(model, labels, kernel, bias, read_contract(path).labels)
        else:
            copied = kernel.shape == layer.kernel.shape
            if copied:
                layer.set_weights([kernel, bias] if layer.use_bias else [kernel])
        if not copied:
            reinitialized.append(layer.name)
    return tuple(reinitialized)


def _folded(model: "keras.Model", linear: LinearLayers, reinitialized: tuple[str, ...]) -> dict[str, tuple[Floats, Floats]]:
    """Return scale and offset per name of a batch normalization in the file; those after reinitialized layers are left out."""
    import keras

    writers = {id(layer.output): layer.name for layer in model.layers}
    folded = {}
    for norm in model.layers:
        if not isinstance(norm, keras.layers.BatchNormalization):
            continue
        before = writers[id(norm.input)]
        if norm.name in linear:  # not folded: a separate 1 x 1 depthwise convolution
            kernel, bias = linear[norm.name]
            folded[norm.name] = (kernel.reshape(-1), bias)
        elif before not in reinitialized:
            folded[norm.name] = (np.ones_like(linear[before][1]), linear[before][1])
    return folded
