"""Steady labels: an average over time per face, and a label that changes only when another one clearly leads."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fer_edge.edge_runtime.classify import Prediction

UNSURE = "unsure"
FORGET_AFTER_S = 2.0


@dataclass(frozen=True)
class Smoothing:
    """How labels are steadied.

    Attributes:
        time_constant_s: Time constant of the exponential moving average of the probabilities, seconds. 0 disables averaging.
        hysteresis: By how much another label must lead before it replaces the shown one, 0..1.
        min_confidence: Below this probability the label is "unsure", until it is half a margin above again; 0 always names
            one.
    """

    time_constant_s: float = 0.25
    hysteresis: float = 0.1
    min_confidence: float = 0.4

    def __post_init__(self) -> None:
        for name, high in (("time_constant_s", 60.0), ("hysteresis", 1.0), ("min_confidence", 1.0)):
            value = getattr(self, name)
            if not 0 <= value <= high:
                raise ValueError(f"{name} must lie between 0 and {high:g}. Received: {name}={value}")


NO_SMOOTHING = Smoothing(time_constant_s=0.0, hysteresis=0.0, min_confidence=0.0)


@dataclass
class _Face:
    average: npt.NDArray[np.float64]
    shown: int
    seen_s: float
    unsure: bool = False


class Smoother:
    """The averages of all faces in view.

    Args:
        smoothing: How much.
    """

    def __init__(self, smoothing: Smoothing) -> None:
        self._smoothing = smoothing
        self._faces: dict[int, _Face] = {}

    def update(self, number: int, prediction: Prediction, now_s: float) -> Prediction:
        """Take one face's new prediction and return the steady one.

        Args:
            number: Which face.
            prediction: What the model says of this frame.
            now_s: Time of the frame, seconds of a clock that never goes back.

        Returns:
            The averaged probabilities, the label that is shown and its probability. The label is "unsure", with the
            highest probability, where even that is too low.
        """
        if self._smoothing == NO_SMOOTHING:
            return prediction
        new = np.array(prediction.probabilities)
        face = self._faces.get(number)
        if face is None or now_s - face.seen_s > FORGET_AFTER_S:
            face = self._faces[number] = _Face(new, int(new.argmax()), now_s)
        else:
            elapsed_s = max(0.0, now_s - face.seen_s)
            weight = 1 - math.exp(-elapsed_s / self._smoothing.time_constant_s) if self._smoothing.time_constant_s else 1.0
            face.average = face.average + weight * (new - face.average)
            face.seen_s = now_s
            best = int(face.average.argmax())
            shown = face.average[face.shown]
            if face.average[best] >= shown + self._smoothing.hysteresis or shown < self._smoothing.min_confidence:
                face.shown = best
        self._forget(now_s)
        probabilities = tuple(face.average.tolist())
        highest = max(probabilities)
        face.unsure = highest < self._smoothing.min_confidence + (self._smoothing.hysteresis / 2 if face.unsure else 0)
        if face.unsure:
            return Prediction(UNSURE, highest, probabilities, prediction.labels)
        return Prediction(prediction.labels[face.shown], probabilities[face.shown], probabilities, prediction.labels)

    def _forget(self, now_s: float) -> None:
        for number in [number for number, face in self._faces.items() if now_s - face.seen_s > FORGET_AFTER_S]:
            del self._faces[number]
