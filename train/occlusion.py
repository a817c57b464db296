"""Parts of faces that are covered, in the training graph."""

from typing import Any

import numpy as np

from fer_edge.train.draws import Draws

# Center and sides of the covered rectangle as (row, column, height, width), fractions of the side: lowest and highest value.
# In a box of OpenCV's Haar detector, the eyes are at 0.38 of the height and the mouth is at 0.77.
COVERS = {
    "glasses": ((0.34, 0.45, 0.10, 0.60), (0.42, 0.55, 0.22, 0.95)),
    "mask": ((0.78, 0.45, 0.36, 0.55), (0.86, 0.55, 0.52, 0.95)),
    "hand": ((0.55, 0.00, 0.20, 0.20), (1.00, 1.00, 0.55, 0.45)),
}


def erase(faces: Any, max_side: float, draws: Draws) -> Any:
    """Fill a rectangle of half of the faces with the mean of the face. keras.layers.RandomErasing can only fill a constant.

    Args:
        faces: Tensor (batch, height, width, 1), 0..255.
        max_side: Largest side of the rectangle, fraction of the side of the face.
        draws: Source of the random numbers.
    """
    from keras import ops

    count = ops.shape(faces)[0]
    sides = draws.uniform((count, 2), 0, max_side)
    center = draws.uniform((count, 2))
    inside = ops.logical_and(rectangle(faces, center, sides), draws.uniform((count, 1, 1, 1)) < 0.5)
    return ops.where(inside, ops.mean(faces, axis=(1, 2, 3), keepdims=True), faces)


def occlude(faces: Any, share: float, draws: Draws) -> Any:
    """Cover the eyes, the lower half or a lower corner of some faces, as glasses, a mask or a hand do.

    The rectangle has a random gray level and the texture of another face, from none (glasses) to full (a hand, a scarf).

    Args:
        faces: Tensor (batch, height, width, 1), 0..255.
        share: Fraction of the faces that are covered.
        draws: Source of the random numbers.

    Returns:
        Tensor of the same shape, 0..255.
    """
    from keras import ops

    count = ops.shape(faces)[0]
    numbers = draws.uniform((8, count), axis=1)
    kind = ops.cast(len(COVERS) * numbers[0], "int32")
    low, high = (
        ops.take(ops.convert_to_tensor(np.array([cover[end] for cover in COVERS.values()], np.float32)), kind, axis=0)
        for end in (0, 1)
    )
    place = low + (high - low) * ops.transpose(numbers[1:5])
    mean = ops.mean(faces, axis=(1, 2, 3), keepdims=True)
    level, texture, covered = (ops.reshape(numbers[index], (-1, 1, 1, 1)) for index in (5, 6, 7))
    fill = ops.clip(255 * level + texture * ops.roll(faces - mean, 1, axis=0), 0, 255)
    return ops.where(ops.logical_and(rectangle(faces, place[:, :2], place[:, 2:]), covered < share), fill, faces)


def rectangle(faces: Any, center: Any, sides: Any) -> Any:
    """Return a mask (batch, height, width, 1) of one rectangle per face, clipped at the border.

    Args:
        faces: Tensor (batch, height, width, 1).
        center: Tensor (batch, 2): row and column of the center, fractions of the side.
        sides: Tensor (batch, 2): height and width of the rectangle, fractions of the side.
    """
    from keras import ops

    height, width = faces.shape[1], faces.shape[2]
    rows = ops.reshape((ops.arange(height, dtype="float32") + 0.5) / height, (1, height))
    columns = ops.reshape((ops.arange(width, dtype="float32") + 0.5) / width, (1, width))
    in_rows = ops.abs(rows - center[:, :1]) < sides[:, :1] / 2
    in_columns = ops.abs(columns - center[:, 1:]) < sides[:, 1:] / 2
    return ops.logical_and(in_rows[:, :, None, None], in_columns[:, None, :, None])
