"""fer-edge itself, installed as users install it: ``fer-edge[edge]``."""

from typing import Any

from fer_edge.edge_runtime import Classifier
from fer_edge.edge_runtime.find_model import find_model
from fer_edge.edge_runtime.live.analyze import analyze

LABELS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
PACKAGES = ("fer-edge", "ai-edge-litert", "opencv-python-headless", "numpy")


class Peer:
    """One model file and the default detector.

    Args:
        model: Path or name of the model.
    """

    def __init__(self, model: str) -> None:
        self.model_file = find_model(model)
        self._classifier = Classifier(self.model_file)
        self._order = [self._classifier.labels.index(label) for label in LABELS]

    def classify(self, face: Any) -> list[float]:
        """Return the probabilities of a gray face crop."""
        probabilities = self._classifier.probabilities(face)
        return [float(probabilities[index]) for index in self._order]

    def analyze(self, image: Any) -> list[tuple[Any, list[float]]]:
        """Return the box (x, y, width, height) and the probabilities of each face in a gray image."""
        found = analyze(image, self.model_file)
        return [(face.box_px, [face.probabilities[label] for label in LABELS]) for face in found]


def load(model: str) -> Peer:
    """Load a model. The detector is loaded by the first image."""
    return Peer(model)
