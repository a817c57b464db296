"""Fold the grey conversion and the scaling of the input into the network's first convolution."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras

GREY_LAYER = "to_grey"


def fold_input(model: "keras.Model") -> "keras.Model":
    """Return the same network without its ``to_grey`` layer, its first convolution reading RGB 0..255 itself.

    ``to_grey`` is linear without offset: grey = sum_c luma_c rgb_c / 255. So the first convolution's kernel for
    channel c is the grey kernel times luma_c / 255, and zero padding means black before and after.

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

    def call(layer: "keras.Layer", *args: Any, **kwargs: Any) -> Any:
        return args[0] if layer.name == GREY_LAYER else layer(*args, **kwargs)

    folded = keras.models.clone_model(model, call_function=call)
    luma = weighted[0].get_weights()[0].reshape(-1)
    for original in weighted[1:]:
        values = original.get_weights()
        if original is weighted[1]:
            values[0] = values[0] * luma[None, None, :, None].astype(np.float32)
        folded.get_layer(original.name).set_weights(values)
    return folded
