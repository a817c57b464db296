"""The networks of face detectors: fully convolutional, gray input, ReLU only, a heat map and a geometry map per stride."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fer_edge.artifacts.detector_contract import GEOMETRY_CHANNELS
from fer_edge.train.detector.targets import BOX_WEIGHT, EYE_WEIGHT, HEAT, HEAT_WEIGHT

if TYPE_CHECKING:
    import keras

BN_MOMENTUM = 0.97
RARE_FACE_BIAS = -3.5  # of the heat map: most cells show no face
POSITIVE = 0.999  # heat of the cell at the center of a face
HUBER_DELTA = 0.05
OFFSET_WEIGHT, SIDE_WEIGHT, EYES_WEIGHT = 2.0, 4.0, 2.0


@dataclass(frozen=True)
class DetectorSize:
    """One size of the detector.

    Attributes:
        height: Height of the input, pixels.
        width: Width of the input, pixels.
        strides: Pixels of the input per cell, one per heat map: 8, or 8 and 16.
        middle: Channels at stride 8.
        deep: Channels at stride 16.
        middle_blocks: Number of separable convolutions at stride 8.
        deep_blocks: Number of them at stride 16; those in the middle have 5x5 pixels.
    """

    height: int = 128
    width: int = 160
    strides: tuple[int, ...] = (8,)
    middle: int = 40
    deep: int = 80
    middle_blocks: int = 4
    deep_blocks: int = 5


DETECTOR_NETWORKS: dict[str, DetectorSize] = {
    "detector_nano": DetectorSize(),
    "detector_small": DetectorSize(height=144, width=192, middle=64, deep=128),
}


def find_network(name: str) -> DetectorSize:
    """Return a network of the table.

    Raises:
        ValueError: If there is none of that name.
    """
    if name not in DETECTOR_NETWORKS:
        raise ValueError(f"unknown detector network '{name}'; choose one of: {', '.join(DETECTOR_NETWORKS)}")
    return DETECTOR_NETWORKS[name]


def build_detector(network: DetectorSize) -> "keras.Model":
    """Build a detector with random weights.

    Args:
        network: Its size.

    Returns:
        A model from gray 0..255 (batch, height, width, 1) to heat maps, then geometry maps, one of each per stride.
    """
    import keras
    from keras import layers

    image = keras.Input((network.height, network.width, 1), name="image")
    # The bytes enter unscaled: batch normalization takes care of the scale, and the padding by zeros is black.
    x = _conv(image, 8, 3, "stem", strides=2)
    x = _separable(x, 16, "a1", strides=2)
    x = _separable(x, 16, "a2")
    x = _separable(x, network.middle, "b1", strides=2)
    for index in range(2, network.middle_blocks + 1):
        x = _separable(x, network.middle, f"b{index}")
    skip = x
    x = _separable(x, network.deep, "c1", strides=2)
    for index in range(2, network.deep_blocks + 1):
        x = _separable(x, network.deep, f"c{index}", kernel=5 if 2 < index < network.deep_blocks else 3)
    x = _conv(x, network.middle, 1, "lateral", relu=False)
    # Not UpSampling2D: it becomes four operators that copy, in place of one.
    x = layers.Resizing(skip.shape[1], skip.shape[2], interpolation="nearest", name="up")(x)
    x = layers.ReLU(name="merge_relu")(layers.Add(name="merge")([x, skip]))
    maps = []
    for stride in network.strides:
        head = x if stride == 8 else _separable(x, network.middle, f"d0_{stride}", strides=stride // 8)
        head = _separable(_separable(head, network.middle, f"d1_{stride}"), network.middle, f"d2_{stride}")
        bias = keras.initializers.Constant(RARE_FACE_BIAS)
        maps.append(
            (
                layers.Conv2D(1, 1, bias_initializer=bias, name=f"heat_{stride}")(head),
                layers.Conv2D(GEOMETRY_CHANNELS, 1, name=f"geometry_{stride}")(head),
            )
        )
    return keras.Model(image, [heat for heat, _ in maps] + [geometry for _, geometry in maps])


def _conv(x: Any, channels: int, kernel: int, name: str, strides: int = 1, relu: bool = True) -> Any:
    from keras import layers

    x = layers.Conv2D(
        channels, kernel, strides, padding="same", use_bias=False, kernel_initializer="he_normal", name=f"{name}_conv"
    )(x)
    x = layers.BatchNormalization(momentum=BN_MOMENTUM, name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x) if relu else x


def _separable(x: Any, channels: int, name: str, strides: int = 1, kernel: int = 3) -> Any:
    """A depthwise and a 1x1 convolution, with a shortcut where the shape stays."""
    from keras import layers

    shortcut = x
    x = layers.DepthwiseConv2D(
        kernel, strides, padding="same", use_bias=False, depthwise_initializer="he_normal", name=f"{name}_depthwise"
    )(x)
    x = layers.BatchNormalization(momentum=BN_MOMENTUM, name=f"{name}_depthwise_bn")(x)
    x = layers.ReLU(name=f"{name}_depthwise_relu")(x)
    x = _conv(x, channels, 1, name, relu=False)
    if strides == 1 and shortcut.shape[-1] == channels:
        x = layers.Add(name=f"{name}_add")([x, shortcut])
    return layers.ReLU(name=f"{name}_relu")(x)


def heat_loss(target: Any, logits: Any) -> Any:
    """Return the focal loss of a heat map, per face in the batch. Source: CenterNet, https://arxiv.org/abs/1904.07850.

    Args:
        target: Tensor (batch, rows, columns, 11), see draw_targets.
        logits: Tensor (batch, rows, columns, 1).
    """
    from keras import ops

    heat, weight = target[..., HEAT], target[..., HEAT_WEIGHT]
    z = logits[..., 0]
    probability = ops.clip(ops.sigmoid(z), 1e-4, 1 - 1e-4)
    positive = ops.cast(heat >= POSITIVE, "float32")
    faces = ops.maximum(ops.sum(positive), 1.0)
    found = -positive * (1 - probability) ** 2 * ops.log(probability)
    missed = -(1 - positive) * (1 - heat) ** 4 * probability**2 * ops.log(1 - probability)
    return ops.sum((found + missed) * weight) / faces


def geometry_loss(target: Any, geometry: Any) -> Any:
    """Return the smooth L1 loss of boxes and eyes, weighted by how near a cell is to the center of a face.

    Args:
        target: Tensor (batch, rows, columns, 11), see draw_targets.
        geometry: Tensor (batch, rows, columns, 7).
    """
    from keras import ops

    difference = ops.abs(geometry - target[..., 4:])
    smooth = ops.where(difference < HUBER_DELTA, difference**2 / (2 * HUBER_DELTA), difference - HUBER_DELTA / 2)
    box, eyes = target[..., BOX_WEIGHT], target[..., EYE_WEIGHT]
    boxes = ops.sum(box) + 1e-3
    offset = ops.sum(smooth[..., :2] * box[..., None]) / boxes
    side = ops.sum(smooth[..., 2] * box) / boxes
    points = ops.sum(smooth[..., 3:] * eyes[..., None]) / (ops.sum(eyes) + 1e-3)
    return OFFSET_WEIGHT * offset + SIDE_WEIGHT * side + EYES_WEIGHT * points


def multiply_adds(model: "keras.Model") -> int:
    """Return the number of multiply-add operations of the convolutions of a model, per image."""
    from keras import layers

    total = 0
    for layer in model.layers:
        if isinstance(layer, (layers.Conv2D, layers.DepthwiseConv2D)):
            _, rows, columns, _ = layer.output.shape
            size = 1
            for length in layer.kernel.shape:
                size *= int(length)
            total += rows * columns * size
    return total
