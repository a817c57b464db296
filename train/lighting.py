"""Random lighting of faces, in the training graph."""

import math
from typing import Any

from fer_edge.artifacts.training_plan import Augmentation
from fer_edge.train.draws import Draws


def expose(faces: Any, ranges: Augmentation, draws: Draws) -> Any:
    """Light each face from a random side, expose it and apply a gamma curve.

    Args:
        faces: Tensor (batch, height, width, 1), 0..255.
        ranges: ``side_light``, ``exposure``, ``darkness`` and ``gamma``.
        draws: Source of the random numbers.

    Returns:
        Tensor of the same shape, 0..255. Values above white are clipped, as in an overexposed image.
    """
    from keras import ops

    numbers = draws.uniform((5, ops.shape(faces)[0], 1, 1, 1), -1.0, 1.0, axis=1)
    height, width = faces.shape[1], faces.shape[2]
    rows = ops.reshape(ops.linspace(-1.0, 1.0, height), (1, height, 1, 1))
    columns = ops.reshape(ops.linspace(-1.0, 1.0, width), (1, 1, width, 1))
    direction, strength = math.pi * numbers[0], ranges.side_light * ops.abs(numbers[1])
    light = 1 + strength * (rows * ops.sin(direction) + columns * ops.cos(direction))
    gain = ops.exp(math.log1p(ranges.exposure) * numbers[2]) * (1 - ranges.darkness * ops.square(numbers[4]))
    lit = ops.clip(faces * light * (gain / 255), 0, 1)
    if ranges.gamma:
        lit = ops.power(lit, ops.exp(math.log1p(ranges.gamma) * numbers[3]))
    return 255 * lit


def relight(faces: Any, ranges: Augmentation, draws: Draws) -> Any:
    """Change contrast and brightness. keras.layers.RandomContrast and RandomBrightness would clip in between.

    Args:
        faces: Tensor (batch, height, width, 1), 0..255.
        ranges: ``contrast`` and ``brightness``.
        draws: Source of the random numbers.

    Returns:
        Tensor of the same shape, 0..255.
    """
    from keras import ops

    shape = (ops.shape(faces)[0], 1, 1, 1)
    contrast = 1 + draws.uniform(shape, -ranges.contrast, ranges.contrast)
    light = 255 * draws.uniform(shape, -ranges.brightness, ranges.brightness)
    mean = ops.mean(faces, axis=(1, 2, 3), keepdims=True)
    return ops.clip((faces - mean) * contrast + mean + light, 0, 255)
