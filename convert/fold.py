"""Fold what is linear into the convolutions: grey conversion, scaling of the input, batch normalisation."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras

GREY_LAYER = "to_grey"


def fold_model(model: "keras.Model") -> "keras.Model":
    """Return the same network without its ``to_grey`` layer and without batch normalisation.

    ``to_grey`` is linear without offset: grey = sum_c luma_c rgb_c / 255. So the first convolution's kernel for
    channel c is the grey kernel times luma_c / 255, and zero padding means black before and after.

    Batch normalisation is a scale and an offset per channel. Behind a convolution or a dense layer it goes into that
    layer's weights. Elsewhere (DenseNet121 has 62 that follow a concatenation) it becomes a 1 x 1 depthwise convolution: equal
    in float, and in int8 one operator with a scale per channel and the activation fused, where TensorFlow's converter
    leaves a multiplication and an addition that round twice.

    Args:
        model: From RGB 0..255 to probabilities, beginning with ``to_grey`` and a convolution.

    Returns:
        A model with the same input and output, equal up to float rounding.

    Raises:
        ValueError: If the model does not begin so.
    """
    import keras

    weighted = [layer for layer in model.layers if layer.weights]
    if weighted[0].name != GREY_LAYER or not isinstance(weighted[1], keras.layers.Conv2D):
        raise ValueError(f"'{model.name}' does not begin with {GREY_LAYER} and a convolution: it was not trained by fer-edge")
    norms = _folded_norms(model)
    gone = {GREY_LAYER, *(norm.name for norm in norms.values())}

    def clone(layer: "keras.Layer") -> "keras.Layer":
        config = layer.get_config()
        if layer.name in norms:
            return type(layer).from_config({**config, "use_bias": True})
        if _stands_alone(layer, gone):
            return keras.layers.DepthwiseConv2D(1, name=layer.name)
        return type(layer).from_config(config)

    def call(layer: "keras.Layer", *args: Any, **kwargs: Any) -> Any:
        # Without the keyword arguments: those of a replaced layer (a mask) are not its replacement's.
        return args[0] if layer.name in gone else layer(*args)

    folded = keras.models.clone_model(model, clone_function=clone, call_function=call)
    luma = weighted[0].get_weights()[0].reshape(-1)[None, None, :, None]
    for original in weighted[1:]:
        if original.name in gone:
            continue
        values = original.get_weights()
        if original.name in norms:
            values = _with_norm(original, values, norms[original.name])
        elif _stands_alone(original, gone):
            scale, offset = _scale_and_offset(original)
            values = [scale[None, None, :, None], offset]
        if original is weighted[1]:
            values[0] = values[0] * luma
        folded.get_layer(original.name).set_weights([np.asarray(value, np.float32) for value in values])
    return folded


def _folded_norms(model: "keras.Model") -> "dict[str, keras.layers.BatchNormalization]":
    """Return, by the name of the layer before it, each batch normalisation that can go into that layer's weights."""
    import keras

    linear = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)
    makers = {id(layer.output): layer for layer in model.layers}
    readers: dict[int, int] = {}
    for layer in model.layers:
        for tensor in layer.input if isinstance(layer.input, list) else [layer.input]:
            readers[id(tensor)] = readers.get(id(tensor), 0) + 1
    found = {}
    for layer in model.layers:
        if not isinstance(layer, keras.layers.BatchNormalization):
            continue
        before = makers[id(layer.input)]
        if isinstance(before, linear) and before.activation is keras.activations.linear and readers[id(layer.input)] == 1:
            found[before.name] = layer
    return found


def _stands_alone(layer: "keras.Layer", gone: set[str]) -> bool:
    import keras

    return isinstance(layer, keras.layers.BatchNormalization) and layer.name not in gone and len(layer.input.shape) == 4


def _scale_and_offset(norm: "keras.layers.BatchNormalization") -> tuple[Any, Any]:
    """Return scale and offset per channel, float64: norm(x) = scale * x + offset."""
    from keras import ops

    def numbers(values: Any) -> Any:
        return np.asarray(ops.convert_to_numpy(values), np.float64)

    scale = 1 / np.sqrt(numbers(norm.moving_variance) + norm.epsilon)
    if norm.gamma is not None:
        scale = scale * numbers(norm.gamma)
    offset = -numbers(norm.moving_mean) * scale
    return scale, offset if norm.beta is None else offset + numbers(norm.beta)


def _with_norm(layer: "keras.Layer", values: list[Any], norm: "keras.layers.BatchNormalization") -> list[Any]:
    """Return kernel and bias of a layer with the batch normalisation behind it worked in."""
    import keras

    scale, offset = _scale_and_offset(norm)
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    # A depthwise kernel is (height, width, channels, multiplier), its output channels are the last two together.
    kernel = values[0] * (scale.reshape(values[0].shape[-2:]) if depthwise else scale)
    bias = values[1] if len(values) > 1 else 0.0
    return [kernel, bias * scale + offset]
