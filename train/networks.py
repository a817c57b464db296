"""The networks: five of the comparison, cnn_nano, and some that only teach. From RGB 0..255 to probabilities.

The first layer, ``to_gray``, converts RGB 0..255 to one gray channel 0..1. It is linear without offset, so conversion folds it
into the first convolution of the network (zero padding is black before and after).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.run_folder import GRAY_LAYER
from fer_edge.train.gray_stem import CAFFE, MINUS_ONE_TO_ONE, TORCH, ImageNetScaling
from fer_edge.train.teaching_networks import resnet18, vgg19, wide_resnet

if TYPE_CHECKING:
    import keras

OUTPUT_LAYER = "probabilities"
TEACHER_LAYER = "teachers"  # of a trainer; its weights are those of other models
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, the weights of OpenCV's RGB to gray
HEAD_DROPOUT = 0.3


@dataclass(frozen=True)
class Network:
    """One network of the comparison.

    Attributes:
        build: build(gray, num_classes) -> output tensor, from a gray tensor (batch, size, size, 1) in 0..1.
        image_size: Default side of the input, pixels.
        min_image_size: Minimum side of the input, pixels.
        source: Where it was published.
        application: Name in keras.applications; None for other networks.
        scaling: ImageNet scaling of the application.
        bn_offset: Initial offset (beta) of batch normalization. Above 0 most inputs of a ReLU are positive and pass
            unchanged, which limits gradients that grow from layer to layer.
        compared: Whether it is one of the five networks of the published comparison.
        teaches: Whether it is only meant to teach the others.
    """

    build: Callable[["keras.KerasTensor", int], "keras.KerasTensor"]
    image_size: int
    min_image_size: int
    source: str
    application: str | None = None
    scaling: ImageNetScaling | None = None
    bn_offset: float = 0.0
    compared: bool = True
    teaches: bool = False


def _cnn(gray: "keras.KerasTensor", num_classes: int) -> "keras.KerasTensor":
    """Three blocks of convolution, batch normalization, pooling and dropout; then fully connected layers."""
    from keras import layers

    x = gray
    for block, filters in enumerate((32, 64, 128), start=1):
        for half in "ab":
            x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"block{block}_conv_{half}")(x)
            x = layers.BatchNormalization(name=f"block{block}_bn_{half}")(x)
            x = layers.ReLU(name=f"block{block}_relu_{half}")(x)
        x = layers.MaxPooling2D(name=f"block{block}_pool")(x)
        x = layers.Dropout(0.1, name=f"block{block}_dropout")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(128, use_bias=False, name="fc")(x)
    x = layers.BatchNormalization(name="fc_bn")(x)
    x = layers.ReLU(name="fc_relu")(x)
    x = layers.Dropout(0.25, name="fc_dropout")(x)
    return layers.Dense(num_classes, activation="softmax", dtype="float32", name=OUTPUT_LAYER)(x)


def _cnn_nano(gray: "keras.KerasTensor", num_classes: int, last_filters: int = 96) -> "keras.KerasTensor":
    """The three blocks of cnn, residual and narrow, after a stem at full resolution, for an int8 file of less than 100 KB.

    File size determines the architecture. In int8 a weight takes one byte, but each output channel of a convolution takes 12
    more bytes (scale, bias and its scale), and a depthwise channel takes 21 bytes in total. So the layers with many pixels have
    few channels and full 3 x 3 convolutions, which also run fastest on a CPU. The later blocks, of 12 x 12 and 6 x 6 pixels for
    faces of 48 pixels, are wide and separable. Average pooling replaces the fully connected layer, which has 590,000 weights in
    cnn. All activations are ReLU: swish-like activations lose accuracy in int8.
    """
    from keras import layers

    def convolution(x: "keras.KerasTensor", filters: int, name: str, size: int = 3) -> "keras.KerasTensor":
        x = layers.Conv2D(filters, size, padding="same", use_bias=False, name=f"{name}_conv")(x)
        return layers.BatchNormalization(name=f"{name}_bn")(x)

    def separable(x: "keras.KerasTensor", filters: int, name: str) -> "keras.KerasTensor":
        x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name=f"{name}_depthwise")(x)
        return convolution(x, filters, name, size=1)

    def block(
        x: "keras.KerasTensor", layer: Callable[..., "keras.KerasTensor"], filters: int, name: str, parts: str
    ) -> "keras.KerasTensor":
        x = layers.ReLU(name=f"{name}_relu_a")(layer(x, filters, f"{name}_a"))
        for part in parts:
            x = layers.Add(name=f"{name}_add_{part}")([x, layer(x, filters, f"{name}_{part}")])
            x = layers.ReLU(name=f"{name}_relu_{part}")(x)
        return x

    x = block(gray, convolution, 16, "stem", "b")
    x = layers.MaxPooling2D(name="block1_pool")(x)
    x = block(x, convolution, 32, "block1", "b")
    x = layers.MaxPooling2D(name="block2_pool")(x)
    x = block(x, separable, 64, "block2", "bcd")
    x = layers.MaxPooling2D(name="block3_pool")(x)
    x = block(x, separable, last_filters, "block3", "bc")
    x = layers.GlobalAveragePooling2D(name="average")(x)
    x = layers.Dropout(0.1, name="dropout")(x)
    return layers.Dense(num_classes, activation="softmax", dtype="float32", name=OUTPUT_LAYER)(x)


def _classifier(
    features: Callable[["keras.KerasTensor"], "keras.KerasTensor"], dropout: float
) -> Callable[["keras.KerasTensor", int], "keras.KerasTensor"]:
    def build(gray: "keras.KerasTensor", num_classes: int) -> "keras.KerasTensor":
        from keras import layers

        x = layers.GlobalAveragePooling2D(name="average")(features(gray))
        x = layers.Dropout(dropout, name="dropout")(x)
        return layers.Dense(num_classes, activation="softmax", dtype="float32", name=OUTPUT_LAYER)(x)

    return build


def _application(name: str) -> Callable[["keras.KerasTensor", int], "keras.KerasTensor"]:
    def features(gray: "keras.KerasTensor") -> "keras.KerasTensor":
        import keras

        return getattr(keras.applications, name)(include_top=False, weights=None, input_tensor=gray).output

    return _classifier(features, HEAD_DROPOUT)


NETWORKS: dict[str, Network] = {
    "cnn": Network(
        build=_cnn,
        image_size=48,
        min_image_size=32,
        source="the published comparison: three convolutional blocks, then fully connected layers",
    ),
    "vgg16": Network(
        build=_application("VGG16"),
        image_size=48,
        min_image_size=32,
        application="VGG16",
        scaling=CAFFE,
        source="https://arxiv.org/abs/1409.1556",
    ),
    "inception_v3": Network(
        build=_application("InceptionV3"),
        image_size=96,
        min_image_size=75,
        application="InceptionV3",
        scaling=MINUS_ONE_TO_ONE,
        # Measured on 64 FER2013 faces, 75 px, random weights: the gradient of the first convolution, relative to its weights,
        # is 1900 times that of the last convolution with an offset of 0, and 68 times with an offset of 1.
        bn_offset=1.0,
        source="https://arxiv.org/abs/1512.00567",
    ),
    "mobilenet_v2": Network(
        build=_application("MobileNetV2"),
        image_size=96,
        min_image_size=32,
        application="MobileNetV2",
        scaling=MINUS_ONE_TO_ONE,
        source="https://arxiv.org/abs/1801.04381",
    ),
    "densenet121": Network(
        build=_application("DenseNet121"),
        image_size=96,
        min_image_size=32,
        application="DenseNet121",
        scaling=TORCH,
        source="https://arxiv.org/abs/1608.06993",
    ),
    "cnn_nano": Network(
        build=_cnn_nano,
        image_size=48,
        min_image_size=32,
        source="ours: the three blocks of cnn, narrow and residual, for files under 100 KB",
        compared=False,
    ),
    "resnet18": Network(
        build=_classifier(resnet18, HEAD_DROPOUT),
        image_size=48,
        min_image_size=32,
        source="https://arxiv.org/abs/1512.03385",
        compared=False,
        teaches=True,
    ),
    "wide_resnet": Network(
        build=_classifier(wide_resnet, HEAD_DROPOUT),
        image_size=48,
        min_image_size=32,
        source="https://arxiv.org/abs/1605.07146",
        compared=False,
        teaches=True,
    ),
    "vgg19": Network(
        build=_classifier(vgg19, 0.5),
        image_size=48,
        min_image_size=32,
        source="https://arxiv.org/abs/1409.1556, with batch normalization",
        compared=False,
        teaches=True,
    ),
    "mobilenet_v1": Network(
        build=_application("MobileNet"),
        image_size=96,
        min_image_size=32,
        application="MobileNet",
        scaling=MINUS_ONE_TO_ONE,
        source="https://arxiv.org/abs/1704.04861",
        compared=False,
        teaches=True,
    ),
}


def find_network(name: str) -> Network:
    """Return the network called ``name``.

    Raises:
        ValueError: If there is none.
    """
    if name not in NETWORKS:
        raise ValueError(f"unknown network '{name}'; choose one of: {', '.join(NETWORKS)}")
    return NETWORKS[name]


def check_image_size(name: str, image_size: int | None) -> int:
    """Return the side of the input, pixels.

    Args:
        name: One of NETWORKS.
        image_size: The requested side, pixels; None for the default of the network.

    Raises:
        ValueError: If the network is unknown or the size is below its minimum.
    """
    network = find_network(name)
    size = network.image_size if image_size is None else image_size
    if size < network.min_image_size:
        raise ValueError(f"{name} needs an image size of at least {network.min_image_size}. Received: image_size={size}")
    return size


def new_session() -> None:
    """Start a session of Keras. InceptionV3 numbers its layers across all models of a session."""
    import keras

    policy = keras.config.dtype_policy()
    keras.backend.clear_session()
    keras.config.set_dtype_policy(policy)  # clear_session resets it


def build_network(
    name: str,
    image_size: int,
    num_classes: int,
    bn_momentum: float = 0.99,
    keep_session: bool = False,
    head_dropout: float | None = None,
    last_filters: int | None = None,
) -> "keras.Model":
    """Build a network with random weights.

    Args:
        name: One of NETWORKS.
        image_size: Side of the input, pixels.
        num_classes: Number of outputs.
        bn_momentum: Momentum of batch normalization. Keras's MobileNetV2 has 0.999, which is too slow for short training.
        keep_session: Whether to build in the current session, which was started for this network. A new one forgets among
            which devices its batches are divided.
        last_filters: Channels of the last block of cnn_nano; None for its default.
        head_dropout: Fraction of the features that are dropped before the last layer; None for that of the network.

    Returns:
        A model from float32 (batch, image_size, image_size, 3), RGB 0..255, to float32 (batch, num_classes), softmax.

    Raises:
        ValueError: If the name is unknown or the size is too small.
    """
    import keras

    size = check_image_size(name, image_size)
    network = NETWORKS[name]
    if not keep_session:
        new_session()
    rgb = keras.Input((size, size, 3), name="face")
    to_gray = keras.layers.Conv2D(1, 1, use_bias=False, trainable=False, name=GRAY_LAYER)
    build = network.build if last_filters is None else partial(_cnn_nano, last_filters=last_filters)
    model = keras.Model(rgb, build(to_gray(rgb), num_classes), name=name)
    to_gray.set_weights([np.reshape(LUMA, (1, 1, 3, 1)) / 255.0])
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = bn_momentum
            layer.beta.assign(np.full(layer.beta.shape, network.bn_offset, np.float32))
    if head_dropout is not None:
        [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)][-1].rate = head_dropout
    if not any(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers):
        _scale_for_relu(model)
    return model


def count_parameters(model: "keras.Model") -> int:
    """Return the number of weights of a network, without the three of ``to_gray``."""
    return int(model.count_params()) - len(LUMA)


def copy_head(
    model: "keras.Model",
    labels: Sequence[str],
    kernel: npt.NDArray[np.float32],
    bias: npt.NDArray[np.float32],
    known: Sequence[str],
) -> bool:
    """Copy the last layer of another network for the labels that both have. Other labels keep random weights.

    Args:
        model: A network made by build_network. It is changed in place.
        labels: Its labels, in output order.
        kernel: float32 array (features, len(known)), kernel of the other network's last layer.
        bias: float32 array (len(known),), its bias.
        known: Labels of the other network, in output order.

    Returns:
        Whether all weights were copied.
    """
    layer = model.get_layer(OUTPUT_LAYER)
    new_kernel, new_bias = (np.array(values) for values in layer.get_weights())
    if len(kernel) != len(new_kernel):
        return False
    shared = [label for label in labels if label in known]
    to, of = [labels.index(label) for label in shared], [known.index(label) for label in shared]
    new_kernel[:, to], new_bias[to] = kernel[:, of], bias[of]
    layer.set_weights([new_kernel, new_bias])
    return len(shared) == len(labels)


def _scale_for_relu(model: "keras.Model") -> None:
    """Initialize convolutions by He's method: without batch normalization, Glorot's method makes the signal vanish."""
    import keras

    for seed, layer in enumerate(model.layers):
        if isinstance(layer, keras.layers.Conv2D) and layer.name != GRAY_LAYER:
            layer.kernel.assign(keras.initializers.HeNormal(seed=keras.random.SeedGenerator(seed))(layer.kernel.shape))
