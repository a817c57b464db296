"""Augmentation in the training graph, on every Keras backend: one affine warp, contrast, erasing, mixing."""

from typing import TYPE_CHECKING, Any

import numpy as np

from fer_edge.artifacts.training_plan import Augmentation

if TYPE_CHECKING:
    import keras

MIXUP_ALPHA = 0.4


def augment(faces: "keras.KerasTensor", ranges: Augmentation, seed: "keras.random.SeedGenerator") -> Any:
    """Change each face at random, on its own.

    Args:
        faces: Tensor (batch, height, width, 1), 0..255.
        ranges: The ranges.
        seed: Source of the random numbers.

    Returns:
        Tensor of the same shape, 0..255. A warp repeats the border of the face where it reads outside.
    """
    if any((ranges.rotation_degrees, ranges.shift, ranges.shear, ranges.zoom, ranges.flip)):
        faces = _warp(faces, ranges, seed)
    if ranges.contrast or ranges.brightness:
        faces = _relight(faces, ranges, seed)
    if ranges.erase:
        faces = _erase(faces, ranges.erase, seed)
    return faces


def _warp(faces: Any, ranges: Augmentation, seed: "keras.random.SeedGenerator") -> Any:
    """Rotate, shear, zoom, shift and flip. keras.layers would interpolate once per change, which blurs faces of 48 pixels."""
    import keras
    from keras import ops

    count, height, width = ops.shape(faces)[0], faces.shape[1], faces.shape[2]

    def uniform(limit: float) -> Any:
        return keras.random.uniform((count,), -limit, limit, seed=seed)

    angle = uniform(ranges.rotation_degrees * np.pi / 180)
    shear, zoom_x, zoom_y = uniform(ranges.shear), 1 + uniform(ranges.zoom), 1 + uniform(ranges.zoom)
    move_x, move_y = uniform(ranges.shift) * width, uniform(ranges.shift) * height
    mirror = ops.where(uniform(1.0) < 0, -1.0, 1.0) if ranges.flip else ops.ones((count,))
    # Output pixel (x, y) reads input pixel (a x + b y + c, d x + e y + f), around the center of the face.
    cos, sin = ops.cos(angle), ops.sin(angle)
    a, b = mirror * zoom_x * cos, zoom_y * (shear * cos - sin)
    d, e = mirror * zoom_x * sin, zoom_y * (shear * sin + cos)
    center_x, center_y = (width - 1) / 2, (height - 1) / 2
    c = center_x + move_x - a * center_x - b * center_y
    f = center_y + move_y - d * center_x - e * center_y
    zero = ops.zeros_like(a)
    transform = ops.stack([a, b, c, d, e, f, zero, zero], axis=1)
    return ops.image.affine_transform(faces, transform, interpolation="bilinear", fill_mode="nearest")


def _relight(faces: Any, ranges: Augmentation, seed: "keras.random.SeedGenerator") -> Any:
    """Change contrast and brightness. keras.layers.RandomContrast and RandomBrightness would clip in between."""
    import keras
    from keras import ops

    shape = (ops.shape(faces)[0], 1, 1, 1)
    contrast = 1 + keras.random.uniform(shape, -ranges.contrast, ranges.contrast, seed=seed)
    light = 255 * keras.random.uniform(shape, -ranges.brightness, ranges.brightness, seed=seed)
    mean = ops.mean(faces, axis=(1, 2, 3), keepdims=True)
    return ops.clip((faces - mean) * contrast + mean + light, 0, 255)


def _erase(faces: Any, max_side: float, seed: "keras.random.SeedGenerator") -> Any:
    """Fill a rectangle of half of the faces with the mean of the face. keras.layers.RandomErasing can only fill a constant."""
    import keras
    from keras import ops

    count = ops.shape(faces)[0]
    sides = keras.random.uniform((count, 2), 0, max_side, seed=seed)
    inside = ops.logical_and(_rectangle(faces, sides, seed), keras.random.uniform((count, 1, 1, 1), seed=seed) < 0.5)
    return ops.where(inside, ops.mean(faces, axis=(1, 2, 3), keepdims=True), faces)


def _rectangle(faces: Any, sides: Any, seed: "keras.random.SeedGenerator") -> Any:
    """Return a mask (batch, height, width, 1) of one rectangle per face: centered anywhere, clipped at the border.

    Args:
        faces: Tensor (batch, height, width, 1).
        sides: Tensor (batch, 2): height and width of the rectangle, fractions of the side.
        seed: Source of the random numbers.
    """
    import keras
    from keras import ops

    count, height, width = ops.shape(faces)[0], faces.shape[1], faces.shape[2]
    center = keras.random.uniform((count, 2), seed=seed)
    rows = ops.reshape((ops.arange(height, dtype="float32") + 0.5) / height, (1, height))
    columns = ops.reshape((ops.arange(width, dtype="float32") + 0.5) / width, (1, width))
    in_rows = ops.abs(rows - center[:, :1]) < sides[:, :1] / 2
    in_columns = ops.abs(columns - center[:, 1:]) < sides[:, 1:] / 2
    return ops.logical_and(in_rows[:, :, None, None], in_columns[:, None, :, None])


def mix(faces: Any, labels: Any, ranges: Augmentation, seed: "keras.random.SeedGenerator") -> tuple[Any, Any]:
    """Mix some faces and their labels with the previous face of the batch.

    Args:
        faces: Tensor (batch, height, width, 1), 0..255.
        labels: Tensor (batch, classes), distributions.
        ranges: ``mixup`` and ``cutmix`` are the fractions of mixed faces.
        seed: Source of the random numbers.

    Returns:
        Faces and labels, of the same shapes.

    Source: mixup, https://arxiv.org/abs/1710.09412 (alpha 0.4); CutMix, https://arxiv.org/abs/1905.04899.
    """
    import keras
    from keras import ops

    if not (ranges.mixup or ranges.cutmix):
        return faces, labels
    count = ops.shape(faces)[0]
    choice = keras.random.uniform((count, 1, 1, 1), seed=seed)
    blend = ops.where(choice < ranges.mixup, keras.random.beta((count, 1, 1, 1), MIXUP_ALPHA, MIXUP_ALPHA, seed=seed), 0.0)
    side = ops.sqrt(keras.random.uniform((count, 1), seed=seed))
    pasted = ops.logical_and(_rectangle(faces, ops.concatenate([side, side], axis=1), seed), choice >= 1 - ranges.cutmix)
    # Weight of the other face in each pixel. Its mean is the weight of the other label.
    weight = ops.where(pasted, 1.0, blend + ops.zeros_like(faces))
    label_weight = ops.mean(weight, axis=(1, 2, 3))[:, None]
    other_faces, other_labels = ops.roll(faces, 1, axis=0), ops.roll(labels, 1, axis=0)
    return faces + weight * (other_faces - faces), labels + label_weight * (other_labels - labels)
