"""Decode the maps of the own face detector: candidates at the local maxima of the heat maps, without overlaps. Numpy only.

artifacts/detector_contract.py describes the maps.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating]

BASE_SIDE_PX = 32.0  # box side for the value 0 of its channel, pixels of the input
MAX_IOU = 0.3  # of two boxes; above, they are the same face
MAX_COVERED = 0.7  # fraction of the smaller box inside the larger; above, they are the same face
MAX_CANDIDATES = 256  # per look; suppression compares all pairs


class Candidates(NamedTuple):
    """Possible faces, the highest logit first.

    Attributes:
        boxes: float array (n, 4): x, y, width, height, pixels.
        eyes: float array (n, 4): x and y of both eyes, pixels, the eye further left in the image first.
        logits: float array (n,).
    """

    boxes: FloatArray
    eyes: FloatArray
    logits: FloatArray

    def take(self, indices: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> "Candidates":
        """Return the candidates with these indices, or where a mask is true."""
        return Candidates(self.boxes[indices], self.eyes[indices], self.logits[indices])


def decode(
    heat_maps: Sequence[FloatArray],
    geometry_maps: Sequence[FloatArray],
    strides: Sequence[int],
    min_logit: float,
    max_candidates: int = MAX_CANDIDATES,
) -> Candidates:
    """Return the candidates of one look.

    Args:
        heat_maps: Per stride, logits (height / stride, width / stride, 1).
        geometry_maps: Per stride, geometry (height / stride, width / stride, 7).
        strides: Pixels of the input per cell.
        min_logit: Candidates with a lower logit are dropped.
        max_candidates: Maximum number of candidates before suppression; the ones with the highest logits are kept.

    Returns:
        The candidates after non-maximum suppression, in pixels of the input.
    """
    parts = [_peaks(*maps, min_logit) for maps in zip(heat_maps, geometry_maps, strides, strict=True)]
    found = parts[0] if len(parts) == 1 else join(parts)
    best = np.argsort(-found.logits, kind="stable")[:max_candidates]
    return suppress(found.take(best))


def join(parts: Sequence[Candidates]) -> Candidates:
    """Return the candidates of several looks as one."""
    boxes, eyes, logits = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return Candidates(boxes, eyes, logits)


def suppress(candidates: Candidates) -> Candidates:
    """Return the candidates that are not the same face as one with a higher logit, the highest logit first."""
    ordered = candidates.take(np.argsort(-candidates.logits, kind="stable"))
    if len(ordered.logits) < 2:
        return ordered
    x, y, width, height = ordered.boxes.T
    overlap_x = np.minimum.outer(x + width, x + width) - np.maximum.outer(x, x)
    overlap_y = np.minimum.outer(y + height, y + height) - np.maximum.outer(y, y)
    intersection = np.maximum(overlap_x, 0) * np.maximum(overlap_y, 0)
    area = width * height
    same = intersection > MAX_IOU * (np.add.outer(area, area) - intersection)
    same |= intersection > MAX_COVERED * np.minimum.outer(area, area)
    kept = np.ones(len(area), bool)
    for index in range(len(area) - 1):
        if kept[index]:
            kept[index + 1 :] &= ~same[index, index + 1 :]
    return ordered.take(kept)


def _peaks(heat_map: FloatArray, geometry_map: FloatArray, stride: int, min_logit: float) -> Candidates:
    """Return the cells that are the maximum of their neighborhood of 3x3 cells, and at least ``min_logit``."""
    heat = heat_map[:, :, 0]
    above = heat >= min_logit
    if above.any():  # most looks at a scene without a face end here
        padded = np.pad(heat, 1, constant_values=-np.inf)
        columns = np.maximum(np.maximum(padded[:-2], padded[1:-1]), padded[2:])
        above &= heat >= np.maximum(np.maximum(columns[:, :-2], columns[:, 1:-1]), columns[:, 2:])
    rows, columns = np.nonzero(above)
    geometry = geometry_map[rows, columns].astype(np.float64)  # in 32 bits, exp differs between processors
    centers = (np.stack([columns, rows], axis=1) + 0.5 + geometry[:, :2]) * stride
    sides = BASE_SIDE_PX * np.exp(np.clip(geometry[:, 2:3], -8, 8))
    boxes = np.concatenate([centers - sides / 2, sides, sides], axis=1)
    eyes = np.tile(centers, 2) + geometry[:, 3:7] * sides
    return Candidates(boxes, eyes, heat[rows, columns].astype(np.float64))
