"""The same network in tf-keras (Keras 2), which tensorflow-model-optimization needs, and its weights back."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

# What a folded network is made of. Settings that say how weights begin or are penalised do not matter to a finished one.
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
    """Build a folded Keras 3 network again in tf-keras, with its weights.

    Args:
        model: A functional model that uses each layer once, without batch normalisation; see fold_model.

    Returns:
        A tf_keras.Model with equal outputs, without dropout.

    Raises:
        ValueError: If it has a layer that cannot be built again, batch normalisation for one.
    """
    tf_keras = import_tf_keras()
    tensors = {id(model.input): tf_keras.Input(model.input_shape[1:], name="face")}
    twins = []
    for layer in model.layers[1:]:
        kind = type(layer).__name__
        several = isinstance(layer.input, list)
        inputs = [tensors[id(tensor)] for tensor in (layer.input if several else [layer.input])]
        if kind in SKIPPED:
            tensors[id(layer.output)] = inputs[0]
            continue
        if kind not in SETTINGS:
            raise ValueError(
                f"layer '{layer.name}' is a {kind}, which fine-tuning cannot take. Batch normalisation must be folded "
                f"into convolutions first, as fer-edge convert does; it takes: {', '.join(SETTINGS)}"
            )
        settings = {key: value for key, value in layer.get_config().items() if key in SETTINGS[kind]}
        # Apart, so that the ranges before and behind the activation are both to be had.
        activation = settings.pop("activation", None) if layer.weights else None
        twin = getattr(tf_keras.layers, kind)(name=layer.name, **settings)
        output = twin(inputs if several else inputs[0])
        if activation not in (None, "linear"):
            output = tf_keras.layers.Activation(activation, name=f"{layer.name}_{activation}")(output)
        tensors[id(layer.output)] = output
        twins.append((layer, twin))
    built = tf_keras.Model(tensors[id(model.input)], tensors[id(model.output)], name=model.name)
    for layer, twin in twins:
        twin.set_weights(layer.get_weights())
    return built


def copy_weights_back(find_layer: Callable[[str], Any], model: "keras.Model") -> "keras.Model":
    """Return a copy of ``model`` with other weights.

    Args:
        find_layer: Gives the tf-keras layer, or its wrapper, that carries the weights of the layer of this name.
        model: The Keras 3 model.
    """
    import keras

    copy = keras.models.clone_model(model)
    for layer in copy.layers:
        if layer.weights:
            found = {
                weight.name.rpartition("/")[2].partition(":")[0]: weight.numpy() for weight in find_layer(layer.name).weights
            }
            kernel = found["depthwise_kernel" if "depthwise_kernel" in found else "kernel"]
            layer.set_weights([kernel, *([found["bias"]] if "bias" in found else [])])
    return copy
