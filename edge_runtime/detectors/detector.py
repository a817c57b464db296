"""The detectors by name, and ``open_detector``."""

from collections.abc import Callable, Sequence
from typing import Any

from fer_edge.edge_runtime.crop import Box
from fer_edge.edge_runtime.detectors.blazeface import BlazeFace, blazeface_model
from fer_edge.edge_runtime.detectors.detection import MIN_FACE_PX, Detection, Detector
from fer_edge.edge_runtime.detectors.detector_network import own_detector_model
from fer_edge.edge_runtime.detectors.haar import Haar
from fer_edge.edge_runtime.detectors.own import OwnDetector
from fer_edge.edge_runtime.detectors.yunet import YuNet, yunet_model
from fer_edge.edge_runtime.images import Image


class FullFrame:
    """No detection: the whole image is the face, as in a folder of crops. Its score is 1.

    Args:
        min_score: Not used.
    """

    name = "none"
    needs_gray = True

    def __init__(self, min_score: float = 0.0) -> None:
        pass

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


DETECTORS: dict[str, Callable[..., Detector]] = {
    "blazeface": BlazeFace,
    "yunet": YuNet,
    "haar": Haar,
    "own": OwnDetector,
    "none": FullFrame,
}


def open_detector(name: str = "auto", min_score: float | None = None) -> Detector:
    """Create a detector.

    Args:
        name: One of DETECTORS; the path of a YuNet .onnx file or of a .tflite file of the own detector; or ``auto``: the own
            detector.
        min_score: Faces with a lower score are dropped, 0..1. None: the default of the detector.

    Raises:
        ValueError: If the name is unknown, the score is not 0..1, or a .tflite file is not a face detector.
        FileNotFoundError: If there is no such .tflite file.
        ImportError: If the detector's library or model is not installed.
    """
    if min_score is not None and not 0 <= min_score <= 1:
        raise ValueError(f"min_face_score must be 0..1. Received: {min_score}")
    options: dict[str, Any] = {} if min_score is None else {"min_score": min_score}
    if name == "auto":
        name = OwnDetector.name
    if name.endswith(".onnx"):
        return YuNet(name, **options)
    if name.endswith(".tflite"):
        return OwnDetector(name, **options)
    if name not in DETECTORS:
        raise ValueError(
            f"unknown detector '{name}'; choose one of: auto, {', '.join(DETECTORS)}, the path of a YuNet .onnx file, or the "
            "path of a .tflite file of the own detector"
        )
    return DETECTORS[name](**options)


def installed_detectors() -> list[str]:
    """Return the names of the detectors whose models are installed."""
    installed = {"blazeface": blazeface_model(), "haar": True, "own": own_detector_model(), "yunet": yunet_model()}
    return [name for name, model in installed.items() if model]
