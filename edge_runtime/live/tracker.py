"""Faces from frame to frame: which one is which, and where each is while the detector rests."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fer_edge.edge_runtime.crop import Box, Eyes
from fer_edge.edge_runtime.detectors.detector import Detection
from fer_edge.edge_runtime.detectors.tiling import iou
from fer_edge.edge_runtime.images import Image, import_cv2

MIN_IOU = 0.3  # intersection over union at which two boxes are the same face
TEMPLATE_PX = 32  # side of the template that is searched for; one step is 1/32 of a face
SEARCH_SHARE = 0.4  # of a face's side, in each direction: what a head covers in a frame or two
MIN_CORRELATION = 0.6  # normalised correlation
MAX_MISSED_DETECTIONS = 10  # detections without it; until then, a face that comes back keeps its number


@dataclass
class _Track:
    number: int
    box: Box
    eyes: Eyes | None
    template: Image | None
    missed: int = 0


@dataclass(frozen=True)
class TrackedFace:
    """A face in one frame.

    Attributes:
        number: The same in every frame that shows this face, from 1.
        box_px: Its box (x, y, width, height), pixels.
        eyes_px: Its eyes, pixels; None where unknown.
    """

    number: int
    box_px: Box
    eyes_px: Eyes | None


class Tracker:
    """Gives faces their numbers at each detection, and follows them by their looks between detections.

    Args:
        most: Faces at most; the largest stay.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._tracks: list[_Track] = []
        self._numbers = itertools.count(1)
        self._size: tuple[int, ...] = ()

    def update(self, found: Sequence[Detection], gray: Image | None) -> list[TrackedFace]:
        """Take the detector's word.

        Args:
            found: The faces of this frame, largest first.
            gray: The frame, uint8 (height, width), to remember the faces' looks; None where follow() will not be called.

        Returns:
            These faces with their numbers, in the same order.
        """
        found = found[: self._most]
        matched = self._match(found)
        seen = []
        for detection, track in zip(found, matched, strict=True):
            if track is None:
                track = _Track(next(self._numbers), detection.box_px, detection.eyes_px, None)
            track.box, track.eyes, track.missed = detection.box_px, detection.eyes_px, 0
            track.template = None if gray is None else _template(gray, track.box)
            seen.append(track)
        kept = [track for track in self._tracks if all(track is not other for other in seen)]
        for track in kept:
            track.missed += 1
        self._tracks = seen + [track for track in kept if track.missed < MAX_MISSED_DETECTIONS][: self._most]
        self._size = () if gray is None else gray.shape
        return [TrackedFace(track.number, track.box, track.eyes) for track in seen]

    def track(self, gray: Image) -> list[TrackedFace] | None:
        """Find the faces of the last detection again, each near its last place.

        Args:
            gray: uint8 array (height, width).

        Returns:
            The faces in the order of the detection; None where one was lost, so that the detector has to look.
        """
        current = [track for track in self._tracks if not track.missed]
        if gray.shape != self._size:
            return None
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
        return [TrackedFace(track.number, track.box, track.eyes) for track in current]

    @property
    def boxes(self) -> list[Box]:
        """Return the boxes of the faces in the newest frame."""
        return [track.box for track in self._tracks if not track.missed]

    def reset(self) -> None:
        """Forget all faces: the next frame has nothing to do with the last one. No number is given twice."""
        self._tracks = []

    def _match(self, found: Sequence[Detection]) -> list[_Track | None]:
        """Return the track of each detection: the pairs that overlap most come first."""
        pairs = [
            (iou(detection.box_px, track.box), i, k)
            for i, detection in enumerate(found)
            for k, track in enumerate(self._tracks)
        ]
        matched: list[_Track | None] = [None] * len(found)
        taken: set[int] = set()
        for shared, i, k in sorted(pairs, key=lambda pair: -pair[0]):
            if shared >= MIN_IOU and matched[i] is None and k not in taken:
                matched[i] = self._tracks[k]
                taken.add(k)
        return matched


def _inside(box: Box, margin: int, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom of a box with a margin, cut at the image's border."""
    x, y, width, height = box
    return max(0, x - margin), max(0, y - margin), min(shape[1], x + width + margin), min(shape[0], y + height + margin)


def _template(gray: Image, box: Box) -> Image | None:
    left, top, right, bottom = _inside(box, 0, gray.shape)
    if right - left < 8 or bottom - top < 8:
        return None
    cv2 = import_cv2()
    scale = TEMPLATE_PX / max(box[2:])
    size = max(4, round((right - left) * scale)), max(4, round((bottom - top) * scale))
    return np.asarray(cv2.resize(gray[top:bottom, left:right], size, interpolation=cv2.INTER_AREA), np.uint8)


def _match_template(gray: Image, box: Box, template: Image | None) -> tuple[int, int] | None:
    """Return how far a face has moved, pixels; None where nothing near looks like it."""
    if template is None:
        return None
    cv2 = import_cv2()
    left, top, right, bottom = _inside(box, round(max(box[2:]) * SEARCH_SHARE), gray.shape)
    if right - left < 8 or bottom - top < 8:
        return None
    scale = TEMPLATE_PX / max(box[2:])
    size = round((right - left) * scale), round((bottom - top) * scale)
    if size[0] < template.shape[1] or size[1] < template.shape[0]:
        return None
    area = cv2.resize(gray[top:bottom, left:right], size, interpolation=cv2.INTER_AREA)
    likeness = cv2.matchTemplate(area, template, cv2.TM_CCOEFF_NORMED)
    _, best, _, (column, row) = cv2.minMaxLoc(likeness)
    if not best >= MIN_CORRELATION:
        return None
    was_left, was_top, _, _ = _inside(box, 0, gray.shape)
    dx = (column + _subpixel_peak(likeness[row], column)) / scale + left - was_left
    dy = (row + _subpixel_peak(likeness[:, column], row)) / scale + top - was_top
    return round(dx), round(dy)


def _subpixel_peak(values: npt.NDArray[np.float32], best: int) -> float:
    """Return where the peak lies between the samples, -0.5..0.5: the top of a parabola through three of them."""
    if not 0 < best < len(values) - 1:
        return 0.0
    before, at, after = values[best - 1 : best + 2].tolist()
    bend = before - 2 * at + after
    return float(0.5 * (before - after) / bend) if bend < 0 else 0.0
