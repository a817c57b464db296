"""PyPI facex: its TFLite file, Haar detector and preprocessing, through its class EmotionClassifier."""

from pathlib import Path
from typing import Any

import cv2
import facex

LABELS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
PACKAGES = ("facex", "tensorflow", "opencv-contrib-python", "scikit-image", "numpy")


class Peer:
    """One EmotionClassifier."""

    def __init__(self) -> None:
        self.model_file = Path(facex.__file__).parent / "assets" / "model_optimized.tflite"
        self._classifier = facex.EmotionClassifier(str(self.model_file), list(LABELS))

    def classify(self, face: Any) -> list[float]:
        """Return the scores of a gray face."""
        scores = self._classifier.detect_emotion(face)
        return [scores[label] for label in LABELS]

    def analyze(self, image: Any) -> list[tuple[Any, list[float]]]:
        """Return the box (x, y, width, height) and the scores of each face in a gray image."""
        found = self._classifier.predict(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))
        return [(face["bbox"], [face["emot"][label] for label in LABELS]) for face in found]


def load() -> Peer:
    """Load the model and the detector."""
    return Peer()
