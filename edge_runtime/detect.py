"""Face detectors behind one protocol."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from fer_edge.edge_runtime.blazeface import BlazeFaceDetector, blazeface_model
from fer_edge.edge_runtime.crop import Box
from fer_edge.edge_runtime.pictures import Picture, import_cv2

HAAR_FILE = "haarcascade_frontalface_default.xml"
HAAR_SCALE_STEP = 1.1
HAAR_NEIGHBOURS = 5
MIN_FACE_PX = 32


class Detector(Protocol):
    """Finds faces in a picture.

    Attributes:
        name: Name under which the contract keeps this detector's box transform.
    """

    name: str

    def detect(self, picture: Picture) -> list[Box]:
        """Return the boxes (x, y, width, height) in pixels of an RGB picture (height, width, 3), largest first."""


class HaarDetector:
    """OpenCV's Haar cascade for frontal faces, the box that FER2013 and CK+48 were cut by."""

    name = "haar"

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

    def detect(self, picture: Picture) -> list[Box]:
        """Return the boxes (x, y, width, height) in pixels of an RGB picture (height, width, 3), largest first."""
        grey = self._cv2.cvtColor(picture, self._cv2.COLOR_RGB2GRAY)
        found = self._cascade.detectMultiScale(grey, HAAR_SCALE_STEP, HAAR_NEIGHBOURS, minSize=(MIN_FACE_PX, MIN_FACE_PX))
        return _largest_first([(int(x), int(y), int(w), int(h)) for x, y, w, h in found])


class WholePicture:
    """No detection: the picture is the face, as in a folder of crops."""

    name = "none"

    def detect(self, picture: Picture) -> list[Box]:
        """Return one box (x, y, width, height), the whole picture."""
        return [(0, 0, picture.shape[1], picture.shape[0])]


DETECTORS: dict[str, Callable[[], Detector]] = {
    "blazeface": BlazeFaceDetector,
    "haar": HaarDetector,
    "none": WholePicture,
}


def open_detector(name: str = "auto") -> Detector:
    """Make a detector.

    Args:
        name: One of DETECTORS, or ``auto``: BlazeFace where its package is installed, else Haar.

    Raises:
        ValueError: If the name is unknown.
        ImportError: If what the detector needs is missing.
    """
    if name == "auto":
        name = "blazeface" if blazeface_model() else "haar"
    if name not in DETECTORS:
        raise ValueError(f"unknown detector '{name}'; choose one of: auto, {', '.join(DETECTORS)}")
    return DETECTORS[name]()


def largest_box(boxes: Sequence[Box]) -> Box | None:
    """Return the box with the largest area, None of none."""
    return _largest_first(boxes)[0] if boxes else None


def _largest_first(boxes: Sequence[Box]) -> list[Box]:
    areas = np.array([w * h for _, _, w, h in boxes])
    return [boxes[i] for i in np.argsort(-areas, kind="stable")]
