"""The detector protocol, its implementations, and ``open_detector``."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from fer_edge.edge_runtime.crop import Box, Eyes
from fer_edge.edge_runtime.detectors.blazeface import BlazeFace, blazeface_model
from fer_edge.edge_runtime.detectors.tiling import MIN_FACE_FRACTION, TileScheduler, iou
from fer_edge.edge_runtime.detectors.yunet import YuNet
from fer_edge.edge_runtime.images import Image, import_cv2

HAAR_FILE = "haarcascade_frontalface_default.xml"
HAAR_SCALE_STEP = 1.1
HAAR_NEIGHBORS = 5
HAAR_FACE_PX = 32  # side to which the smallest face is scaled; with smaller faces, it finds faces in curtains
MAX_IOU = 0.3  # of two boxes; above, they are the same face
KNOWN_FACE_PX = 64  # side to which a known face is scaled; with fewer pixels the cascade loses some of them
KNOWN_FACE_SHRINK = 0.75  # smallest size of a known face, relative to the previous frame
MIN_FACE_PX = 32


@dataclass(frozen=True)
class Detection:
    """A detected face.

    Attributes:
        box_px: Box (x, y, width, height), pixels of the image. It may extend beyond the image.
        eyes_px: Centers of the eyes, pixels of the image, the eye further left first. None if the detector returns no eyes.
    """

    box_px: Box
    eyes_px: Eyes | None = None


class Detector(Protocol):
    """Finds faces in an image.

    Attributes:
        name: Name of the detector's box transform in the contract.
        needs_gray: Whether the detector uses only a gray image.
    """

    name: str
    needs_gray: bool

    def detect(
        self, image: Image, min_face_px: int = MIN_FACE_PX, previous_boxes: Sequence[Box] | None = None
    ) -> list[Detection]:
        """Find the faces in an image.

        Args:
            image: uint8 array (height, width, 3), RGB, or (height, width), gray.
            min_face_px: Side of the smallest face to find, pixels. A larger value makes the search faster.
            previous_boxes: Boxes in the previous frame of the same source. A detector may search around them and search only
                a part of the rest per call. None searches the whole image.

        Returns:
            The faces, largest first.
        """


class HaarDetector:
    """OpenCV's Haar cascade for frontal faces. FER2013 and CK+48 were cropped with its box.

    Raises:
        ImportError: If this OpenCV has no Haar cascades.
    """

    name = "haar"
    needs_gray = True

    def __init__(self) -> None:
        cv2 = import_cv2()
        if not hasattr(cv2, "CascadeClassifier"):
            raise ImportError(
                f"this OpenCV ({cv2.__version__}) has no Haar cascades: OpenCV 5 removed them. "
                "Install an older version: pip install 'fer-edge[edge]'"
            )
        cascades = getattr(getattr(cv2, "data", None), "haarcascades", None)
        if cascades is None or not (Path(cascades) / HAAR_FILE).is_file():
            raise ImportError(
                f"this OpenCV ({cv2.__version__}) does not include {HAAR_FILE}. "
                "Install a build that does: pip install 'fer-edge[edge]'"
            )
        self._cv2 = cv2
        self._cascade = cv2.CascadeClassifier(str(Path(cascades) / HAAR_FILE))
        self._scheduler = TileScheduler()

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
        if previous_boxes is None:
            return _largest_first([Detection(box) for box in self._search(gray, min_face_px)])
        height, width = gray.shape
        boxes: list[Box] = []
        tiles = self._scheduler.next_tiles(width, height, min_face_px, previous_boxes)
        # The tiles around known faces come first, unless next_tiles returned all tiles of the image.
        known_count = len(previous_boxes) if len(tiles) > len(previous_boxes) else 0
        for number, (left, top, w, h) in enumerate(tiles):
            if number < known_count:
                smallest = max(min_face_px, round(KNOWN_FACE_SHRINK * max(previous_boxes[number][2:])))
                scaled_px = round(KNOWN_FACE_PX * KNOWN_FACE_SHRINK)
            else:
                smallest = max(min_face_px, round(MIN_FACE_FRACTION * max(w, h)))
                scaled_px = HAAR_FACE_PX
            for x, y, side, _ in self._search(gray[top : top + h, left : left + w], smallest, scaled_px):
                box = (x + left, y + top, side, side)
                if all(iou(box, other) < MAX_IOU for other in boxes):
                    boxes.append(box)
        return _largest_first([Detection(box) for box in boxes])

    def _search(self, gray: Image, min_face_px: int, scaled_px: int = HAAR_FACE_PX) -> list[Box]:
        # Scale the image down until the smallest face has the size that the cascade needs: finer details cost only time.
        scale = min(1.0, scaled_px / min_face_px)
        if scale < 1:
            size = max(1, round(gray.shape[1] * scale)), max(1, round(gray.shape[0] * scale))
            gray = self._cv2.resize(gray, size, interpolation=self._cv2.INTER_AREA)
        smallest = min(scaled_px, min_face_px)
        boxes = self._cascade.detectMultiScale(gray, HAAR_SCALE_STEP, HAAR_NEIGHBORS, minSize=(smallest, smallest))
        return [(round(x / scale), round(y / scale), round(w / scale), round(h / scale)) for x, y, w, h in boxes]


class BlazeFaceDetector:
    """MediaPipe's face detector, run by the TFLite interpreter. It returns eyes.

    Raises:
        ImportError: If the model file is not installed.
    """

    name = "blazeface"
    needs_gray = False

    def __init__(self) -> None:
        self._network = BlazeFace()

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
        return _detections(self._network.detect(_three_channels(image), min_face_px, previous_boxes), min_face_px)


class YuNetDetector:
    """OpenCV's small neural detector. It returns eyes.

    Args:
        model: Path of the .onnx file. None searches for it.

    Raises:
        ImportError: If the file does not exist or OpenCV cannot load it.
    """

    name = "yunet"
    needs_gray = False

    def __init__(self, model: str | Path | None = None) -> None:
        self._network = YuNet(model)

    def detect(
        self, image: Image, min_face_px: int = MIN_FACE_PX, previous_boxes: Sequence[Box] | None = None
    ) -> list[Detection]:
        """Find the faces in an image.

        Args:
            image: uint8 array (height, width, 3), RGB, or (height, width), gray.
            min_face_px: Side of the smallest face to find, pixels.
            previous_boxes: Not used: YuNet always searches the whole image.

        Returns:
            The faces, largest first.
        """
        return _detections(self._network.detect(_three_channels(image), min_face_px), min_face_px)


class FullFrame:
    """No detection: the whole image is the face, as in a folder of crops."""

    name = "none"
    needs_gray = True

    def detect(
        self, image: Image, min_face_px: int = MIN_FACE_PX, previous_boxes: Sequence[Box] | None = None
    ) -> list[Detection]:
        """Return the whole image as one face.

        Args:
            image: uint8 array (height, width, 3) or (height, width).
            min_face_px: Not used.
            previous_boxes: Not used.
        """
        return [Detection((0, 0, image.shape[1], image.shape[0]))]


DETECTORS: dict[str, Callable[[], Detector]] = {
    "blazeface": BlazeFaceDetector,
    "yunet": YuNetDetector,
    "haar": HaarDetector,
    "none": FullFrame,
}


def open_detector(name: str = "auto") -> Detector:
    """Create a detector.

    Args:
        name: One of DETECTORS, the path of a YuNet .onnx file, or ``auto``: BlazeFace if it is installed, else Haar.

    Raises:
        ValueError: If the name is unknown.
        ImportError: If the detector's library or model is not installed.
    """
    if name == "auto":
        name = "blazeface" if blazeface_model() else "haar"
    if name.endswith(".onnx"):
        return YuNetDetector(name)
    if name not in DETECTORS:
        raise ValueError(
            f"unknown detector '{name}'; choose one of: auto, {', '.join(DETECTORS)}, or the path of a YuNet .onnx file"
        )
    return DETECTORS[name]()


def largest_box(detections: Sequence[Detection]) -> Box | None:
    """Return the box with the largest area, None if there is no detection."""
    return _largest_first(detections)[0].box_px if detections else None


def _detections(faces: Sequence[tuple[Box, Eyes]], min_face_px: int) -> list[Detection]:
    return _largest_first([Detection(box, eyes) for box, eyes in faces if max(box[2:]) >= min_face_px])


def _largest_first(detections: Sequence[Detection]) -> list[Detection]:
    return sorted(detections, key=lambda detection: -detection.box_px[2] * detection.box_px[3])


def _three_channels(image: Image) -> Image:
    return image if image.ndim == 3 else np.asarray(import_cv2().cvtColor(image, import_cv2().COLOR_GRAY2RGB), np.uint8)
