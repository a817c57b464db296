"""Fit an offset per label to the log-probabilities of one person, and measure by leave-one-out whether it helps.

The fit is a ridge regression of the offsets. Log-probabilities are centered per take, because softmax ignores their mean. The
shown label is then expected to lead the others by TYPICAL_LEAD. Everything else that the takes have in common is due to the
person or the camera, and the offsets remove it. So a label that was not shown is corrected too, and a label is not raised only
because it was shown.

The constants were chosen with benchmarks/personalization.py on half of its persons, see docs/personalize.md. A fit of the
cross-entropy, a scale per label and a full matrix gained more on the shown expressions and lost on others.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

MIN_PROBABILITY = 1 / 512  # half a step of a uint8 output; its zeros have no logarithm
TYPICAL_LEAD = 1.0  # log-probability by which the shown label is expected to lead the mean of the others
PRIOR_TAKES = 16.0  # strength of the prior "no correction": that many takes count as much as the prior does
MIN_LABELS = 2
TOLERANCE = 1e-9  # of sums of weights


@dataclass(frozen=True)
class Take:
    """One image of an expression that the person showed, or the mean of several frames of it.

    Attributes:
        label: The label of the expression.
        log_probabilities: Natural logarithm of the probability of each label, in the model's output order.
    """

    label: str
    log_probabilities: tuple[float, ...]


@dataclass(frozen=True)
class LeaveOneOut:
    """What a correction changes for takes that it was not fitted to. Every label that was shown counts the same.

    Attributes:
        accuracy_before: Fraction of takes with the right label without correction, 0..1.
        accuracy_after: The same with the correction of the other takes.
        log_probability_before: Mean log-probability of the right label without correction.
        log_probability_after: The same with the correction of the other takes.
    """

    accuracy_before: float
    accuracy_after: float
    log_probability_before: float
    log_probability_after: float

    @property
    def all_right_before(self) -> bool:
        """Return whether every take has the right label without a correction: there is nothing to correct."""
        return self.accuracy_before > 1 - TOLERANCE

    @property
    def is_useful(self) -> bool:
        """Return whether there is something to correct, and the correction does not lower the accuracy.

        The log-probability does not count: where each label has one take, it mostly falls, because the fit has no take of the
        label that it is tested on.
        """
        return not self.all_right_before and self.accuracy_after > self.accuracy_before - TOLERANCE


def log_probabilities(probabilities: npt.ArrayLike) -> Floats:
    """Return logarithms; a probability below MIN_PROBABILITY counts as MIN_PROBABILITY.

    Args:
        probabilities: Array (..., classes), 0..1.
    """
    return np.log(np.maximum(np.asarray(probabilities, np.float64), MIN_PROBABILITY))


def apply_offsets(probabilities: Sequence[float], offsets: Sequence[float]) -> tuple[float, ...]:
    """Correct the probabilities of one face.

    Args:
        probabilities: Probability of each label, 0..1.
        offsets: Added to the log-probability of each label.

    Returns:
        Probabilities whose sum is 1.
    """
    # A few floats: plain Python is faster than numpy here.
    weights = [max(value, MIN_PROBABILITY) * math.exp(offset) for value, offset in zip(probabilities, offsets, strict=True)]
    total = sum(weights)
    return tuple(weight / total for weight in weights)


def fit_offsets(takes: Sequence[Take], labels: Sequence[str]) -> tuple[float, ...]:
    """Fit the offset of each label. Without evidence it is 0.

    Args:
        takes: The takes. Every label that was shown counts the same, however many takes it has.
        labels: Labels in the model's output order.

    Returns:
        One offset per label, for apply_offsets.
    """
    values, targets = _arrays(takes, labels)
    return tuple(_fit(values, targets).tolist())


def leave_one_out(takes: Sequence[Take], labels: Sequence[str]) -> LeaveOneOut:
    """Fit the offsets without each take in turn, and measure the effect on that take.

    Args:
        takes: The takes, at least two.
        labels: Labels in the model's output order.
    """
    values, targets = _arrays(takes, labels)
    count = len(targets)
    others = ~np.eye(count, dtype=bool)
    corrected = np.stack([row + _fit(values[kept], targets[kept]) for row, kept in zip(values, others, strict=True)])
    weights = _label_weights(targets)

    def mean(per_take: npt.NDArray[Any]) -> float:
        return float(np.average(per_take, weights=weights))

    def right(rows: Floats) -> Floats:
        return _log_softmax(rows)[np.arange(count), targets]

    return LeaveOneOut(
        accuracy_before=mean(values.argmax(1) == targets),
        accuracy_after=mean(corrected.argmax(1) == targets),
        log_probability_before=mean(right(values)),
        log_probability_after=mean(right(corrected)),
    )


def _arrays(takes: Sequence[Take], labels: Sequence[str]) -> tuple[Floats, npt.NDArray[np.int64]]:
    values = np.array([take.log_probabilities for take in takes], np.float64).reshape(len(takes), len(labels))
    return values, np.array([labels.index(take.label) for take in takes], np.int64)


def _fit(values: Floats, targets: npt.NDArray[np.int64]) -> Floats:
    count, classes = values.shape
    if not count:
        return np.zeros(classes)
    expected = TYPICAL_LEAD * (np.eye(classes)[targets] - 1 / classes)
    missing = expected - (values - values.mean(1, keepdims=True))
    offsets: Floats = np.average(missing, axis=0, weights=_label_weights(targets)) * count / (count + PRIOR_TAKES)
    return offsets


def _label_weights(targets: npt.NDArray[np.int64]) -> Floats:
    return 1 / np.bincount(targets)[targets]


def _log_softmax(rows: Floats) -> Floats:
    shifted = rows - rows.max(1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return result
