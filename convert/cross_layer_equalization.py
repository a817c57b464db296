"""Scale the channels of activations to similar magnitudes, so that a single int8 scale suits all of them.

A ReLU network computes the same if a channel is multiplied where it is written and divided by the same factor where it is
read. In int8 all channels of an activation share one scale, so channels of similar magnitude lose less to rounding. Source:
cross-layer equalization, https://arxiv.org/abs/1906.04721. Here the magnitudes are measured on faces, and factors pass through
concatenations.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import keras

# The factor of a channel is its magnitude to the power of minus this exponent. Channels that only depthwise convolutions read
# become equal: depthwise weights have one scale per channel and lose nothing. Elsewhere weights that share a scale diverge as
# the channels converge, and the square root divides the loss between them. Measured on CK+48 training faces, divergence of
# int8 from float in thousandths of a nat with the exponents 0 / 0.5 / 0.75 / 1 for all channels: VGG16 0.30 / 0.19 / 0.23 /
# 0.37, DenseNet121 16.7 / 11.5 / 4.8 / 0.8, and 0.9 with this rule.
DEPTHWISE_EXPONENT, DENSE_EXPONENT = 1.0, 0.5
# The magnitude of a channel is this percentile over the faces of its peak per face. With the maximum a single face can decide:
# on one very dark face of FER2013 the late activations of a DenseNet121 grow 2000-fold, and 92.6 % of 256 calibration faces
# kept their label; with the 90th percentile 95.3 % did.
PERCENTILE = 90.0
# Lower bound of a magnitude, as a fraction of the largest in its tensor: other faces may use the channel more.
MIN_RELATIVE_MAGNITUDE = 0.01
BATCH = 32

Channels = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Groups:
    """The channels of all tensors, in groups that must share one factor.

    Attributes:
        of_tensor: Group of each channel, by the id of the tensor.
        count: Number of groups.
        fixed: Whether the factor of a group must be 1, bool array (count,).
    """

    of_tensor: dict[int, Channels]
    count: int
    fixed: npt.NDArray[np.bool_]


def equalize(model: "keras.Model", faces: npt.NDArray[np.uint8]) -> "keras.Model":
    """Return the same network with the channels of its activations scaled to similar magnitudes.

    Args:
        model: A folded model without batch normalization, see fold_model.
        faces: Calibration faces, uint8 array (n, size, size, 3), RGB.

    Returns:
        A model with the same input and output, equal up to float rounding. Only channels between linear layers, ReLU, pooling,
        padding, concatenation and addition change. ReLU6, for example, clips at a fixed value, so its input keeps its scale.
    """
    import keras

    groups = _find_groups(model)
    factors = np.where(groups.fixed, 1.0, _magnitudes(model, groups, faces) ** -_exponents(model, groups))
    equalized = keras.models.clone_model(model)
    for layer in model.layers:
        weights = layer.get_weights()
        if not weights:
            continue
        if _is_linear(layer):
            of_input, of_output = (factors[groups.of_tensor[id(tensor)]] for tensor in (layer.input, layer.output))
            weights = _rescale(layer, weights, of_input, of_output)
        equalized.get_layer(layer.name).set_weights(weights)
    return equalized


def _find_groups(model: "keras.Model") -> _Groups:
    """Follow the channels through the network, layer by layer.

    Each channel of a tensor has a number. A layer whose output channels are its input channels passes the numbers on; a layer
    that mixes channels gives its output new numbers. Two tensors that are added must have one factor per channel, so their
    numbers are joined to groups at the end.
    """
    from keras import layers

    numbers: dict[int, Channels] = {}  # by the id of the tensor
    same_factor: list[tuple[Channels, Channels]] = []
    fixed: list[Channels] = []
    total = 0
    for layer in model.layers:
        tensors = layer.input if isinstance(layer.input, list) else [layer.input]
        inputs = [numbers[id(tensor)] for tensor in tensors if id(tensor) in numbers]
        passed_on = _passed_on(layer, inputs)
        if passed_on is not None:
            output = passed_on
            if isinstance(layer, layers.Add):
                same_factor += [(output, other) for other in inputs[1:]]
        else:
            output = np.arange(total, total + layer.output.shape[-1])
            total += len(output)
            if not _is_linear(layer):
                fixed += [*inputs, output]  # an unknown function: neither side may be scaled
            elif not _is_homogeneous(layer):
                fixed.append(output)  # its weights can undo a factor of the input, but its activation fixes the output
        numbers[id(layer.output)] = output
    fixed.append(numbers[id(model.output)])
    group, count = _join(same_factor, total)
    is_fixed = np.zeros(count, bool)
    is_fixed[group[np.concatenate(fixed)]] = True
    return _Groups({tensor: group[channels] for tensor, channels in numbers.items()}, count, is_fixed)


def _passed_on(layer: "keras.Layer", inputs: list[Channels]) -> Channels | None:
    """Return the channel numbers of a layer's output if they are those of its inputs; None if the layer mixes channels."""
    from keras import layers

    if isinstance(layer, layers.Concatenate):
        return np.concatenate(inputs)
    if isinstance(layer, layers.Flatten):  # repeats the channels once per position
        return np.tile(inputs[0], layer.output.shape[-1] // len(inputs[0]))
    if isinstance(layer, layers.Add) or (_is_homogeneous(layer) and not _is_linear(layer)):
        return inputs[0]
    return None


def _join(same_factor: Sequence[tuple[Channels, Channels]], total: int) -> tuple[Channels, int]:
    """Join channels that must share one factor.

    Args:
        same_factor: Pairs of channel numbers, equally long.
        total: Number of channels.

    Returns:
        The group of each channel, and the number of groups.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    pairs = np.concatenate([np.stack(pair) for pair in same_factor], axis=1) if same_factor else np.empty((2, 0), np.intp)
    graph = coo_matrix((np.ones(pairs.shape[1]), pairs), shape=(total, total))
    count, group = connected_components(graph, directed=False)
    return group, int(count)


def _is_linear(layer: "keras.Layer") -> bool:
    from keras import layers

    if isinstance(layer, layers.DepthwiseConv2D):
        return bool(layer.depth_multiplier == 1)
    return isinstance(layer, layers.Dense) or (isinstance(layer, layers.Conv2D) and layer.groups == 1)


def _is_homogeneous(layer: "keras.Layer") -> bool:
    """Return whether a layer, or its activation, is positively homogeneous: f(k x) = k f(x) for k > 0."""
    from keras import activations, layers

    if isinstance(layer, layers.ReLU):
        return layer.max_value is None and not layer.negative_slope and not layer.threshold
    if isinstance(layer, layers.Activation) or _is_linear(layer):
        return layer.activation in (activations.relu, activations.linear)
    pools = (layers.MaxPooling2D, layers.AveragePooling2D, layers.GlobalAveragePooling2D)
    return isinstance(layer, (*pools, layers.Dropout, layers.ZeroPadding2D))


def _exponents(model: "keras.Model", groups: _Groups) -> Floats:
    from keras import layers

    exponents = np.full(groups.count, DEPTHWISE_EXPONENT)
    for layer in model.layers:
        if _is_linear(layer) and not isinstance(layer, layers.DepthwiseConv2D):
            exponents[groups.of_tensor[id(layer.input)]] = DENSE_EXPONENT
    return exponents


def _magnitudes(model: "keras.Model", groups: _Groups, faces: npt.NDArray[np.uint8]) -> Floats:
    """Return the magnitude of each group on the faces, > 0. Groups without activation have magnitude 1."""
    import keras
    from keras import ops

    # A tensor that only enters a ReLU or a pooling is fused with it or keeps its scale: it is not rounded separately.
    fused = {id(layer.input) for layer in model.layers if not _is_linear(layer) and _is_homogeneous(layer)}
    rounded = [layer.output for layer in model.layers if id(layer.output) not in fused]
    peaks = [ops.max(ops.abs(tensor), axis=tuple(range(1, len(tensor.shape) - 1))) for tensor in rounded]
    peaks_per_face = keras.Model(model.input, peaks).predict(faces.astype(np.float32), batch_size=BATCH, verbose=0)
    magnitudes = np.zeros(groups.count)
    for tensor, values in zip(rounded, peaks_per_face, strict=True):
        of_tensor = np.percentile(values, PERCENTILE, axis=0)
        bounded = np.maximum(of_tensor, MIN_RELATIVE_MAGNITUDE * of_tensor.max())
        np.maximum.at(magnitudes, groups.of_tensor[id(tensor)], bounded)
    return np.where(magnitudes > 0, magnitudes, 1.0)


def _rescale(layer: "keras.Layer", weights: list[Any], of_input: Floats, of_output: Floats) -> list[npt.NDArray[np.float32]]:
    """Return the weights of a linear layer whose input and output channels are multiplied by factors.

    Args:
        layer: The layer.
        weights: Its kernel, and its bias if it has one.
        of_input: Factor of each input channel.
        of_output: Factor of each output channel.
    """
    from keras import layers

    kernel, *bias = weights
    # A depthwise kernel is (height, width, channels, 1), all others (..., in, out).
    depthwise = isinstance(layer, layers.DepthwiseConv2D)
    factors = (of_output / of_input)[:, None] if depthwise else of_output / of_input[:, None]
    return [np.asarray(values, np.float32) for values in (kernel * factors, *(offset * of_output for offset in bias))]
