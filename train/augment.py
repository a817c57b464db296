"""Augmentation in the training graph, on every Keras backend: one affine warp, lighting, covers, image quality, mixing."""

from typing import TYPE_CHECKING, Any

import numpy as np

from fer_edge.artifacts.training_plan import Augmentation
from fer_edge.train.draws import Draws
from fer_edge.train.image_quality import add_noise_and_compress, blur_and_downscale
from fer_edge.train.lighting import expose, relight
from fer_edge.train.occlusion import erase, occlude, rectangle

if TYPE_CHECKING:
    import keras

MIXUP_ALPHA = 0.4


def augment(faces: "keras.KerasTensor", ranges: Augmentation, draws: Draws, resolution_px: int = 48) -> Any:
    """Change each face at random, on its own.

    Args:
        faces: Tensor (batch, height, width, 1), 0..255.
        ranges: The ranges.
        draws: Source of the random numbers.
        resolution_px: Side of the faces before they were enlarged to the input size, pixels. Image quality is lost as at this
            size: a camera's face is reduced to it before it is enlarged.

    Returns:
        Tensor of the same shape, 0..255. A warp repeats the border of the face where it reads outside.
    """
    crop = (ranges.shift, ranges.zoom, ranges.crop_scale, ranges.crop_shift, ranges.random_crop)
    if any((ranges.rotation_degrees, ranges.shear, ranges.flip, *crop)):
        faces = _warp(faces, ranges, draws)
    if ranges.contrast or ranges.brightness:
        faces = relight(faces, ranges, draws)
    if ranges.erase:
        faces = erase(faces, ranges.erase, draws)
    return _as_camera(faces, ranges, draws, min(resolution_px, faces.shape[1]))


def _as_camera(faces: Any, ranges: Augmentation, draws: Draws, resolution_px: int) -> Any:
    """Change ``camera_share`` of the faces as a camera does: lighting, covers and image quality."""
    from keras import ops

    changed = faces
    if ranges.side_light or ranges.exposure or ranges.darkness or ranges.gamma:
        changed = expose(changed, ranges, draws)
    if ranges.occlusion:
        changed = occlude(changed, ranges.occlusion, draws)
    if ranges.defocus or ranges.motion_blur or ranges.resolution_loss:
        changed = blur_and_downscale(changed, ranges, draws, resolution_px)
    if ranges.noise or ranges.compression:
        changed = add_noise_and_compress(changed, ranges, draws, resolution_px)
    if changed is faces or ranges.camera_share == 1:
        return changed
    chosen = draws.uniform((ops.shape(faces)[0], 1, 1, 1)) < ranges.camera_share
    return ops.where(chosen, changed, faces)


def _warp(faces: Any, ranges: Augmentation, draws: Draws) -> Any:
    """Rotate, shear, zoom, shift and flip. keras.layers would interpolate once per change, which blurs faces of 48 pixels."""
    from keras import ops

    count, height, width = ops.shape(faces)[0], faces.shape[1], faces.shape[2]

    def uniform(limit: float) -> Any:
        return draws.uniform((count,), -limit, limit)

    angle = uniform(ranges.rotation_degrees * np.pi / 180)
    shear, zoom_x, zoom_y = uniform(ranges.shear), 1 + uniform(ranges.zoom), 1 + uniform(ranges.zoom)
    move_x, move_y = uniform(ranges.shift) * width, uniform(ranges.shift) * height
    mirror = ops.where(uniform(1.0) < 0, -1.0, 1.0) if ranges.flip else ops.ones((count,))
    if ranges.crop_scale or ranges.crop_shift:
        scatter = draws.normal((3, count), axis=1)
        crop_scale = ops.exp(ranges.crop_scale * scatter[0])
        zoom_x, zoom_y = zoom_x * crop_scale, zoom_y * crop_scale
        move_x, move_y = move_x + ranges.crop_shift * width * scatter[1], move_y + ranges.crop_shift * height * scatter[2]
    if ranges.random_crop:
        side = 1 - draws.uniform((count,), 0.0, ranges.random_crop)
        zoom_x, zoom_y = zoom_x * side, zoom_y * side
        place = draws.uniform((2, count), -1.0, 1.0, axis=1) * (1 - side) / 2
        move_x, move_y = move_x + place[0] * width, move_y + place[1] * height
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
    center = keras.random.uniform((count, 2), seed=seed)
    pasted = ops.logical_and(rectangle(faces, center, ops.concatenate([side, side], axis=1)), choice >= 1 - ranges.cutmix)
    # Weight of the other face in each pixel. Its mean is the weight of the other label.
    weight = ops.where(pasted, 1.0, blend + ops.zeros_like(faces))
    label_weight = ops.mean(weight, axis=(1, 2, 3))[:, None]
    other_faces, other_labels = ops.roll(faces, 1, axis=0), ops.roll(labels, 1, axis=0)
    return faces + weight * (other_faces - faces), labels + label_weight * (other_labels - labels)
