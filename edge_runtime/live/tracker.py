"""Track faces: number them across detections, and find them by template matching between detections."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fer_edge.edge_runtime.crop import Box, Eyes
from fer_edge.edge_runtime.detectors.detection import Detection
from fer_edge.edge_runtime.detectors.tiling import iou
from fer_edge.edge_runtime.images import Image, import_cv2

MIN_IOU = 0.3  # above, two boxes are the same face
TEMPLATE_PX = 32  # longer side of a template; one of its pixels is 1/32 of a face
MIN_TEMPLATE_PX = 4
MIN_VISIBLE_PX = 8  # a face with a smaller part in the frame is not tracked
SEARCH_MARGIN = 0.4  # of a face's side, in each direction: the distance that a head moves in one or two frames
MIN_CORRELATION = 0.6  # normalized, -1..1
MAX_MISSING_FACES = 16  # limits the faces that are remembered although they are not in the frame
MAX_MISSED_DETECTIONS = 10  # a face that returns within this number of detections keeps its number


@dataclass
class _Track:
    number: int
    box: Box
    eyes: Eyes | None
    score: float
    template: Image | None
    missed: int = 0


@dataclass(frozen=True)
class TrackedFace:
    """A face in one frame.

    Attributes:
        number: Number of the face, from 1, the same in every frame that shows it.
        box_px: Box (x, y, width, height), pixels.
        eyes_px: Eye centers, pixels. None if unknown.
        score: Score of the newest detection, 0..1.
    """

    number: int
    box_px: Box
    eyes_px: Eyes | None
    score: float


class Tracker:
    """Numbers the faces at each detection and tracks them between detections."""

    def __init__(self) -> None:
        self._tracks: list[_Track] = []
        self._numbers = itertools.count(1)
        self._shape: tuple[int, ...] = ()

    def update(self, detections: Sequence[Detection], gray: Image | None) -> list[TrackedFace]:
        """Update the tracks from the detections in a frame.

        Args:
            detections: The faces in the frame, largest first.
            gray: The frame, uint8 array (height, width), for the templates. None if track() will not be called.

        Returns:
            The same faces with their numbers, in the same order.
        """
        seen = []
        for detection, matched in zip(detections, self._match(detections), strict=True):
            track = matched or _Track(next(self._numbers), detection.box_px, detection.eyes_px, detection.score, None)
            track.box, track.eyes, track.score, track.missed = detection.box_px, detection.eyes_px, detection.score, 0
            track.template = None if gray is None else _make_template(gray, track.box)
            seen.append(track)
        missing = [track for track in self._tracks if all(track is not other for other in seen)]
        for track in missing:
            track.missed += 1
        self._tracks = seen + [track for track in missing if track.missed < MAX_MISSED_DETECTIONS][:MAX_MISSING_FACES]
        self._shape = () if gray is None else gray.shape
        return [TrackedFace(track.number, track.box, track.eyes, track.score) for track in seen]

    def track(self, gray: Image) -> list[TrackedFace] | None:
        """Find the faces of the last detection in a new frame, each near its previous position.

        Args:
            gray: The frame, uint8 array (height, width).

        Returns:
            The faces in the order of the detection. None if a face was lost: the detector must run.
        """
        if gray.shape != self._shape:
            return None
        current = [track for track in self._tracks if not track.missed]
        for track in current:
            shift = _match_template(gray, track.box, track.template)
            if shift is None:
                return None
            dx, dy = shift
            x, y, width, height = track.box
            track.box = (x + dx, y + dy, width, height)
            if track.eyes:
                (ax, ay), (bx, by) = track.eyes
                track.eyes = ((ax + dx, ay + dy), (bx + dx, by + dy))
        return [TrackedFace(track.number, track.box, track.eyes, track.score) for track in current]

    @property
    def boxes(self) -> list[Box]:
        """Return the boxes of the faces in the newest frame."""
        return [track.box for track in self._tracks if not track.missed]

    def reset(self) -> None:
        """Drop all faces: the next frame is unrelated to the last one. Numbers are not reused."""
        self._tracks = []

    def _match(self, detections: Sequence[Detection]) -> list[_Track | None]:
        """Return the track of each detection, None for a new face. The pairs with the largest IoU are matched first."""
        pairs = [
            (iou(detection.box_px, track.box), i, k)
            for i, detection in enumerate(detections)
            for k, track in enumerate(self._tracks)
        ]
        matched: list[_Track | None] = [None] * len(detections)
        taken: set[int] = set()
        for overlap, i, k in sorted(pairs, key=lambda pair: -pair[0]):
            if overlap >= MIN_IOU and matched[i] is None and k not in taken:
                matched[i] = self._tracks[k]
                taken.add(k)
        return matched


def _visible_part(box: Box, margin: int, shape: tuple[int, ...]) -> tuple[int, int, int, int] | None:
    """Return left, top, right, bottom of a box plus margin, clipped to the image. None if that is too small."""
    x, y, width, height = box
    left, top = max(0, x - margin), max(0, y - margin)
    right, bottom = min(shape[1], x + width + margin), min(shape[0], y + height + margin)
    return None if min(right - left, bottom - top) < MIN_VISIBLE_PX else (left, top, right, bottom)


def _make_template(gray: Image, box: Box) -> Image | None:
    part = _visible_part(box, 0, gray.shape)
    if part is None:
        return None
    left, top, right, bottom = part
    cv2 = import_cv2()
    scale = TEMPLATE_PX / max(box[2:])
    size = max(MIN_TEMPLATE_PX, round((right - left) * scale)), max(MIN_TEMPLATE_PX, round((bottom - top) * scale))
    return np.asarray(cv2.resize(gray[top:bottom, left:right], size, interpolation=cv2.INTER_AREA), np.uint8)


def _match_template(gray: Image, box: Box, template: Image | None) -> tuple[int, int] | None:
    """Return how far a face has moved (dx, dy), pixels. None if it is not found near its previous position."""
    part = _visible_part(box, round(max(box[2:]) * SEARCH_MARGIN), gray.shape)
    if template is None or part is None:
        return None
    left, top, right, bottom = part
    cv2 = import_cv2()
    scale = TEMPLATE_PX / max(box[2:])
    size = round((right - left) * scale), round((bottom - top) * scale)
    if size[0] < template.shape[1] or size[1] < template.shape[0]:
        return None
    area = cv2.resize(gray[top:bottom, left:right], size, interpolation=cv2.INTER_AREA)
    correlation = cv2.matchTemplate(area, template, cv2.TM_CCOEFF_NORMED)
    _, highest, _, (column, row) = cv2.minMaxLoc(correlation)
    if not highest >= MIN_CORRELATION:  # also false for NaN
        return None
    dx = (column + _subpixel_peak(correlation[row], column)) / scale + left - max(0, box[0])
    dy = (row + _subpixel_peak(correlation[:, column], row)) / scale + top - max(0, box[1])
    return round(dx), round(dy)


def _subpixel_peak(values: npt.NDArray[np.float32], best: int) -> float:
    """Return the offset of the peak from the sample ``best``, -0.5..0.5: the vertex of a parabola through three samples."""
    if not 0 < best < len(values) - 1:
        return 0.0
    before, at, after = values[best - 1 : best + 2].tolist()
    curvature = before - 2 * at + after
    return float(0.5 * (before - after) / curvature) if curvature < 0 else 0.0
