"""Smooth labels over time: average the probabilities per face, and change the label only when another one clearly leads."""

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fer_edge.edge_runtime.classify import Prediction

UNSURE = "unsure"
DEFAULT_MIN_CONFIDENCE = 0.4  # for a model whose contract has no threshold
MAX_GAP_S = 2.0  # a face that was not seen for longer starts a new average


@dataclass(frozen=True)
class Smoothing:
    """How labels are smoothed over time.

    Attributes:
        time_constant_s: Time constant of the exponential moving average of the probabilities, seconds. 0: no averaging.
        hysteresis: By how much another label must lead before it replaces the current one, 0..1.
        min_confidence: Below this probability the label is "unsure". It stays so until the probability exceeds it by half
            the hysteresis. 0: never unsure. None: the threshold of the model's contract, or 0.4 if it has none.
    """

    time_constant_s: float = 0.25
    hysteresis: float = 0.1
    min_confidence: float | None = None

    def __post_init__(self) -> None:
        for name, high in (("time_constant_s", 60.0), ("hysteresis", 1.0), ("min_confidence", 1.0)):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= high:
                raise ValueError(f"{name} must be between 0 and {high:g}. Received: {name}={value}")

    def for_model(self, unsure_threshold: float | None) -> "Smoothing":
        """Return the same smoothing, with a number as ``min_confidence``.

        Args:
            unsure_threshold: Threshold of the model's contract, 0..1; None if it has none.
        """
        if self.min_confidence is not None:
            return self
        return replace(self, min_confidence=DEFAULT_MIN_CONFIDENCE if unsure_threshold is None else unsure_threshold)


NO_SMOOTHING = Smoothing(time_constant_s=0.0, hysteresis=0.0, min_confidence=0.0)


@dataclass
class _Face:
    average: npt.NDArray[np.float64]
    label_index: int
    seen_s: float
    unsure: bool = False


class Smoother:
    """Smooths the predictions of all faces in view.

    Args:
        smoothing: Strength of the smoothing.
        unsure_threshold: Threshold of the model's contract, 0..1; None if it has none.

    Attributes:
        min_confidence: The probability below which a face is unsure.
    """

    def __init__(self, smoothing: Smoothing, unsure_threshold: float | None = None) -> None:
        self._smoothing = smoothing.for_model(unsure_threshold)
        self.min_confidence = self._smoothing.min_confidence or 0.0
        self._faces: dict[int, _Face] = {}

    def update(self, number: int, prediction: Prediction, now_s: float) -> Prediction:
        """Add the prediction of one face in a new frame and return the smoothed one.

        Args:
            number: Number of the face.
            prediction: Prediction of the model for this frame.
            now_s: Time of the frame, seconds of a monotonic clock.

        Returns:
            The averaged probabilities, the current label and its probability. The label is "unsure", with the highest
            probability, if no label is probable enough.
        """
        if self._smoothing == NO_SMOOTHING:
            return prediction
        new = np.array(prediction.probabilities)
        face = self._faces.get(number)
        if face is None or now_s - face.seen_s > MAX_GAP_S:
            face = self._faces[number] = _Face(new, int(new.argmax()), now_s)
        else:
            elapsed_s = max(0.0, now_s - face.seen_s)
            weight = 1 - math.exp(-elapsed_s / self._smoothing.time_constant_s) if self._smoothing.time_constant_s else 1.0
            face.average = face.average + weight * (new - face.average)
            face.seen_s = now_s
            best = int(face.average.argmax())
            current = face.average[face.label_index]
            if face.average[best] >= current + self._smoothing.hysteresis or current < self.min_confidence:
                face.label_index = best
        self._drop_old_faces(now_s)
        probabilities = tuple(face.average.tolist())
        highest = max(probabilities)
        face.unsure = highest < self.min_confidence + (self._smoothing.hysteresis / 2 if face.unsure else 0)
        if face.unsure:
            return Prediction(UNSURE, highest, probabilities, prediction.labels)
        return Prediction(
            prediction.labels[face.label_index], probabilities[face.label_index], probabilities, prediction.labels
        )

    def _drop_old_faces(self, now_s: float) -> None:
        for number in [number for number, face in self._faces.items() if now_s - face.seen_s > MAX_GAP_S]:
            del self._faces[number]
