"""PyPI facial-emotion-recognition: its network, transform and MTCNN. Its only method draws labels, so the parts are called."""

from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import facial_emotion_recognition
import torch

LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
PACKAGES = ("facial-emotion-recognition", "facenet-pytorch", "torch", "opencv-python", "numpy")


class Peer:
    """The parts of EmotionRecognition on the CPU, with one thread."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        # Without this the package fails on a machine without a GPU: it loads its weights to the GPU of their training.
        with patch("torch.load", partial(torch.load, map_location="cpu")):
            self._parts = facial_emotion_recognition.EmotionRecognition(device="cpu")
        self.model_file = Path(facial_emotion_recognition.__file__).parent / "model" / "model.pkl"

    def classify(self, face: Any) -> list[float]:
        """Return the scores of a gray face."""
        with torch.inference_mode():
            scores: list[float] = self._parts.network(self._parts.transform(face).unsqueeze(0))[0].tolist()
        return scores

    def analyze(self, image: Any) -> list[tuple[list[int], list[float]]]:
        """Return the box (x, y, width, height) and the scores of each face that MTCNN finds in a gray image."""
        with torch.inference_mode():
            boxes, _ = self._parts.mtcnn.detect(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))
        found = []
        for box in [] if boxes is None else boxes:
            left, top, right, bottom = (round(float(value)) for value in box)
            face = image[max(0, top) : bottom, max(0, left) : right]  # the package fails at a box that starts outside
            if face.size:
                found.append(([left, top, right - left, bottom - top], self.classify(face)))
        return found


def load() -> Peer:
    """Load the network and the detector."""
    return Peer()
