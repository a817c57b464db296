"""Batch normalization for training only: insert it, reconstruct it from folded weights, fold it into the weights."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.batch_norm import scale_and_offset

if TYPE_CHECKING:
    import keras

NORM_SUFFIX = "_norm"  # name of a batch normalization: that of its convolution and this suffix
FACES = 512  # enough for the mean and variance of each channel
BATCH = 32

Floats = npt.NDArray[np.float32]


def insert_batch_norm(model: "keras.Model", bn_momentum: float, faces: npt.NDArray[np.uint8] | None) -> "keras.Model":
    """Return a network with batch normalization between each convolution and its ReLU.

    Args:
        model: A network made by build_network whose convolutions have biases, such as VGG16.
        bn_momentum: Momentum of the moving averages.
        faces: uint8 array (n, size, size, 1), gray: training faces. Each batch normalization starts with the mean and variance
            of its inputs on them, and with the scale and offset that make it the identity, so the outputs stay the same.
            None if the weights are random: scale and offset start at 1 and 0.

    Returns:
        A network with the same input and output; the same model if it has batch normalization already.

    Source: Ioffe and Szegedy, 2015, https://arxiv.org/abs/1502.03167.
    """
    import keras

    if any(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers):
        return model
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    normed = {layer.name for layer in convolutions if layer.activation is keras.activations.relu}

    def clone(layer: "keras.Layer") -> "keras.Layer":
        config = layer.get_config()
        return type(layer).from_config({**config, "activation": "linear"} if layer.name in normed else config)

    def call(layer: "keras.Layer", *args: Any, **kwargs: Any) -> Any:
        output = layer(*args, **kwargs)
        if layer.name not in normed:
            return output
        norm = keras.layers.BatchNormalization(momentum=bn_momentum, name=layer.name + NORM_SUFFIX)
        return keras.layers.ReLU(name=f"{layer.name}_relu")(norm(output))

    trained = keras.models.clone_model(model, clone_function=clone, call_function=call)
    for layer in model.layers:
        trained.get_layer(layer.name).set_weights(layer.get_weights())
    if faces is not None:
        channels = {layer.name: layer.filters for layer in convolutions if layer.name in normed}
        unfold_batch_norm(
            trained,
            {name + NORM_SUFFIX: (np.ones(count, np.float32), np.zeros(count, np.float32)) for name, count in channels.items()},
            faces,
        )
    return trained


def unfold_batch_norm(
    model: "keras.Model",
    folded: Mapping[str, tuple[Floats, Floats]],
    faces: npt.NDArray[np.uint8],
    reinitialized: tuple[str, ...] = (),
) -> None:
    """Set mean and variance of batch normalizations to those of their inputs, without changing their outputs, in place.

    A batch normalization computes gamma * (x - mean) / sqrt(variance + epsilon) + beta. With measured mean and variance, gamma
    and beta are chosen so that this equals scale * x + offset. A layer without gamma (InceptionV3) would need the factor
    scale * sqrt(variance + epsilon); the kernels of the next layers are multiplied by that factor instead.

    Args:
        model: A network. Its linear layers have the folded weights.
        folded: Scale and offset per name of a batch normalization; float32 arrays (channels,). Others stay unchanged.
        faces: uint8 array (n, size, size, 1), gray: training faces.
        reinitialized: Names of layers with random weights. They stay unchanged.
    """
    norms = {name: model.get_layer(name) for name in folded}
    for name, norm in norms.items():
        scale, offset = folded[name]
        _set_norm(norm, np.zeros_like(offset), np.full_like(offset, 1 - norm.epsilon), scale, offset)
    statistics = _input_statistics(model, norms, faces)
    # Missing factor per channel of each tensor, by id. ReLU, pooling and concatenation pass it on.
    factors: dict[int, Floats] = {}
    for layer in model.layers[1:]:
        inputs = layer.input if isinstance(layer.input, list) else [layer.input]
        missing = np.concatenate([factors.get(id(tensor), np.ones(tensor.shape[-1], np.float32)) for tensor in inputs])
        passed_on = np.resize(missing, layer.output.shape[-1])  # flattening repeats the channels
        if layer.name in norms:
            (mean, variance), (scale, offset) = statistics[layer.name], folded[layer.name]
            deviation = np.sqrt(variance + layer.epsilon)
            passed_on = np.ones_like(scale) if layer.scale else scale * deviation
            beta = np.asarray((offset + scale * mean) / passed_on, np.float32)
            _set_norm(layer, mean, variance, scale * deviation / passed_on, beta)
        elif layer.weights:
            kernel, *biases = layer.get_weights()
            if kernel.ndim > 1 and layer.name not in reinitialized:
                layer.set_weights([kernel * missing[:, None], *biases])
            passed_on = np.ones(layer.output.shape[-1], np.float32)
        factors[id(layer.output)] = passed_on


def fold_batch_norm(trained: "keras.Model", model: "keras.Model") -> None:
    """Fold the batch normalization of one network into the weights of another, in place. Their outputs are equal.

    Args:
        trained: A network with batch normalization, made by insert_batch_norm.
        model: The network without it. Its weights are replaced.
    """
    layers = {layer.name: layer for layer in trained.layers}
    for layer in model.layers:
        weights = [np.asarray(values, np.float64) for values in layers[layer.name].get_weights()]
        norm = layers.get(layer.name + NORM_SUFFIX)
        if norm:
            gamma, beta, mean, variance = norm.get_weights()
            scale, offset = scale_and_offset(mean, variance, norm.epsilon, gamma, beta)
            kernel, bias = weights
            weights = [kernel * scale, bias * scale + offset]
        layer.set_weights([values.astype(np.float32) for values in weights])


def _set_norm(norm: "keras.layers.BatchNormalization", mean: Floats, variance: Floats, gamma: Floats, beta: Floats) -> None:
    """Set the weights of a batch normalization, float32 arrays (channels,); ``gamma`` only if it has one."""
    norm.set_weights([*([gamma] if norm.scale else []), beta, mean, variance])


def _input_statistics(
    model: "keras.Model", norms: "Mapping[str, keras.layers.BatchNormalization]", faces: npt.NDArray[np.uint8]
) -> dict[str, tuple[Floats, Floats]]:
    """Return mean and variance per input channel of batch normalizations.

    Args:
        model: A network.
        norms: Some of its batch normalizations, by any name.
        faces: uint8 array (n, size, size, 1), gray. FACES of them, evenly spaced, are used.

    Returns:
        Two float32 arrays (channels,) each.
    """
    import keras

    if not norms:
        return {}
    # Datasets are sorted by class, so evenly spaced faces are of all classes.
    chosen = faces[np.linspace(0, len(faces) - 1, min(FACES, len(faces))).astype(int)]
    inner = keras.Model(model.input, {name: norm.input for name, norm in norms.items()})
    sums: dict[str, Any] = dict.fromkeys(norms, 0.0)
    squares: dict[str, Any] = dict.fromkeys(norms, 0.0)
    counts = dict.fromkeys(norms, 0)
    for start in range(0, len(chosen), BATCH):
        rgb = np.repeat(chosen[start : start + BATCH], 3, axis=-1).astype(np.float32)
        for name, output in inner.predict_on_batch(rgb).items():
            channels = np.asarray(output, np.float64).reshape(-1, output.shape[-1])
            sums[name] = sums[name] + channels.sum(axis=0)
            squares[name] = squares[name] + np.square(channels).sum(axis=0)
            counts[name] += len(channels)
    statistics = {}
    for name, count in counts.items():
        mean = sums[name] / count
        variance = np.maximum(squares[name] / count - mean**2, 0)
        statistics[name] = (mean.astype(np.float32), variance.astype(np.float32))
    return statistics
