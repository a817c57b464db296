"""The weights of a .tflite file, back in a network that can be trained: transfer from a model whose run is not at hand."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fer_edge.edge_runtime.contract import ModelError, read_contract
from fer_edge.edge_runtime.interpreter import find_interpreter, without_stderr
from fer_edge.train.networks import GREY_LAYER

if TYPE_CHECKING:
    import keras

FACES = 512  # enough for the mean and variance of each channel
BATCH = 32
KERNEL_AXES = {"CONV_2D": (1, 2, 3, 0), "DEPTHWISE_CONV_2D": (1, 2, 3, 0), "FULLY_CONNECTED": (1, 0)}  # TFLite's to keras'
# TensorFlow's converter names weights after their layer and numbers its calls: vgg16_1/block1_conv1_1/convolution.
WEIGHTS_NAME = re.compile(r"[^/;]+/([^/;]+?)_\d+/(?:convolution|depthwise|MatMul)")

Floats = npt.NDArray[np.float32]
Linear = Mapping[str, tuple[Floats, Floats]]


def load_model_file(model: "keras.Model", path: Path, faces: npt.NDArray[np.uint8]) -> tuple[str, ...]:
    """Give a freshly built network the weights of a .tflite file, in place.

    The file has batch normalisation inside its convolutions. It comes out again: each layer of it gets the mean and variance
    that ``faces`` give, and the scale and offset that make it change nothing. So the network answers as the file does, but
    for the rounding of activations, and trains on as any other.

    Args:
        model: A network made by build_network.
        path: A .tflite file of the same network, of any precision. int8 weights come back as they were rounded.
        faces: uint8 array (n, size, size, 1), grey: training faces, FACES of them are enough.

    Returns:
        The names of layers that keep their random weights because the file has them in another shape: the last one where it
        has other labels.

    Raises:
        FileNotFoundError: If there is no such file.
        ModelError: If it is no .tflite of fer-edge, or lacks weights of a layer.
        ValueError: If it holds another network.
    """
    import keras

    contract = read_contract(path)
    if contract.architecture != model.name:
        raise ValueError(
            f"{path} holds another network ('{contract.architecture}') than '{model.name}'. Give one of {model.name}"
        )
    linear = _read_linear(path)
    norms = {id(layer.input): layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)}
    before: dict[int, str] = {}  # by the input of a batch normalisation that is folded, the layer it is folded into
    fresh = []
    for layer in model.layers:
        if not layer.weights or layer.name == GREY_LAYER or id(layer.input) in norms:
            continue
        kernel, bias = _weights_of(layer.name, linear, path)
        if layer.input.shape[-1] == 1:  # in the file it reads R, G, B; to_grey's weights add up to 1 / 255
            kernel = kernel.sum(axis=2, keepdims=True) * np.float32(255)
        if id(layer.output) in norms:
            before[id(layer.output)] = layer.name
        values = [kernel, bias] if layer.use_bias else [kernel]
        if [value.shape for value in values] == [weight.shape for weight in layer.weights]:
            layer.set_weights(values)
        else:
            fresh.append(layer.name)
    folded = {key: _weights_of(before.get(key, norm.name), linear, path) for key, norm in norms.items()}
    scales = {key: np.ones_like(bias) if key in before else kernel.reshape(-1) for key, (kernel, bias) in folded.items()}
    if norms:
        _unfold(model, norms, {key: (scales[key], bias) for key, (_, bias) in folded.items()}, faces[:FACES])
    return tuple(fresh)


def _weights_of(name: str, linear: Linear, path: Path) -> tuple[Floats, Floats]:
    if name not in linear:
        raise ModelError(f"{path} has no weights of a layer '{name}'. Start from its run, or convert that again")
    return linear[name]


def _read_linear(path: Path) -> Linear:
    """Return kernel, in keras' order of axes, and bias of each linear layer of a file, by the layer's name; float32."""
    _, interpreter_class = find_interpreter()
    with without_stderr():
        interpreter = interpreter_class(model_path=str(path))
    tensors = {tensor["index"]: tensor for tensor in interpreter.get_tensor_details()}
    # No public call tells which operator reads which tensor. Not allocated: a delegate would take the operators' place.
    operators = interpreter._get_ops_details()
    origin = {one["outputs"][0]: one["inputs"][0] for one in operators if one["op_name"] == "DEQUANTIZE"}  # float16 weights

    def values(index: int) -> Floats:
        stored = origin.get(index, index)
        raw, parameters = interpreter.get_tensor(stored), tensors[stored]["quantization_parameters"]
        scales, zero_points = parameters["scales"], parameters["zero_points"]
        if not len(scales):
            return np.asarray(raw, np.float32)
        shape = [1] * raw.ndim
        if len(scales) > 1:
            shape[parameters["quantized_dimension"]] = len(scales)
        return np.asarray(scales.reshape(shape) * (raw.astype(np.float64) - zero_points.reshape(shape)), np.float32)

    found = {}
    for one in operators:
        if one["op_name"] not in KERNEL_AXES:
            continue
        _, kernel, bias = one["inputs"]
        named = WEIGHTS_NAME.match(tensors[origin.get(kernel, kernel)]["name"])
        if named:
            stored = values(kernel)
            channels = stored.shape[-1 if one["op_name"] == "DEPTHWISE_CONV_2D" else 0]
            offsets = values(bias) if bias >= 0 else np.zeros(channels, np.float32)  # the converter leaves zeros out
            found[named[1]] = (stored.transpose(KERNEL_AXES[one["op_name"]]), offsets)
    return found


def _unfold(
    model: "keras.Model",
    norms: "Mapping[int, keras.layers.BatchNormalization]",
    folded: Mapping[int, tuple[Floats, Floats]],
    faces: npt.NDArray[np.uint8],
) -> None:
    """Give each batch normalisation the statistics of its input, and let it do what the file does there.

    Args:
        model: The network, its linear layers as in the file.
        norms: Its batch normalisations, by the id of their input.
        folded: What each one does in the file, by the same: channel times scale, plus offset.
        faces: uint8 array (n, size, size, 1), grey.
    """
    for key, norm in norms.items():
        scale, offset = folded[key]
        _set_norm(norm, np.zeros_like(offset), np.full_like(offset, 1 - norm.epsilon), scale, offset)
    statistics = _statistics(model, norms, faces)
    # InceptionV3's have no scale of their own: what is larger in the file than one standard deviation becomes smaller there,
    # and is multiplied where it is read. ReLU, pooling and concatenation pass the factor on.
    factors: dict[int, Floats] = {}
    for layer in model.layers[1:]:
        inputs = layer.input if isinstance(layer.input, list) else [layer.input]
        read = np.concatenate([factors.get(id(tensor), np.ones(tensor.shape[-1], np.float32)) for tensor in inputs])
        made = np.resize(read, layer.output.shape[-1])  # flattening repeats the channels
        if id(layer.input) in norms:
            (mean, variance), (scale, offset) = statistics[id(layer.input)], folded[id(layer.input)]
            spread = np.sqrt(variance + layer.epsilon)
            made = np.ones_like(scale) if layer.scale else scale * spread
            centred = np.asarray((offset + scale * mean) / made, np.float32)
            _set_norm(layer, mean, variance, scale * spread / made, centred)
        elif layer.weights:
            kernel, *bias = layer.get_weights()
            layer.set_weights([kernel * read[:, None], *bias])
            made = np.ones(layer.output.shape[-1], np.float32)
        factors[id(layer.output)] = made


def _set_norm(norm: "keras.layers.BatchNormalization", mean: Floats, variance: Floats, scale: Floats, offset: Floats) -> None:
    norm.set_weights([*([scale] if norm.scale else []), offset, mean, variance])


def _statistics(
    model: "keras.Model", norms: "Mapping[int, keras.layers.BatchNormalization]", faces: npt.NDArray[np.uint8]
) -> dict[int, tuple[Floats, Floats]]:
    """Return mean and variance of each channel that goes into a batch normalisation, by the id of the tensor."""
    import keras

    inside = keras.Model(model.input, [norm.input for norm in norms.values()])
    sums: list[Any] = [0.0] * len(norms)
    squares: list[Any] = [0.0] * len(norms)
    values = [0] * len(norms)
    for start in range(0, len(faces), BATCH):
        rgb = np.repeat(faces[start : start + BATCH], 3, axis=-1).astype(np.float32)
        outputs = inside.predict_on_batch(rgb)
        for k, output in enumerate(outputs if isinstance(outputs, list) else [outputs]):
            channels = np.asarray(output, np.float64).reshape(-1, output.shape[-1])
            sums[k] = sums[k] + channels.sum(axis=0)
            squares[k] = squares[k] + np.square(channels).sum(axis=0)
            values[k] += len(channels)
    found = {}
    for key, total, square, count in zip(norms, sums, squares, values, strict=True):
        mean = total / count
        found[key] = (mean.astype(np.float32), np.maximum(square / count - mean**2, 0).astype(np.float32))
    return found
