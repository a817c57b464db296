"""Compare the candidates of a detector with the faces of a scene."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.detector_contract import DetectionScores

MATCHING_IOU = 0.4
IGNORED_FRACTION = 0.5  # of a candidate inside a region to ignore
MIN_COUNTED_SIDE_PX = 10.0  # of a face, pixels of the input; smaller faces need not be found

Floats = npt.NDArray[np.floating]


class Matches(NamedTuple):
    """The candidates of one scene, compared with its faces.

    Attributes:
        logits: Logit of each candidate, float array (n,).
        true: Whether it matches a face, bool array (n,).
        counted: Whether it counts: not in a region to ignore, not a face outside the counted sizes, bool array (n,).
        best_logits: Highest logit of the candidates that match each counted face, float array (faces,); -inf without.
        ious: IoU of that candidate, float array (faces,); 0 without.
    """

    logits: Floats
    true: npt.NDArray[np.bool_]
    counted: npt.NDArray[np.bool_]
    best_logits: Floats
    ious: Floats


def match(boxes: Floats, logits: Floats, faces: Floats, ignored: Floats) -> Matches:
    """Match candidates with faces, the highest logit first; each face takes one candidate.

    Args:
        boxes: float array (n, 4): x, y, width, height, the highest logit first.
        logits: float array (n,).
        faces: float array (faces, 3): center x and y, side.
        ignored: float array (regions, 4): x, y, width, height.
    """
    corners = np.column_stack([faces[:, :2] - faces[:, 2:] / 2, faces[:, 2], faces[:, 2]]) if len(faces) else np.empty((0, 4))
    overlaps = _intersections(boxes, corners)
    areas = boxes[:, 2] * boxes[:, 3]
    ious = overlaps / np.maximum(areas[:, None] + corners[:, 2] * corners[:, 3] - overlaps, 1e-9)
    small = faces[:, 2] < MIN_COUNTED_SIDE_PX if len(faces) else np.empty(0, bool)
    true, counted = np.zeros(len(boxes), bool), np.ones(len(boxes), bool)
    best, best_iou = np.full(len(faces), -np.inf), np.zeros(len(faces))
    free = np.ones(len(faces), bool)
    for index in range(len(boxes)):
        candidates = np.where(free, ious[index], 0.0)
        face = int(np.argmax(candidates)) if len(candidates) else -1
        if face >= 0 and candidates[face] >= MATCHING_IOU:
            free[face], true[index] = False, True
            counted[index] = not small[face]
            best[face], best_iou[face] = logits[index], ious[index, face]
        elif len(ignored):
            covered = _intersections(boxes[index : index + 1], ignored)[0] / max(float(areas[index]), 1e-9)
            counted[index] = bool(covered.max() < IGNORED_FRACTION)
    return Matches(logits, true, counted, best[~small], best_iou[~small])


def _intersections(first: Floats, second: Floats) -> Floats:
    """Return the areas in which boxes overlap, float array (len(first), len(second))."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum((first[:, :2] + first[:, 2:])[:, None], (second[:, :2] + second[:, 2:])[None])
    return np.asarray(np.prod(np.maximum(high - low, 0), axis=-1))


def scores(matches: Sequence[Matches], min_logit: float = 0.0) -> DetectionScores:
    """Return the results over all scenes.

    Args:
        matches: Per scene.
        min_logit: Candidates with a lower logit do not count.
    """
    best = np.concatenate([one.best_logits for one in matches]) if matches else np.empty(0)
    ious = np.concatenate([one.ious for one in matches])[best >= min_logit] if matches else np.empty(0)
    false = sum(int((~one.true & one.counted & (one.logits >= min_logit)).sum()) for one in matches)
    return DetectionScores(
        found=float((best >= min_logit).mean()) if len(best) else 0.0,
        false_per_image=false / max(len(matches), 1),
        iou=float(np.median(ious)) if len(ious) else 0.0,
    )
