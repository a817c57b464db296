"""What conversion cost: the Keras model's and the converted model's probabilities for the same faces, side by side."""

from typing import Any

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.metrics import expected_calibration_error

FloatArray = npt.NDArray[np.float32]
CONFIDENCE = 0.95
# Half a step of an int8 output: below it a probability is not resolved.
SMALLEST = 1 / 512


def compare(before: FloatArray, after: FloatArray, targets: npt.NDArray[np.int64], labels: tuple[str, ...]) -> dict[str, Any]:
    """Compare two models' probabilities for the same faces.

    Args:
        before: float32 array (n, classes), of the Keras model.
        after: float32 array (n, classes), of the .tflite file.
        targets: int64 array (n,).
        labels: Label names in output order.

    Returns:
        Number of faces; share of equal labels (agreement, 0..1); largest difference of a probability; accuracy, its 95 %
        interval, expected calibration error (ece, 0..1), recall per class (None where a class has no face), faces per
        predicted label and entropy of the predicted labels (nats), each before and after; faces per class; mean
        Kullback-Leibler divergence of ``after`` from ``before`` over the faces of each class (nats).
    """
    first, second = before.argmax(axis=1), after.argmax(axis=1)
    divergence = kl_divergence(before, after)
    result: dict[str, Any] = {
        "faces": len(targets),
        "faces_per_class": {label: int((targets == k).sum()) for k, label in enumerate(labels)},
        "agreement": float((first == second).mean()),
        "largest_difference": float(np.abs(before - after).max()),
        "kl_per_class": {
            label: float(divergence[targets == k].mean()) if (targets == k).any() else None for k, label in enumerate(labels)
        },
    }
    for moment, probabilities in (("before", before), ("after", after)):
        predicted = probabilities.argmax(axis=1)
        hits = predicted == targets
        counts = np.bincount(predicted, minlength=len(labels))
        result[f"accuracy_{moment}"] = float(hits.mean())
        result[f"accuracy_interval_{moment}"] = interval(int(hits.sum()), len(hits))
        result[f"ece_{moment}"] = expected_calibration_error(probabilities, targets)
        result[f"recall_{moment}"] = {
            label: float(hits[targets == k].mean()) if (targets == k).any() else None for k, label in enumerate(labels)
        }
        result[f"predicted_{moment}"] = dict(zip(labels, counts.tolist(), strict=True))
        result[f"label_entropy_{moment}"] = _entropy(counts)
    return result


def kl_divergence(before: FloatArray, after: FloatArray) -> FloatArray:
    """Return the Kullback-Leibler divergence of each face's probabilities, nats, shape (n,)."""
    first, second = (np.maximum(values, SMALLEST) for values in (before, after))
    first, second = (values / values.sum(axis=1, keepdims=True) for values in (first, second))
    return np.asarray((first * np.log(first / second)).sum(axis=1), np.float32)


def interval(hits: int, count: int) -> list[float]:
    """Return Wilson's 95 % interval of a share, [low, high] in 0..1.

    Source: Wilson, 1927, doi 10.1080/01621459.1927.10502953.
    """
    from scipy.stats import binomtest

    found = binomtest(hits, count).proportion_ci(CONFIDENCE, method="wilson")
    return [float(found.low), float(found.high)]


def _entropy(counts: npt.NDArray[np.intp]) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
