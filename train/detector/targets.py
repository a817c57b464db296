"""What the network should answer to a scene: a heat map and a geometry map per stride."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.detector_contract import BASE_SIDE_PX, GEOMETRY_CHANNELS

Floats = npt.NDArray[np.float32]
Visible = tuple[int, int, int, int]

MIN_SIDE_PX = 9.0  # smaller faces are ignored, much smaller ones are background
MAX_SIDE_PX = 160.0
MIN_EYES_SIDE_PX = 12.0  # the eyes of smaller faces are not learned
MIN_VISIBLE = 0.5  # fraction of the box inside the scene
CELLS_PER_SIDE = 4.0  # of the stride that a face belongs to: its side is about four cells
IGNORE_MARGIN_PX = 4.0
HEAT, HEAT_WEIGHT, BOX_WEIGHT, EYE_WEIGHT = range(4)
TARGET_CHANNELS = 4 + GEOMETRY_CHANNELS


def draw_targets(
    faces: Floats, ignored: Floats, visible: Visible, size: tuple[int, int], strides: Sequence[int]
) -> list[Floats]:
    """Draw the target maps of a scene.

    Args:
        faces: float32 array (n, 7): center x and y, side, eyes (x, y twice; NaN where unknown), pixels.
        ignored: float32 array (n, 4): x, y, width, height of regions that may show faces, pixels.
        visible: x, y, width and height of the part of the scene that is not padding, pixels.
        size: Height and width of the scene, pixels.
        strides: Pixels per cell, one per map.

    Returns:
        Per stride a float32 array (height / s, width / s, 11): heat, its weight, the weight of the box and of the eyes, then
        the seven channels of the contract.
    """
    maps = [_empty(size, stride, ignored) for stride in strides]
    for face in faces:
        side = float(face[2])
        seen = _visible_fraction(face, visible)
        if seen < MIN_VISIBLE or not MIN_SIDE_PX <= side <= MAX_SIDE_PX:
            for target, stride in zip(maps, strides, strict=True):
                _ignore_face(target, stride, face)
            continue
        distances = [abs(np.log(side / (CELLS_PER_SIDE * stride))) for stride in strides]
        own = int(np.argmin(distances))
        for index, (target, stride) in enumerate(zip(maps, strides, strict=True)):
            if index == own:
                _draw_face(target, stride, face)
            else:
                _ignore_face(target, stride, face)
    return maps


def _centers(target: Floats, stride: int) -> tuple[Floats, Floats]:
    """Return x and y of the center of each cell, pixels."""
    rows, columns = target.shape[:2]
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    return (x + 0.5) * stride, (y + 0.5) * stride


def _empty(size: tuple[int, int], stride: int, ignored: Floats) -> Floats:
    target = np.zeros((size[0] // stride, size[1] // stride, TARGET_CHANNELS), np.float32)
    target[..., HEAT_WEIGHT] = 1
    x, y = _centers(target, stride)
    margin = IGNORE_MARGIN_PX
    for left, top, width, height in ignored:
        across = (x > left - margin) & (x < left + width + margin)
        target[..., HEAT_WEIGHT][across & (y > top - margin) & (y < top + height + margin)] = 0
    return target


def _ignore_face(target: Floats, stride: int, face: Floats) -> None:
    x, y = _centers(target, stride)
    half = face[2] / 2
    target[..., HEAT_WEIGHT][(abs(x - face[0]) < half) & (abs(y - face[1]) < half)] = 0


def _draw_face(target: Floats, stride: int, face: Floats) -> None:
    center_x, center_y, side = (float(value) for value in face[:3])
    x, y = _centers(target, stride)
    spread = max(0.62, 0.085 * side / stride) * stride
    heat = np.exp(-((x - center_x) ** 2 + (y - center_y) ** 2) / (2 * spread**2))
    row = min(max(int(center_y / stride), 0), target.shape[0] - 1)
    column = min(max(int(center_x / stride), 0), target.shape[1] - 1)
    heat[row, column] = 1
    near = (heat > 0.5) & (heat > target[..., HEAT])
    target[..., HEAT] = np.maximum(target[..., HEAT], heat)
    target[..., HEAT_WEIGHT][heat > 0.5] = 1
    target[..., BOX_WEIGHT][near] = heat[near]
    geometry = target[..., 4:]
    geometry[..., 0][near] = ((center_x - x) / stride)[near]
    geometry[..., 1][near] = ((center_y - y) / stride)[near]
    geometry[..., 2][near] = np.log(side / BASE_SIDE_PX)
    eyes = face[3:7]
    known = side >= MIN_EYES_SIDE_PX and not np.isnan(eyes).any()
    target[..., EYE_WEIGHT][near] = heat[near] if known else 0
    geometry[..., 3:][near] = (eyes - [center_x, center_y, center_x, center_y]) / side if known else 0


def _visible_fraction(face: Floats, visible: Visible) -> float:
    center_x, center_y, side = (float(value) for value in face[:3])
    left, top, width, height = visible
    across = min(center_x + side / 2, left + width) - max(center_x - side / 2, left)
    down = min(center_y + side / 2, top + height) - max(center_y - side / 2, top)
    return max(across, 0.0) * max(down, 0.0) / side**2


def flip_targets(targets: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Mirror target maps left to right.

    Args:
        targets: float array (..., height, width, 11).

    Returns:
        The mirrored maps: offsets change their sign, and the eyes are exchanged.
    """
    flipped = targets[..., ::-1, :].copy()
    geometry = flipped[..., 4:]
    geometry[..., 0] *= -1
    left, right = geometry[..., 3:5].copy(), geometry[..., 5:7].copy()
    geometry[..., 3:5], geometry[..., 5:7] = right * [-1, 1], left * [-1, 1]
    return flipped
