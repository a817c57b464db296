"""Augmentation inside the training graph: one affine warp, then contrast and erasing, on any keras backend."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Augmentation:
    """Ranges of the random changes; 0 switches one off.

    Attributes:
        rotation_degrees: Rotation in -r..r.
        shift: Shift in each direction, share of the side.
        shear: Horizontal shear, pixels per pixel of height.
        zoom: Width and height are scaled by 1-z..1+z, each on its own.
        flip: Whether half of the faces are mirrored.
        contrast: Contrast is multiplied by 1-c..1+c around the face's mean.
        brightness: Brightness is moved by -b..b, share of the full range.
        erase: Largest side of an erased square, share of the side; half of the faces get one.
    """

    rotation_degrees: float = 0.0
    shift: float = 0.0
    shear: float = 0.0
    zoom: float = 0.0
    flip: bool = False
    contrast: float = 0.0
    brightness: float = 0.0
    erase: float = 0.0


def augment(faces: "keras.KerasTensor", ranges: Augmentation, seed: "keras.random.SeedGenerator") -> Any:
    """Change each face at random.

    Args:
        faces: Tensor (batch, height, width, 1), 0..255.
        ranges: The ranges.
        seed: Source of the random numbers.

    Returns:
        Tensor of the same shape, 0..255. What a warp brings in from outside repeats the border.
    """
    faces = _warp(faces, ranges, seed)
    if ranges.contrast or ranges.brightness:
        faces = _relight(faces, ranges, seed)
    if ranges.erase:
        faces = _erase(faces, ranges.erase, seed)
    return faces


def _warp(faces: Any, ranges: Augmentation, seed: "keras.random.SeedGenerator") -> Any:
    import keras
    from keras import ops

    count, height, width = ops.shape(faces)[0], faces.shape[1], faces.shape[2]

    def uniform(limit: float) -> Any:
        return keras.random.uniform((count,), -limit, limit, seed=seed)

    angle = uniform(ranges.rotation_degrees * np.pi / 180)
    shear, zoom_x, zoom_y = uniform(ranges.shear), 1 + uniform(ranges.zoom), 1 + uniform(ranges.zoom)
    move_x, move_y = uniform(ranges.shift) * width, uniform(ranges.shift) * height
    mirror = ops.where(uniform(1.0) < 0, -1.0, 1.0) if ranges.flip else ops.ones((count,))
    # Output pixel (x, y) reads input pixel (a x + b y + c, d x + e y + f), all around the centre of the face.
    cos, sin = ops.cos(angle), ops.sin(angle)
    a, b = mirror * zoom_x * cos, zoom_y * (shear * cos - sin)
    d, e = mirror * zoom_x * sin, zoom_y * (shear * sin + cos)
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    c = centre_x + move_x - a * centre_x - b * centre_y
    f = centre_y + move_y - d * centre_x - e * centre_y
    zero = ops.zeros_like(a)
    transform = ops.stack([a, b, c, d, e, f, zero, zero], axis=1)
    return ops.image.affine_transform(faces, transform, interpolation="bilinear", fill_mode="nearest")


def _relight(faces: Any, ranges: Augmentation, seed: "keras.random.SeedGenerator") -> Any:
    import keras
    from keras import ops

    shape = (ops.shape(faces)[0], 1, 1, 1)
    contrast = 1 + keras.random.uniform(shape, -ranges.contrast, ranges.contrast, seed=seed)
    light = 255 * keras.random.uniform(shape, -ranges.brightness, ranges.brightness, seed=seed)
    mean = ops.mean(faces, axis=(1, 2, 3), keepdims=True)
    return ops.clip((faces - mean) * contrast + mean + light, 0, 255)


def _erase(faces: Any, largest: float, seed: "keras.random.SeedGenerator") -> Any:
    import keras
    from keras import ops

    count, height, width = ops.shape(faces)[0], faces.shape[1], faces.shape[2]

    def uniform(low: float, high: float) -> Any:
        return keras.random.uniform((count, 1, 1, 1), low, high, seed=seed)

    half_y, half_x = uniform(0, largest / 2) * height, uniform(0, largest / 2) * width
    rows = ops.reshape(ops.arange(height, dtype="float32"), (1, height, 1, 1))
    columns = ops.reshape(ops.arange(width, dtype="float32"), (1, 1, width, 1))
    inside = ops.logical_and(ops.abs(rows - uniform(0, 1) * height) < half_y, ops.abs(columns - uniform(0, 1) * width) < half_x)
    inside = ops.logical_and(inside, uniform(0, 1) < 0.5)
    return ops.where(inside, ops.mean(faces, axis=(1, 2, 3), keepdims=True), faces)


def augmentation_layer(ranges: Augmentation, seed: int) -> "keras.Layer":
    """Return a layer that augments in training and passes faces through otherwise.

    Args:
        ranges: The ranges.
        seed: Seed of its random numbers.
    """
    import keras

    class Augment(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__(name="augment", dtype="float32")
            self.seed_generator = keras.random.SeedGenerator(seed)

        def call(self, inputs: Any, training: bool = False) -> Any:
            return augment(inputs, ranges, self.seed_generator) if training and any(asdict(ranges).values()) else inputs

    return Augment()
