"""Copy a network to tf-keras (Keras 2), which tensorflow-model-optimization needs, and its weights back."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

# The layers of a folded network. Initializers and regularizers do not matter to trained weights.
SETTINGS: dict[str, tuple[str, ...]] = {
    "Conv2D": ("filters", "kernel_size", "strides", "padding", "dilation_rate", "groups", "activation", "use_bias"),
    "DepthwiseConv2D": ("kernel_size", "strides", "padding", "depth_multiplier", "dilation_rate", "activation", "use_bias"),
    "Dense": ("units", "activation", "use_bias"),
    "Activation": ("activation",),
    "ReLU": ("max_value", "negative_slope", "threshold"),
    "Softmax": ("axis",),
    "ZeroPadding2D": ("padding",),
    "MaxPooling2D": ("pool_size", "strides", "padding"),
    "AveragePooling2D": ("pool_size", "strides", "padding"),
    "GlobalAveragePooling2D": ("keepdims",),
    "Concatenate": ("axis",),
    "Add": (),
    "Flatten": (),
    "Reshape": ("target_shape",),
}
SKIPPED = ("Dropout",)


def import_tf_keras() -> Any:
    """Import tf-keras.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        import tf_keras
    except ImportError as error:
        raise ImportError(
            f"tf-keras cannot be imported ({error}). Fine-tuning needs it: pip install 'fer-edge[convert]'"
        ) from error
    return tf_keras


def to_tf_keras(model: "keras.Model") -> Any:
    """Rebuild a folded Keras 3 network in tf-keras, with its weights.

    Args:
        model: A functional model that uses each layer once, without batch normalization; see fold_model.

    Returns:
        A tf_keras.Model with equal outputs, without dropout.

    Raises:
        ValueError: If it has a layer that cannot be rebuilt, such as batch normalization.
    """
    tf_keras = import_tf_keras()
    tensors = {id(model.input): tf_keras.Input(model.input_shape[1:], name="face")}
    pairs = []
    for layer in model.layers[1:]:
        kind = type(layer).__name__
        several = isinstance(layer.input, list)
        inputs = [tensors[id(tensor)] for tensor in (layer.input if several else [layer.input])]
        if kind in SKIPPED:
            tensors[id(layer.output)] = inputs[0]
            continue
        if kind not in SETTINGS:
            raise ValueError(
                f"layer '{layer.name}' is a {kind}, which fine-tuning does not support. Batch normalization must be folded "
                f"into convolutions first, as fer-edge convert does. Supported: {', '.join(SETTINGS)}"
            )
        settings = {key: value for key, value in layer.get_config().items() if key in SETTINGS[kind]}
        # The activation becomes a layer, so that the ranges before and after it are accessible.
        activation = settings.pop("activation", None) if layer.weights else None
        copy = getattr(tf_keras.layers, kind)(name=layer.name, **settings)
        output = copy(inputs if several else inputs[0])
        if activation not in (None, "linear"):
            output = tf_keras.layers.Activation(activation, name=f"{layer.name}_{activation}")(output)
        tensors[id(layer.output)] = output
        pairs.append((layer, copy))
    result = tf_keras.Model(tensors[id(model.input)], tensors[id(model.output)], name=model.name)
    for layer, copy in pairs:
        copy.set_weights(layer.get_weights())
    return result


def copy_weights_back(find_layer: Callable[[str], Any], model: "keras.Model") -> "keras.Model":
    """Return a copy of a Keras 3 model with the weights of tf-keras layers.

    Args:
        find_layer: Returns the tf-keras layer, or its wrapper, that has the weights of the layer with this name.
        model: The Keras 3 model.
    """
    import keras

    result = keras.models.clone_model(model)
    for layer in result.layers:
        if layer.weights:
            weights = {
                weight.name.rpartition("/")[2].partition(":")[0]: weight.numpy() for weight in find_layer(layer.name).weights
            }
            kernel = weights["depthwise_kernel" if "depthwise_kernel" in weights else "kernel"]
            layer.set_weights([kernel, *([weights["bias"]] if "bias" in weights else [])])
    return result
