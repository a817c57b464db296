"""Face detectors behind one protocol."""

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
HAAR_NEIGHBOURS = 5
HAAR_SMALLEST_PX = 32  # below, it finds faces in curtains
SAME_FACE_OVERLAP = 0.3
KNOWN_PX = 64  # a known face is brought to this size: with fewer pixels the cascade misses some that it found before
KNOWN_SHRINKS = 0.75  # and is not looked for below this share of it
MIN_FACE_PX = 32


@dataclass(frozen=True)
class Detection:
    """A face in an image.

    Attributes:
        box_px: The detector's box (x, y, width, height), pixels of the image; may reach beyond its border.
        eyes_px: Centres of the two eyes, the one further left in the image first; None where the detector does not know.
    """

    box_px: Box
    eyes_px: Eyes | None = None


class Detector(Protocol):
    """Finds faces in an image.

    Attributes:
        name: Name under which the contract keeps this detector's box transform.
        needs_gray: Whether gray is all that it looks at.
    """

    name: str
    needs_gray: bool

    def detect(
        self, image: Image, min_face_px: int = MIN_FACE_PX, previous_boxes: Sequence[Box] | None = None
    ) -> list[Detection]:
        """Find the faces of an image.

        Args:
            image: uint8 array (height, width, 3), RGB, or (height, width), gray.
            min_face_px: Faces with a smaller box are not looked for; the larger it is, the faster the search.
            previous_boxes: Boxes in the previous frame of the same source. A detector may search around them and search only
                a part of the rest per call. None searches the whole image.

        Returns:
            The faces, largest first.
        """


class HaarDetector:
    """OpenCV's Haar cascade for frontal faces, the box that FER2013 and CK+48 were cut by."""

    name = "haar"
    needs_gray = True

    def __init__(self) -> None:
        cv2 = import_cv2()
        if not hasattr(cv2, "CascadeClassifier"):
            raise ImportError(
                f"this OpenCV ({cv2.__version__}) has no Haar cascades: version 5 dropped them. "
                "Install one that has: pip install 'fer-edge[edge]'"
            )
        cascades = getattr(getattr(cv2, "data", None), "haarcascades", None)
        if cascades is None or not (Path(cascades) / HAAR_FILE).is_file():
            raise ImportError(
                f"this OpenCV ({cv2.__version__}) came without Haar cascades. Install one: pip install 'fer-edge[edge]'"
            )
        self._cv2 = cv2
        self._cascade = cv2.CascadeClassifier(str(Path(cascades) / HAAR_FILE))
        self._parts = TileScheduler()

    def detect(
        self, image: Image, min_face_px: int = MIN_FACE_PX, previous_boxes: Sequence[Box] | None = None
    ) -> list[Detection]:
        """Find the faces of an RGB or gray image, largest first."""
        gray = image if image.ndim == 2 else np.asarray(self._cv2.cvtColor(image, self._cv2.COLOR_RGB2GRAY), np.uint8)
        if previous_boxes is None:
            return _largest_first([Detection(box) for box in self._infer_tile(gray, min_face_px)])
        height, width = gray.shape
        found: list[Box] = []
        parts = self._parts.next_tiles(width, height, min_face_px, previous_boxes)
        sizes = [KNOWN_SHRINKS * max(box[2:]) for box in previous_boxes] if len(parts) > len(previous_boxes) else []
        for number, (left, top, w, h) in enumerate(parts):
            again = number < len(sizes)
            smallest = max(min_face_px, round(sizes[number] if again else MIN_FACE_FRACTION * max(w, h)))
            seen_px = round(KNOWN_PX * KNOWN_SHRINKS) if again else HAAR_SMALLEST_PX
            for x, y, side, _ in self._infer_tile(gray[top : top + h, left : left + w], smallest, seen_px):
                box = (x + left, y + top, side, side)
                if all(iou(box, other) < SAME_FACE_OVERLAP for other in found):
                    found.append(box)
        return _largest_first([Detection(box) for box in found])

    def _infer_tile(self, gray: Image, min_face_px: int, seen_px: int = HAAR_SMALLEST_PX) -> list[Box]:
        # The smallest face that is looked for is shrunk to what the cascade needs: nothing finer has to be searched.
        scale = min(1.0, seen_px / min_face_px)
        if scale < 1:
            size = max(1, round(gray.shape[1] * scale)), max(1, round(gray.shape[0] * scale))
            gray = self._cv2.resize(gray, size, interpolation=self._cv2.INTER_AREA)
        least = min(seen_px, min_face_px)
        found = self._cascade.detectMultiScale(gray, HAAR_SCALE_STEP, HAAR_NEIGHBOURS, minSize=(least, least))
        return [(round(x / scale), round(y / scale), round(w / scale), round(h / scale)) for x, y, w, h in found]


class BlazeFaceDetector:
    """MediaPipe's face detector through the TFLite interpreter; knows the eyes.

    Raises:
        ImportError: If the package with the model is not installed.
    """

    name = "blazeface"
    needs_gray = False

    def __init__(self) -> None:
        self._network = BlazeFace()

    def detect(
        self, image: Image, min_face_px: int = MIN_FACE_PX, previous_boxes: Sequence[Box] | None = None
    ) -> list[Detection]:
        """Find the faces of an RGB or gray image, largest first."""
        return _found(self._network.detect(_three_channels(image), min_face_px, previous_boxes), min_face_px)


class YuNetDetector:
    """OpenCV's small neural detector; knows the eyes.

    Args:
        model: Its .onnx file; looked for where None.

    Raises:
        ImportError: If there is no such file.
    """

    name = "yunet"
    needs_gray = False

    def __init__(self, model: str | Path | None = None) -> None:
        self._network = YuNet(model)

    def detect(
        self, image: Image, min_face_px: int = MIN_FACE_PX, previous_boxes: Sequence[Box] | None = None
    ) -> list[Detection]:
        """Find the faces of an RGB or gray image, largest first."""
        return _found(self._network.detect(_three_channels(image), min_face_px), min_face_px)


class FullFrame:
    """No detection: the image is the face, as in a folder of crops."""

    name = "none"
    needs_gray = True

    def detect(
        self, image: Image, min_face_px: int = MIN_FACE_PX, previous_boxes: Sequence[Box] | None = None
    ) -> list[Detection]:
        """Return one box (x, y, width, height), the whole image."""
        return [Detection((0, 0, image.shape[1], image.shape[0]))]


DETECTORS: dict[str, Callable[[], Detector]] = {
    "blazeface": BlazeFaceDetector,
    "yunet": YuNetDetector,
    "haar": HaarDetector,
    "none": FullFrame,
}


def open_detector(name: str = "auto") -> Detector:
    """Make a detector.

    Args:
        name: One of DETECTORS; a YuNet .onnx file; or ``auto``: BlazeFace where its package is installed, else Haar.

    Raises:
        ValueError: If the name is unknown.
        ImportError: If what the detector needs is missing.
    """
    if name == "auto":
        name = "blazeface" if blazeface_model() else "haar"
    if name.endswith(".onnx"):
        return YuNetDetector(name)
    if name not in DETECTORS:
        raise ValueError(f"unknown detector '{name}'; choose one of: auto, {', '.join(DETECTORS)}, or name a YuNet .onnx file")
    return DETECTORS[name]()


def largest_box(found: Sequence[Detection]) -> Box | None:
    """Return the box with the largest area, None of none."""
    return _largest_first(found)[0].box_px if found else None


def _found(boxes_and_eyes: Sequence[tuple[Box, Eyes]], min_face_px: int) -> list[Detection]:
    return _largest_first([Detection(box, eyes) for box, eyes in boxes_and_eyes if max(box[2:]) >= min_face_px])


def _largest_first(found: Sequence[Detection]) -> list[Detection]:
    areas = np.array([detection.box_px[2] * detection.box_px[3] for detection in found])
    return [found[i] for i in np.argsort(-areas, kind="stable")]


def _three_channels(image: Image) -> Image:
    return image if image.ndim == 3 else np.asarray(import_cv2().cvtColor(image, import_cv2().COLOR_GRAY2RGB), np.uint8)
