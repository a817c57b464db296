"""OpenCV's Haar cascades: the frontal one, and where it finds nothing, a second frontal one and one for profiles."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from fer_edge.artifacts.contract import BoxTransform
from fer_edge.edge_runtime.crop import Box
from fer_edge.edge_runtime.detectors.detection import MIN_FACE_PX, Detection, largest_first
from fer_edge.edge_runtime.detectors.tiling import MIN_FACE_FRACTION, TileScheduler, expand_box, iou
from fer_edge.edge_runtime.images import Image, import_cv2

SCALED_FACE_PX = 32  # side to which the smallest face is scaled; with smaller faces, it finds faces in curtains
MAX_IOU = 0.3  # of two boxes; above, they are the same face
KNOWN_FACE_PX = 64  # side to which a known face is scaled; with fewer pixels the cascade loses some of them
KNOWN_FACE_SHRINK = 0.75  # smallest size of a known face, relative to the previous frame
EXAMINED_FACE_PX = 64  # side to which a candidate is scaled before it is examined: the number of hits depends on the size
EXAMINED_SIDE_PX = 102  # of the square around it
EXAMINED_SIZES = (0.7, 1.4)  # of a face in that square, relative to the candidate
EXAMINED_SCALE_STEP = 1.1
MIN_SCORE = 0.5


@dataclass(frozen=True)
class Search:
    """How finely a cascade searches.

    Attributes:
        scale_step: Ratio of two successive sizes of a face, > 1. Most of the time is spent on the smallest sizes.
        min_neighbors: Overlapping hits of a candidate; its score decides.
        relative_hits: Number of overlapping hits on a face, relative to IMAGE_SEARCH: fewer sizes give fewer hits.
    """

    scale_step: float
    min_neighbors: int
    relative_hits: float


IMAGE_SEARCH = Search(1.1, 2, 1.0)
# In frames it finds known faces as often and new ones nearly as often, in 0.4 to 0.5 of the time: see the lab notebook.
FRAME_SEARCH = Search(1.25, 1, 0.42)


@dataclass(frozen=True)
class Cascade:
    """A cascade file and how to read its results.

    Attributes:
        file: File name in OpenCV's data folder.
        half_score_neighbors: Number of overlapping hits for which the score is 0.5. Chosen on the development set.
        examined: Whether the second frontal cascade examines the candidates and its hits count. Otherwise, those of the search.
        mirrored: Whether to search the mirrored image: OpenCV has only a cascade for one profile.
        box_transform: From its box to that of the first cascade, with which the training faces were cropped. Medians over faces
            that both find.
    """

    file: str
    half_score_neighbors: float
    examined: bool = True
    mirrored: bool = False
    box_transform: BoxTransform = field(default_factory=BoxTransform)


PROFILE = Cascade("haarcascade_profileface.xml", 6, examined=False, box_transform=BoxTransform(0.92, -0.165, 0.02))
FRONTAL = Cascade("haarcascade_frontalface_default.xml", 6)
SECOND_FRONTAL = Cascade("haarcascade_frontalface_alt2.xml", 6, box_transform=BoxTransform(1.02))
FALLBACKS = (SECOND_FRONTAL, PROFILE, replace(PROFILE, mirrored=True))


class Haar:
    """OpenCV's Haar cascades. FER2013 and CK+48 were cropped with the box of the first one.

    The first cascade finds candidates, also many that are not faces. The second frontal cascade, which rarely finds the same
    ones, examines each of them. The score is n / (n + half_score_neighbors) for its n overlapping hits. Where no candidate is
    a face, the second frontal cascade and the profile cascade search too.

    Args:
        min_score: Faces with a lower score are dropped, 0..1.

    Raises:
        ImportError: If this OpenCV has no Haar cascades.
    """

    name = "haar"
    needs_gray = True

    def __init__(self, min_score: float = MIN_SCORE) -> None:
        self._cv2 = import_cv2()
        folder = cascade_folder(self._cv2)
        self._classifiers: dict[str, Any] = {
            cascade.file: self._cv2.CascadeClassifier(str(folder / cascade.file)) for cascade in (FRONTAL, *FALLBACKS)
        }
        self._scheduler = TileScheduler()
        self._min_score = min_score
        self._calls = 0

    def detect(
        self, image: Image, min_face_px: int = MIN_FACE_PX, previous_boxes: Sequence[Box] | None = None
    ) -> list[Detection]:
        """Find the faces in an image.

        Args:
            image: uint8 array (height, width, 3), RGB, or (height, width), gray.
            min_face_px: Side of the smallest face to find, pixels.
            previous_boxes: Boxes in the previous frame. None searches the whole image.

        Returns:
            The faces, largest first.
        """
        gray = image if image.ndim == 2 else np.asarray(self._cv2.cvtColor(image, self._cv2.COLOR_RGB2GRAY), np.uint8)
        height, width = gray.shape
        if previous_boxes is None:
            whole = (0, 0, width, height)
            all_cascades = (FRONTAL, *FALLBACKS)
            return largest_first(self._first_hits(gray, whole, min_face_px, SCALED_FACE_PX, all_cascades, IMAGE_SEARCH))
        faces: list[Detection] = []
        known, tiles = self._scheduler.next_tiles(width, height, min_face_px, previous_boxes)
        for box in known:
            smallest = max(min_face_px, round(KNOWN_FACE_SHRINK * max(box[2:])))
            tile = expand_box(box, width, height)
            scaled_px = round(KNOWN_FACE_PX * KNOWN_FACE_SHRINK)
            _add(faces, self._first_hits(gray, tile, smallest, scaled_px, (FRONTAL, *FALLBACKS), FRAME_SEARCH))
        # One more cascade per call, in turn, so that an empty room does not take four times as long.
        self._calls += 1
        cascades = (FRONTAL, FALLBACKS[self._calls % len(FALLBACKS)])
        for tile in tiles:
            smallest = max(min_face_px, round(MIN_FACE_FRACTION * max(tile[2:])))
            _add(faces, self._first_hits(gray, tile, smallest, SCALED_FACE_PX, cascades, FRAME_SEARCH))
        return largest_first(faces)

    def _first_hits(
        self, gray: Image, tile: Box, min_face_px: int, scaled_px: int, cascades: Sequence[Cascade], search: Search
    ) -> list[Detection]:
        """Return the faces in a tile by the first of the cascades that finds any."""
        left, top, width, height = tile
        part = gray[top : top + height, left : left + width]
        # Scale the image down until the smallest face has the size that the cascade needs: finer details cost only time.
        scale = min(1.0, scaled_px / min_face_px)
        if scale < 1:
            size = max(1, round(width * scale)), max(1, round(height * scale))
            part = np.asarray(self._cv2.resize(part, size, interpolation=self._cv2.INTER_AREA), np.uint8)
        for cascade in cascades:
            hits = self._search(part, cascade, min(scaled_px, min_face_px), search)
            if hits:
                return [_in_image(hit, left, top, scale, cascade) for hit in hits]
        return []

    def _search(self, gray: Image, cascade: Cascade, min_face_px: int, search: Search) -> list[Detection]:
        """Return the faces of one cascade in an image, the highest score first."""
        pixels = np.ascontiguousarray(gray[:, ::-1]) if cascade.mirrored else gray
        boxes, counts = self._classifiers[cascade.file].detectMultiScale2(
            pixels, search.scale_step, search.min_neighbors, minSize=(min_face_px, min_face_px)
        )
        hits = []
        for (x, y, width, height), count in zip(boxes, counts, strict=True):
            left = gray.shape[1] - x - width if cascade.mirrored else x
            box = (int(left), int(y), int(width), int(height))
            neighbors = self._examine(gray, box) if cascade.examined else int(count) / search.relative_hits
            score = neighbors / (neighbors + cascade.half_score_neighbors)
            if score >= self._min_score:
                hits.append(Detection(box, None, score))
        faces: list[Detection] = []
        _add(faces, sorted(hits, key=lambda hit: -hit.score))
        return faces

    def _examine(self, gray: Image, box: Box) -> int:
        """Return the number of overlapping hits of the second frontal cascade on a candidate, scaled to a fixed size."""
        margin = (EXAMINED_SIDE_PX / EXAMINED_FACE_PX - 1) / 2
        x, y, width, height = box
        rows = np.clip(np.arange(round(y - margin * height), round(y + (1 + margin) * height)), 0, gray.shape[0] - 1)
        columns = np.clip(np.arange(round(x - margin * width), round(x + (1 + margin) * width)), 0, gray.shape[1] - 1)
        method = self._cv2.INTER_AREA if width > EXAMINED_FACE_PX else self._cv2.INTER_LINEAR_EXACT
        square = self._cv2.resize(gray[rows][:, columns], (EXAMINED_SIDE_PX, EXAMINED_SIDE_PX), interpolation=method)
        low, high = (round(EXAMINED_FACE_PX * size) for size in EXAMINED_SIZES)
        boxes, counts = self._classifiers[SECOND_FRONTAL.file].detectMultiScale2(
            square, EXAMINED_SCALE_STEP, 1, minSize=(low, low), maxSize=(high, high)
        )
        corner = (EXAMINED_SIDE_PX - EXAMINED_FACE_PX) / 2
        candidate = (corner, corner, EXAMINED_FACE_PX, EXAMINED_FACE_PX)
        hits = [int(n) for hit, n in zip(boxes, counts, strict=True) if iou([float(v) for v in hit], candidate) > MAX_IOU]
        return max(hits, default=0)


def cascade_folder(cv2: Any) -> Path:
    """Return the folder with the cascade files of this OpenCV.

    Raises:
        ImportError: If it has none.
    """
    if not hasattr(cv2, "CascadeClassifier"):
        raise ImportError(
            f"this OpenCV ({cv2.__version__}) has no Haar cascades: OpenCV 5 removed them. "
            "Install an older version: pip install 'fer-edge[edge]'"
        )
    folder = getattr(getattr(cv2, "data", None), "haarcascades", None)
    for cascade in (FRONTAL, *FALLBACKS):
        if folder is None or not (Path(folder) / cascade.file).is_file():
            raise ImportError(
                f"this OpenCV ({cv2.__version__}) does not include {cascade.file}. "
                "Install a build that does: pip install 'fer-edge[edge]'"
            )
    return Path(str(folder))


def _in_image(hit: Detection, left: int, top: int, scale: float, cascade: Cascade) -> Detection:
    """Return a hit in pixels of the image, with the box that the first cascade would return."""
    x, y, width, height = (value / scale for value in hit.box_px)
    transform = cascade.box_transform
    shift_x = -transform.shift_x if cascade.mirrored else transform.shift_x
    side_x, side_y = width * transform.scale, height * transform.scale
    corner_x = left + x + width * (0.5 + shift_x) - side_x / 2
    corner_y = top + y + height * (0.5 + transform.shift_y) - side_y / 2
    return Detection((round(corner_x), round(corner_y), round(side_x), round(side_y)), None, hit.score)


def _add(faces: list[Detection], more: Sequence[Detection]) -> None:
    """Add the faces that overlap with none in the list."""
    for face in more:
        if all(iou(face.box_px, other.box_px) < MAX_IOU for other in faces):
            faces.append(face)
