"""Equalise the channels of activations, so that one int8 scale for all of them is fine enough for each.

A ReLU network answers the same when a channel is multiplied where it is made and divided by the same factor where it is
read. In int8 an activation has one scale for all its channels, so channels of like size lose less to rounding. The idea:
cross-layer equalisation, https://arxiv.org/abs/1906.04721; here by the sizes that faces give, and through concatenations.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import keras

# Exponents of a channel's size in its factor. What only depthwise convolutions read is made wholly equal: their weights have
# one scale per channel and lose nothing. Elsewhere the weights of one scale grow apart as the channels come together, and the
# square root shares the loss. Measured on CK+48 training faces, divergence of int8 from float in thousandths of a nat at
# 0 / 0.5 / 0.75 / 1 for all: VGG16 0.30 / 0.19 / 0.23 / 0.37, DenseNet121 16.7 / 11.5 / 4.8 / 0.8, and by this rule 0.9.
DEPTHWISE_EXPONENT, DENSE_EXPONENT = 1.0, 0.5
# Size of a channel: its peak on a face, of all faces this percentile. The largest would let one odd face decide: on one very
# dark face of FER2013 the late activations of a DenseNet121 grow 2000-fold, and of 256 calibration faces 92.6 % kept their
# label; by the 90th percentile it is 95.3 %.
PERCENTILE = 90.0
# A channel that faces hardly use is not blown up past this share of the largest: other faces may use it more.
SMALLEST_SHARE = 0.01
BATCH = 32

Channels = npt.NDArray[np.intp]


@dataclass(frozen=True)
class _Groups:
    """The channels of all tensors, and which of them must have one factor.

    Attributes:
        of_tensor: Group of each channel, by the id of the tensor.
        count: Number of groups.
        fixed: bool array (count,): whether the factor must be 1.
    """

    of_tensor: dict[int, Channels]
    count: int
    fixed: npt.NDArray[np.bool_]


def equalize(model: "keras.Model", faces: npt.NDArray[np.uint8]) -> "keras.Model":
    """Return the same network with the channels of its activations brought to like size.

    Args:
        model: A folded model, see fold_model: no batch normalisation.
        faces: Calibration faces, uint8 array (n, size, size, 3), RGB.

    Returns:
        A model with the same input and output, equal up to float rounding. Channels that go through anything but ReLU,
        pooling, padding, concatenation, addition and linear layers stay as they are: ReLU6 cuts at a fixed size.
    """
    import keras

    groups = _find_groups(model)
    factors = np.where(groups.fixed, 1.0, _sizes(model, groups, faces) ** -_exponents(model, groups))
    equal = keras.models.clone_model(model)
    for layer in model.layers:
        values = layer.get_weights()
        if not values:
            continue
        if _is_linear(layer):
            read, made = (factors[groups.of_tensor[id(tensor)]] for tensor in (layer.input, layer.output))
            values = _rescale(layer, values, read, made)
        equal.get_layer(layer.name).set_weights(values)
    return equal


def _find_groups(model: "keras.Model") -> _Groups:
    """Follow the channels through the network."""
    from keras import layers

    channels: dict[int, Channels] = {}
    joined: list[tuple[Channels, Channels]] = []
    fixed: list[Channels] = []
    total = 0
    for layer in model.layers:
        inputs = layer.input if isinstance(layer.input, list) else [layer.input]
        read = [channels[id(tensor)] for tensor in inputs if id(tensor) in channels]
        count = layer.output.shape[-1]
        if isinstance(layer, layers.Concatenate):
            made = np.concatenate(read)
        elif isinstance(layer, layers.Add):
            made = read[0]
            joined += [(made, other) for other in read[1:]]
        elif isinstance(layer, layers.Flatten):
            made = np.tile(read[0], count // len(read[0]))
        elif _passes_factors(layer) and not _is_linear(layer):
            made = read[0]
        else:
            made = np.arange(total, total + count)
            total += count
            if not _is_linear(layer):
                fixed += [made, *read]
            elif not _passes_factors(layer):
                fixed.append(made)
        channels[id(layer.output)] = made
    fixed.append(channels[id(model.output)])
    group, count = _join(joined, total)
    is_fixed = np.zeros(count, bool)
    is_fixed[group[np.concatenate(fixed)]] = True
    return _Groups({tensor: group[of_tensor] for tensor, of_tensor in channels.items()}, count, is_fixed)


def _join(joined: Sequence[tuple[Channels, Channels]], total: int) -> tuple[npt.NDArray[np.intp], int]:
    """Return the group of each of ``total`` channels, where joined ones share one, and the number of groups."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    pairs = np.concatenate([np.stack(pair) for pair in joined], axis=1) if joined else np.empty((2, 0), np.intp)
    graph = coo_matrix((np.ones(pairs.shape[1]), pairs), shape=(total, total))
    count, group = connected_components(graph, directed=False)
    return group, int(count)


def _is_linear(layer: "keras.Layer") -> bool:
    from keras import layers

    if isinstance(layer, layers.DepthwiseConv2D):
        return bool(layer.depth_multiplier == 1)
    return isinstance(layer, layers.Dense) or (isinstance(layer, layers.Conv2D) and layer.groups == 1)


def _passes_factors(layer: "keras.Layer") -> bool:
    """Tell whether a layer, or the activation inside it, gives factor times as much for factor times as much."""
    from keras import activations, layers

    if isinstance(layer, layers.ReLU):
        return layer.max_value is None and not layer.negative_slope and not layer.threshold
    if isinstance(layer, layers.Activation) or _is_linear(layer):
        return layer.activation in (activations.relu, activations.linear)
    pools = (layers.MaxPooling2D, layers.AveragePooling2D, layers.GlobalAveragePooling2D)
    return isinstance(layer, (*pools, layers.Dropout, layers.ZeroPadding2D))


def _exponents(model: "keras.Model", groups: _Groups) -> npt.NDArray[np.float64]:
    from keras import layers

    exponents = np.full(groups.count, DEPTHWISE_EXPONENT)
    for layer in model.layers:
        if _is_linear(layer) and not isinstance(layer, layers.DepthwiseConv2D):
            exponents[groups.of_tensor[id(layer.input)]] = DENSE_EXPONENT
    return exponents


def _sizes(model: "keras.Model", groups: _Groups, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Return the size of each group on the faces, at least SMALLEST_SHARE of its tensor's largest; 1 for 0."""
    import keras
    from keras import ops

    # What only goes on into a ReLU or a pooling is fused with it or keeps its scale: it is not rounded on its own.
    passed_on = {id(layer.input) for layer in model.layers if not _is_linear(layer) and _passes_factors(layer)}
    rounded = [layer.output for layer in model.layers if id(layer.output) not in passed_on]
    peaks = [ops.max(ops.abs(tensor), axis=tuple(range(1, len(tensor.shape) - 1))) for tensor in rounded]
    found = keras.Model(model.input, peaks).predict(faces.astype(np.float32), batch_size=BATCH, verbose=0)
    sizes = np.zeros(groups.count)
    for tensor, per_face in zip(rounded, found, strict=True):
        own = np.percentile(per_face, PERCENTILE, axis=0)
        np.maximum.at(sizes, groups.of_tensor[id(tensor)], np.maximum(own, SMALLEST_SHARE * own.max()))
    return np.where(sizes > 0, sizes, 1.0)


def _rescale(
    layer: "keras.Layer", values: list[Any], read: npt.NDArray[np.float64], made: npt.NDArray[np.float64]
) -> list[npt.NDArray[np.float32]]:
    from keras import layers

    kernel, *bias = values
    # A depthwise kernel is (height, width, channels, 1), all others (..., in, out).
    factors = (made / read)[:, None] if isinstance(layer, layers.DepthwiseConv2D) else made / read[:, None]
    kernel = kernel * factors
    return [np.asarray(value, np.float32) for value in (kernel, *(offset * made for offset in bias))]
