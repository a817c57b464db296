"""Batch normalisation that a network learns with and ships without: put in, taken out of weights, worked into them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.batch_norm import scale_and_offset

if TYPE_CHECKING:
    import keras

NORM = "_norm"  # ends the name of one, behind that of its convolution
FACES = 512  # enough for the mean and variance of each channel
BATCH = 32

Floats = npt.NDArray[np.float32]


def insert_batch_norm(model: "keras.Model", bn_momentum: float, faces: npt.NDArray[np.uint8] | None) -> "keras.Model":
    """Return a network with batch normalisation between each convolution and the ReLU inside it.

    Args:
        model: A network made by build_network, its convolutions with biases, as VGG16's.
        bn_momentum: Momentum of the moving averages.
        faces: uint8 array (n, size, size, 1), grey: training faces, where the network is to answer as before. Then each
            batch normalisation begins with their mean and variance, and with the scale and offset that make it change
            nothing. None where its weights are random: it begins with 1 and 0.

    Returns:
        A network with the same input and output; the same model where it has batch normalisation already.

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
        made = layer(*args, **kwargs)
        if layer.name not in normed:
            return made
        norm = keras.layers.BatchNormalization(momentum=bn_momentum, name=layer.name + NORM)
        return keras.layers.ReLU(name=f"{layer.name}_relu")(norm(made))

    trained = keras.models.clone_model(model, clone_function=clone, call_function=call)
    for layer in model.layers:
        trained.get_layer(layer.name).set_weights(layer.get_weights())
    if faces is not None:
        channels = {layer.name: layer.filters for layer in convolutions if layer.name in normed}
        unfold_batch_norm(
            trained,
            {name + NORM: (np.ones(count, np.float32), np.zeros(count, np.float32)) for name, count in channels.items()},
            faces,
        )
    return trained


def unfold_batch_norm(
    model: "keras.Model",
    folded: Mapping[str, tuple[Floats, Floats]],
    faces: npt.NDArray[np.uint8],
    fresh: tuple[str, ...] = (),
) -> None:
    """Give batch normalisations the statistics of their inputs, so that each does to them what ``folded`` tells, in place.

    Where one has no scale of its own, the kernels that read it are multiplied by what it lacks.

    Args:
        model: A network, its linear layers as they are without batch normalisation.
        folded: Scale and offset that each one applies to its input, by its name; float32 arrays (channels,). One that is not
            named stays as it is.
        faces: uint8 array (n, size, size, 1), grey: training faces.
        fresh: Names of layers with random weights, which stay as they are.
    """
    norms = {name: model.get_layer(name) for name in folded}
    for name, norm in norms.items():
        scale, offset = folded[name]
        _set_norm(norm, np.zeros_like(offset), np.full_like(offset, 1 - norm.epsilon), scale, offset)
    statistics = _input_statistics(model, norms, faces)
    # InceptionV3's have no scale of their own: what one makes larger than one standard deviation becomes smaller there, and is
    # multiplied where it is read. ReLU, pooling and concatenation pass the factor on.
    factors: dict[int, Floats] = {}
    for layer in model.layers[1:]:
        inputs = layer.input if isinstance(layer.input, list) else [layer.input]
        read = np.concatenate([factors.get(id(tensor), np.ones(tensor.shape[-1], np.float32)) for tensor in inputs])
        made = np.resize(read, layer.output.shape[-1])  # flattening repeats the channels
        if layer.name in norms:
            (mean, variance), (scale, offset) = statistics[layer.name], folded[layer.name]
            spread = np.sqrt(variance + layer.epsilon)
            made = np.ones_like(scale) if layer.scale else scale * spread
            _set_norm(layer, mean, variance, scale * spread / made, np.asarray((offset + scale * mean) / made, np.float32))
        elif layer.weights:
            kernel, *others = layer.get_weights()
            if kernel.ndim > 1 and layer.name not in fresh:
                layer.set_weights([kernel * read[:, None], *others])
            made = np.ones(layer.output.shape[-1], np.float32)
        factors[id(layer.output)] = made


def fold_batch_norm(trained: "keras.Model", model: "keras.Model") -> None:
    """Give a network the weights of what insert_batch_norm made of it, in place: it answers as that does.

    Args:
        trained: What insert_batch_norm returned.
        model: The network without batch normalisation.
    """
    layers = {layer.name: layer for layer in trained.layers}
    for layer in model.layers:
        weights = [np.asarray(values, np.float64) for values in layers[layer.name].get_weights()]
        norm = layers.get(layer.name + NORM)
        if norm:
            gamma, beta, mean, variance = (np.asarray(values, np.float64) for values in norm.get_weights())
            scale, offset = scale_and_offset(mean, variance, norm.epsilon, gamma, beta)
            kernel, bias = weights
            weights = [kernel * scale, bias * scale + offset]
        layer.set_weights([values.astype(np.float32) for values in weights])


def _set_norm(norm: "keras.layers.BatchNormalization", mean: Floats, variance: Floats, scale: Floats, offset: Floats) -> None:
    """Give a batch normalisation its weights, float32 arrays (channels,), in place; without the scale where it has none."""
    norm.set_weights([*([scale] if norm.scale else []), offset, mean, variance])


def _input_statistics(
    model: "keras.Model", norms: "Mapping[str, keras.layers.BatchNormalization]", faces: npt.NDArray[np.uint8]
) -> dict[str, tuple[Floats, Floats]]:
    """Return mean and variance of each channel that goes into a batch normalisation, by its name.

    Args:
        model: A network.
        norms: Batch normalisations of it, by any name.
        faces: uint8 array (n, size, size, 1), grey. FACES of them, from all over, are looked at.

    Returns:
        Two float32 arrays (channels,) each.
    """
    import keras

    if not norms:
        return {}
    spread = np.linspace(0, len(faces) - 1, min(FACES, len(faces))).astype(int)  # datasets stand sorted by class
    chosen = faces[spread]
    inside = keras.Model(model.input, {name: norm.input for name, norm in norms.items()})
    sums: dict[str, Any] = dict.fromkeys(norms, 0.0)
    squares: dict[str, Any] = dict.fromkeys(norms, 0.0)
    counts = dict.fromkeys(norms, 0)
    for start in range(0, len(chosen), BATCH):
        rgb = np.repeat(chosen[start : start + BATCH], 3, axis=-1).astype(np.float32)
        for name, output in inside.predict_on_batch(rgb).items():
            channels = np.asarray(output, np.float64).reshape(-1, output.shape[-1])
            sums[name] = sums[name] + channels.sum(axis=0)
            squares[name] = squares[name] + np.square(channels).sum(axis=0)
            counts[name] += len(channels)
    found = {}
    for name, count in counts.items():
        mean = sums[name] / count
        variance = np.maximum(squares[name] / count - mean**2, 0)
        found[name] = (mean.astype(np.float32), variance.astype(np.float32))
    return found
