"""Compare the probabilities of the Keras model and of the converted model on the same faces."""

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.conversion import ConversionMetrics, ModelScores
from fer_edge.artifacts.metrics import expected_calibration_error

FloatArray = npt.NDArray[np.float32]
Targets = npt.NDArray[np.int64]
CONFIDENCE = 0.95
# Half of one step of an int8 output: smaller probabilities are not resolved.
MIN_RESOLVED = 1 / 512


def compare(keras_probs: FloatArray, tflite_probs: FloatArray, targets: Targets, labels: tuple[str, ...]) -> ConversionMetrics:
    """Compare the probabilities of two models on the same faces.

    Args:
        keras_probs: Probabilities of the Keras model, float32 array (n, classes), 0..1.
        tflite_probs: Probabilities of the .tflite file, float32 array (n, classes), 0..1.
        targets: Class indices, int64 array (n,).
        labels: Label names in output order.

    Returns:
        The metrics, without the verdict of the gate.
    """
    divergence = kl_divergence(keras_probs, tflite_probs)
    of_class = {label: targets == index for index, label in enumerate(labels)}
    return ConversionMetrics(
        faces=len(targets),
        faces_per_class={label: int(mask.sum()) for label, mask in of_class.items()},
        agreement=float((keras_probs.argmax(axis=1) == tflite_probs.argmax(axis=1)).mean()),
        max_difference=float(np.abs(keras_probs - tflite_probs).max()),
        kl_per_class={label: float(divergence[mask].mean()) if mask.any() else None for label, mask in of_class.items()},
        before=_scores(keras_probs, targets, labels),
        after=_scores(tflite_probs, targets, labels),
    )


def _scores(probabilities: FloatArray, targets: Targets, labels: tuple[str, ...]) -> ModelScores:
    predicted = probabilities.argmax(axis=1)
    hits = predicted == targets
    counts = np.bincount(predicted, minlength=len(labels))
    recall = {label: hits[targets == index] for index, label in enumerate(labels)}
    return ModelScores(
        accuracy=float(hits.mean()),
        accuracy_interval=wilson_interval(int(hits.sum()), len(hits)),
        ece=expected_calibration_error(probabilities, targets),
        recall={label: float(of_class.mean()) if len(of_class) else None for label, of_class in recall.items()},
        predicted=dict(zip(labels, counts.tolist(), strict=True)),
        label_entropy=_entropy(counts),
    )


def kl_divergence(keras_probs: FloatArray, tflite_probs: FloatArray) -> FloatArray:
    """Compute the Kullback-Leibler divergence from the Keras model for each face.

    Probabilities below MIN_RESOLVED count as MIN_RESOLVED.

    Args:
        keras_probs: Probabilities of the Keras model, float32 array (n, classes), 0..1.
        tflite_probs: Probabilities of the .tflite file, float32 array (n, classes), 0..1.

    Returns:
        float32 array (n,), nats.
    """
    p, q = (np.maximum(values, MIN_RESOLVED) for values in (keras_probs, tflite_probs))
    p, q = (values / values.sum(axis=1, keepdims=True) for values in (p, q))
    return np.asarray((p * np.log(p / q)).sum(axis=1), np.float32)


def wilson_interval(hits: int, count: int) -> tuple[float, float]:
    """Compute Wilson's 95 % interval of a fraction.

    Args:
        hits: Number of hits, at most ``count``.
        count: Number of trials, at least 1.

    Returns:
        Low and high, 0..1.

    Source: Wilson, 1927, doi 10.1080/01621459.1927.10502953.
    """
    from scipy.stats import binomtest

    interval = binomtest(hits, count).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def _entropy(counts: npt.NDArray[np.intp]) -> float:
    fractions = counts[counts > 0] / counts.sum()
    return float(-(fractions * np.log(fractions)).sum())
