"""Fold gray conversion, input scaling and batch normalization into the weights of linear layers."""

from typing import TYPE_CHECKING, Any

import numpy as np

from fer_edge.artifacts.batch_norm import Floats, scale_and_offset
from fer_edge.artifacts.run_folder import GRAY_LAYER

if TYPE_CHECKING:
    import keras


def fold_model(model: "keras.Model") -> "keras.Model":
    """Return the same network without its ``to_gray`` layer and without batch normalization.

    ``to_gray`` is linear without offset: gray = sum_c luma_c rgb_c / 255. So the kernel of the first convolution for channel c
    is the gray kernel times luma_c / 255, and zero padding stays black.

    Batch normalization is a scale and an offset per channel. After a convolution or a dense layer it is folded into the weights
    of that layer. Elsewhere (DenseNet121 has 62 after a concatenation) it becomes a 1 x 1 depthwise convolution: equal in
    float, and in int8 one operator with a scale per channel and a fused activation. TensorFlow's converter would leave a
    multiplication and an addition, which round twice.

    Args:
        model: From RGB 0..255 to probabilities; its first layers are ``to_gray`` and a convolution.

    Returns:
        A model with the same input and output, equal up to float rounding.

    Raises:
        ValueError: If the first layers are others.
    """
    import keras

    gray, first, *others = [layer for layer in model.layers if layer.weights]
    if gray.name != GRAY_LAYER or not isinstance(first, keras.layers.Conv2D):
        raise ValueError(
            f"the first layers of '{model.name}' are not {GRAY_LAYER} and a convolution: it is not a fer-edge model"
        )
    norm_after = _norms_after_linear_layers(model)
    removed = {GRAY_LAYER, *(norm.name for norm in norm_after.values())}
    folded = _clone(model, norm_after, removed)
    luma = gray.get_weights()[0].reshape(-1)[None, None, :, None]
    for layer in (first, *others):
        if layer.name in removed:
            continue
        weights = layer.get_weights()
        if layer.name in norm_after:
            weights = _fold_norm(layer, weights, norm_after[layer.name])
        elif _is_spatial_norm(layer):
            scale, offset = _scale_and_offset(layer)
            weights = [scale[None, None, :, None], offset]
        if layer is first:
            weights[0] = weights[0] * luma
        folded.get_layer(layer.name).set_weights([np.asarray(values, np.float32) for values in weights])
    return folded


def _clone(model: "keras.Model", norm_after: "dict[str, keras.layers.BatchNormalization]", removed: set[str]) -> "keras.Model":
    """Return the folded network with new weights.

    Args:
        model: The network.
        norm_after: Batch normalization to fold by the name of the layer before it.
        removed: Names of the layers that the folded network lacks.
    """
    import keras

    def clone(layer: "keras.Layer") -> "keras.Layer":
        if layer.name not in removed and _is_spatial_norm(layer):
            return keras.layers.DepthwiseConv2D(1, name=layer.name)
        bias = {"use_bias": True} if layer.name in norm_after else {}
        return type(layer).from_config({**layer.get_config(), **bias})

    def call(layer: "keras.Layer", *args: Any, **kwargs: Any) -> Any:
        # Without kwargs: the keyword arguments of a replaced layer (a mask) do not fit its replacement.
        return args[0] if layer.name in removed else layer(*args)

    return keras.models.clone_model(model, clone_function=clone, call_function=call)


def _norms_after_linear_layers(model: "keras.Model") -> "dict[str, keras.layers.BatchNormalization]":
    """Return each batch normalization that can be folded into the layer before it, by the name of that layer."""
    import keras

    linear = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)
    writers = {id(layer.output): layer for layer in model.layers}
    readers: dict[int, int] = {}
    for layer in model.layers:
        for tensor in layer.input if isinstance(layer.input, list) else [layer.input]:
            readers[id(tensor)] = readers.get(id(tensor), 0) + 1
    norms = {}
    for layer in model.layers:
        if not isinstance(layer, keras.layers.BatchNormalization):
            continue
        before = writers[id(layer.input)]
        if isinstance(before, linear) and before.activation is keras.activations.linear and readers[id(layer.input)] == 1:
            norms[before.name] = layer
    return norms


def _is_spatial_norm(layer: "keras.Layer") -> bool:
    import keras

    return isinstance(layer, keras.layers.BatchNormalization) and len(layer.input.shape) == 4


def _scale_and_offset(norm: "keras.layers.BatchNormalization") -> tuple[Floats, Floats]:
    from keras import ops

    def numbers(values: Any) -> Any:
        return None if values is None else ops.convert_to_numpy(values)

    mean, variance, gamma, beta = map(numbers, (norm.moving_mean, norm.moving_variance, norm.gamma, norm.beta))
    return scale_and_offset(mean, variance, norm.epsilon, gamma, beta)


def _fold_norm(layer: "keras.Layer", weights: list[Any], norm: "keras.layers.BatchNormalization") -> list[Any]:
    """Return kernel and bias of a linear layer with the batch normalization after it folded in."""
    import keras

    scale, offset = _scale_and_offset(norm)
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    # A depthwise kernel is (height, width, channels, multiplier): the last two together are its output channels.
    kernel = weights[0] * (scale.reshape(weights[0].shape[-2:]) if depthwise else scale)
    bias = weights[1] if len(weights) > 1 else 0.0
    return [kernel, bias * scale + offset]
