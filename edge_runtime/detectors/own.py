"""The own face detector of fer-edge: a small int8 network, run by the same TFLite interpreter as the classifier."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fer_edge.edge_runtime.crop import Box
from fer_edge.edge_runtime.detectors.decode import Candidates, decode, join, suppress
from fer_edge.edge_runtime.detectors.detection import MIN_FACE_PX, Detection, largest_first
from fer_edge.edge_runtime.detectors.detector_network import MISSING_FILE, DetectorNetwork, own_detector_model
from fer_edge.edge_runtime.detectors.tiling import iou
from fer_edge.edge_runtime.images import Image, import_cv2

MIN_INPUT_FACE_PX = 20  # of the smallest face in a look; smaller faces are searched in tiles
MAX_LEVEL_STEP = 3.0  # ratio of the scales of two successive sizes of tiles
MAX_SCALE = 1.0  # of tiles: to enlarge the image shows no more of a face
EDGE_TOLERANCE = 0.1  # fraction of a face that may be outside the tile
LOOK_SIDES = (2.5, 2.0)  # width and height of the part around a face, in box sides: the face has 64 of 160 x 128 pixels
CANDIDATE_SHRINK = 0.8  # a candidate may be this much smaller than the smallest face: the second look measures it better
MAX_IOU = 0.3  # of two boxes; above, they are the same face
MIN_MOVED_IOU = 0.1  # of a face and its box in the previous frame
SEARCH_EVERY = 3  # detections while all known faces are found
TILES_PER_SEARCH = 2  # in a frame, in addition to the whole frame, while no face is known; otherwise one
MAX_NEW_FACES = 8  # candidates per frame that get a second look, the best; the others are seen in the next searches


class OwnDetector:
    """A fully convolutional network of fer-edge. It returns eyes.

    One look at the whole image finds candidates. Each of them gets a second look, in which the face fills 64 of 160 x 128
    pixels; the score comes from the mean of the two logits, box and eyes from the second look. Faces too small for the first
    look are searched in tiles. In a video, a face of the previous frame gets one look around its box; while all of them are
    found, only every third detection searches the whole frame.

    Args:
        model: Path of the .tflite file. None: see ``own_detector_model``.
        min_score: Faces with a lower score are dropped, 0..1. None: the threshold in the contract of the file.

    Attributes:
        looks: Number of inferences so far.

    Raises:
        FileNotFoundError: If ``model`` does not exist.
        ImportError: If no model is installed, or no interpreter.
        ModelError: If the file is not a detector of fer-edge, or is damaged.
    """

    name = "own"
    needs_gray = True

    def __init__(self, model: str | Path | None = None, min_score: float | None = None) -> None:
        path = Path(model) if model else own_detector_model()
        if path is None:
            raise ImportError(MISSING_FILE)
        self._cv2 = import_cv2()
        self._network = DetectorNetwork(path)
        contract = self._network.contract
        self._slope, self._shift = contract.score_calibration
        self._min_score = contract.score_threshold if min_score is None else min_score
        self._min_logit = self._logit(min(contract.second_look_threshold, self._min_score))
        self._pixels = np.zeros((contract.height, contract.width), np.uint8)
        self._searches = self._next_tile = self.looks = 0

    def detect(
        self, image: Image, min_face_px: int = MIN_FACE_PX, previous_boxes: Sequence[Box] | None = None
    ) -> list[Detection]:
        """Find the faces in an image.

        Args:
            image: uint8 array (height, width, 3), RGB, or (height, width), gray.
            min_face_px: Side of the smallest face to find, pixels. It selects the size of the tiles.
            previous_boxes: Boxes in the previous frame. None searches the whole image.

        Returns:
            The faces, largest first.
        """
        gray = image if image.ndim == 2 else np.asarray(self._cv2.cvtColor(image, self._cv2.COLOR_RGB2GRAY), np.uint8)
        height, width = gray.shape
        known = [self._examine(gray, box, MIN_MOVED_IOU) for box in previous_boxes or ()]
        faces = [face for face in known if face is not None]
        parts = search_parts(width, height, min_face_px, self._pixels.shape)
        if previous_boxes is not None:
            parts = self._turn(parts, len(previous_boxes), len(faces))
        if parts:
            found = suppress(join([self._search(gray, part) for part in parts]))
            large = found.take(found.boxes[:, 2] >= CANDIDATE_SHRINK * min_face_px)
            faces += self._second_looks(gray, large, faces, None if previous_boxes is None else MAX_NEW_FACES)
        kept = suppress(join(faces)) if faces else None
        return largest_first(self._detections(kept, min_face_px)) if kept else []

    def _turn(self, parts: list[Box], known: int, found: int) -> list[Box]:
        """Return the parts of a frame to search in this detection: none, or the whole frame and some tiles in turn.

        Args:
            parts: All parts, the whole frame first.
            known: Number of faces in the previous frame.
            found: Number of them in this frame.
        """
        self._searches += 1
        if known and found == known and self._searches % SEARCH_EVERY:
            return []
        whole, *tiles = parts
        count = min(len(tiles), 1 if known else TILES_PER_SEARCH)
        turn = [tiles[(self._next_tile + k) % len(tiles)] for k in range(count)]
        self._next_tile += count
        return [whole, *turn]

    def _search(self, gray: Image, part: Box) -> Candidates:
        """Return the candidates in a part of the image, without those that another part shows more of."""
        found = self._look(gray, part)
        left, top, width, height = part
        x, y, side = found.boxes[:, 0], found.boxes[:, 1], found.boxes[:, 2]
        tolerance = EDGE_TOLERANCE * side
        inside = (left == 0) | (x > left - tolerance)
        inside &= (top == 0) | (y > top - tolerance)
        inside &= (left + width == gray.shape[1]) | (x + side < left + width + tolerance)
        inside &= (top + height == gray.shape[0]) | (y + side < top + height + tolerance)
        return found.take(inside)

    def _second_looks(
        self, gray: Image, candidates: Candidates, faces: Sequence[Candidates], limit: int | None
    ) -> list[Candidates]:
        """Return the candidates that a second look confirms, without known faces."""
        boxes = candidates.boxes.tolist()
        known = [face.boxes[0].tolist() for face in faces]
        new = [index for index, box in enumerate(boxes) if all(iou(box, other) <= MAX_IOU for other in known)]
        confirmed = []
        for index in new[:limit]:
            face = self._examine(gray, boxes[index], MAX_IOU)
            if face is not None:
                mean = (face.logits + candidates.logits[index]) / 2
                confirmed.append(face._replace(logits=mean))
        return confirmed

    def _examine(self, gray: Image, box: Sequence[float], min_iou: float) -> Candidates | None:
        """Look at the part around a box.

        Returns:
            The best candidate that overlaps with the box by more than ``min_iou``; None without one.
        """
        found = self._look(gray, part_around(box, gray.shape[1], gray.shape[0]))
        hits = [index for index, other in enumerate(found.boxes.tolist()) if iou(box, other) > min_iou]
        return found.take(np.array(hits[:1])) if hits else None

    def _look(self, gray: Image, part: Box) -> Candidates:
        """Run the network on a part of the image, scaled to its input, on black.

        Returns:
            The candidates, in pixels of the image, the highest logit first.
        """
        left, top, width, height = part
        rows, columns = self._pixels.shape
        scale = min(columns / width, rows / height)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        x, y = (columns - size[0]) // 2, (rows - size[1]) // 2
        # The exact variant: OpenCV's INTER_LINEAR gives other bytes on ARM.
        method = self._cv2.INTER_AREA if scale < 1 else self._cv2.INTER_LINEAR_EXACT
        self._pixels[:] = 0
        area = gray[top : top + height, left : left + width]
        self._pixels[y : y + size[1], x : x + size[0]] = self._cv2.resize(area, size, interpolation=method)
        self.looks += 1
        boxes, eyes, logits = decode(*self._network.infer(self._pixels), self._network.contract.strides, self._min_logit)
        corner = np.array([x, y])
        boxes[:, :2] -= corner
        boxes = boxes / scale
        boxes[:, :2] += (left, top)
        eyes = (eyes - np.tile(corner, 2)) / scale + np.tile((left, top), 2)
        return Candidates(boxes, eyes, logits)

    def _logit(self, score: float) -> float:
        """Return the logit of a score."""
        probability = min(max(score, 1e-6), 1 - 1e-6)
        return (math.log(probability / (1 - probability)) - self._shift) / self._slope

    def _detections(self, faces: Candidates, min_face_px: int) -> list[Detection]:
        """Return the faces with a sufficient score and size."""
        scores = 1 / (1 + np.exp(-np.clip(self._slope * faces.logits + self._shift, -80, 80)))
        detections = []
        for box, eyes, score in zip(faces.boxes.tolist(), faces.eyes.tolist(), scores.tolist(), strict=True):
            x, y, width, height = (round(value) for value in box)
            if score >= self._min_score and width >= min_face_px:
                first, second = sorted([(eyes[0], eyes[1]), (eyes[2], eyes[3])])
                detections.append(Detection((x, y, width, height), (first, second), score))
        return detections


def part_around(box: Sequence[float], width: int, height: int) -> Box:
    """Return the part of an image around a face, for a second look.

    Args:
        box: Box (x, y, width, height) of the face, pixels.
        width: Width of the image, pixels.
        height: Height of the image, pixels.

    Returns:
        Box (x, y, width, height) inside the image, at least 1 x 1.
    """
    side = max(box[2:4])
    ranges = []
    for start, length, sides, limit in ((box[0], box[2], LOOK_SIDES[0], width), (box[1], box[3], LOOK_SIDES[1], height)):
        center = start + length / 2
        low = min(max(0, round(center - side * sides / 2)), limit - 1)
        ranges.append((low, max(1, min(limit, round(center + side * sides / 2)) - low)))
    (left, part_width), (top, part_height) = ranges
    return left, top, part_width, part_height


def search_parts(width: int, height: int, min_face_px: int, input_shape: tuple[int, int]) -> list[Box]:
    """Return the parts of an image in which to search: all of it and, if faces may be too small in it, overlapping tiles.

    Args:
        width: Width of the image, pixels.
        height: Height of the image, pixels.
        min_face_px: Side of the smallest face to find, pixels.
        input_shape: Height and width of the input of the network, pixels.

    Returns:
        Boxes (x, y, width, height) inside the image. The first one is the whole image.
    """
    parts = [(0, 0, width, height)]
    rows, columns = input_shape
    scale = min(columns / width, rows / height)
    ratio = min(MIN_INPUT_FACE_PX / max(1, min_face_px), MAX_SCALE) / scale
    levels = math.ceil(math.log(ratio) / math.log(MAX_LEVEL_STEP) - 1e-9) if ratio > 1 else 0
    for _ in range(levels):
        overlap = math.ceil(MIN_INPUT_FACE_PX / scale)  # the smallest face that larger parts show
        scale *= ratio ** (1 / levels)
        tile_width, tile_height = min(width, round(columns / scale)), min(height, round(rows / scale))
        starts_y, starts_x = _starts(height, tile_height, overlap), _starts(width, tile_width, overlap)
        parts += [(x, y, tile_width, tile_height) for y in starts_y for x in starts_x]
    return parts


def _starts(length: int, tile: int, overlap: int) -> list[int]:
    """Return where tiles start that cover a length and overlap by at least ``overlap``."""
    last = length - tile
    steps = math.ceil(last / max(1, tile - overlap))
    return [round(last * k / max(1, steps)) for k in range(steps + 1)]
