"""Classification metrics, computed once for training, conversion and reports."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

ECE_BINS = 15
CONFIDENT_SHARE = 0.8
MIN_PROBABILITY = 1e-7  # a quantized probability can be exactly 0, whose logarithm is not finite

FloatArray = npt.NDArray[np.float32]
Targets = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Averages:
    """Precision, recall and F1 averaged over classes, 0..1 each."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class ClassMetrics:
    """Precision, recall and F1 of one class, 0..1 each, and its number of faces."""

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class ClassificationMetrics:
    """The metrics of one evaluation.

    Attributes:
        count: Number of faces.
        accuracy: Fraction of faces with the right label, 0..1.
        loss: Mean cross-entropy, nats.
        ece: Expected calibration error, 0..1.
        macro: Averages over the classes that occur: a class without faces has no recall.
        weighted: Averages weighted by the faces of each class.
        per_class: Metrics per label, in output order.
        confusion: Counts; rows are true classes, columns are predictions.
        top2_accuracy: Fraction of faces whose label is one of the two most probable, 0..1; None in an earlier record.
        confident_accuracy: Accuracy on the 80 % of the faces with the highest probabilities, 0..1; None likewise.
    """

    count: int
    accuracy: float
    loss: float
    ece: float
    macro: Averages
    weighted: Averages
    per_class: dict[str, ClassMetrics]
    confusion: tuple[tuple[int, ...], ...]
    top2_accuracy: float | None = None
    confident_accuracy: float | None = None


@dataclass(frozen=True)
class VoteMetrics:
    """How a model agrees with the annotators of the faces.

    Attributes:
        count: Number of faces that annotators gave an expression; ClassificationMetrics covers those with a majority.
        agreement: Mean fraction of the annotators who chose the predicted label, 0..1.
        ece: Expected calibration error against that fraction, 0..1.
    """

    count: int
    agreement: float
    ece: float


def classification_metrics(probabilities: FloatArray, targets: Targets, labels: tuple[str, ...]) -> ClassificationMetrics:
    """Compute the metrics of one evaluation.

    Args:
        probabilities: float32 array (n, classes), 0..1.
        targets: int64 array (n,), indices into ``labels``.
        labels: Label names in output order.

    Raises:
        ValueError: If there are no faces.
    """
    if not len(targets):
        raise ValueError("no faces to evaluate")
    classes = len(labels)
    predicted = probabilities.argmax(axis=1)
    confusion = np.bincount(targets * classes + predicted, minlength=classes * classes).reshape(classes, classes)
    hits, support, guesses = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    precision, recall = _ratio(hits, guesses), _ratio(hits, support)
    scores = np.stack([precision, recall, _ratio(2 * hits, support + guesses)])
    of_targets = probabilities[np.arange(len(targets)), targets]
    return ClassificationMetrics(
        count=len(targets),
        accuracy=float((predicted == targets).mean()),
        loss=float(-np.log(np.maximum(of_targets, MIN_PROBABILITY)).mean()),
        ece=expected_calibration_error(probabilities, targets),
        macro=Averages(*map(float, scores[:, support > 0].mean(axis=1))),
        weighted=Averages(*map(float, scores @ support / support.sum())),
        per_class={
            label: ClassMetrics(float(precision[index]), float(recall[index]), float(scores[2, index]), int(support[index]))
            for index, label in enumerate(labels)
        },
        confusion=tuple(tuple(map(int, row)) for row in confusion),
        top2_accuracy=float((np.argsort(probabilities, axis=1)[:, -2:] == targets[:, None]).any(axis=1).mean()),
        confident_accuracy=_confident_accuracy(probabilities, predicted == targets),
    )


def vote_metrics(probabilities: FloatArray, vote_shares: FloatArray) -> VoteMetrics:
    """Compute the agreement with annotators.

    Args:
        probabilities: float32 array (n, classes), 0..1.
        vote_shares: float32 array (n, classes): fraction of the annotators who chose each class, 0..1.
    """
    chosen = vote_shares[np.arange(len(vote_shares)), probabilities.argmax(axis=1)]
    return VoteMetrics(len(chosen), float(chosen.mean()), _calibration_error(probabilities, chosen, ECE_BINS))


def _confident_accuracy(probabilities: FloatArray, correct: npt.NDArray[np.bool_]) -> float:
    order = np.argsort(-probabilities.max(axis=1), kind="stable")
    return float(correct[order[: math.ceil(CONFIDENT_SHARE * len(order))]].mean())


def _ratio(numerator: npt.NDArray[np.int64], denominator: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Divide; 0 where the denominator is 0."""
    return np.where(denominator > 0, numerator / np.maximum(denominator, 1), 0.0)


def expected_calibration_error(probabilities: FloatArray, targets: Targets, bins: int = ECE_BINS) -> float:
    """Compute the expected calibration error (ECE).

    Args:
        probabilities: float32 array (n, classes), 0..1.
        targets: int64 array (n,), class indices.
        bins: Number of equal-width bins of the highest probability.

    Returns:
        Mean distance between the highest probability and the accuracy over the bins, weighted by their faces; 0..1.

    Source: Guo et al., 2017, https://arxiv.org/abs/1706.04599.
    """
    return _calibration_error(probabilities, probabilities.argmax(axis=1) == targets, bins)


def _calibration_error(probabilities: FloatArray, correct: npt.NDArray[np.float32 | np.bool_], bins: int) -> float:
    confidence = np.nan_to_num(probabilities.max(axis=1).astype(np.float64), nan=0.0)
    bin_index = np.minimum((confidence * bins).astype(int), bins - 1)
    counts = np.bincount(bin_index, minlength=bins)
    gaps = np.bincount(bin_index, weights=confidence - correct, minlength=bins)
    return float(np.abs(gaps).sum() / counts.sum())
