"""Calibration: how far probabilities lie from the share of right answers, and one number that mends most of it."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fer_edge.train.networks import OUTPUT_LAYER

if TYPE_CHECKING:
    import keras

BINS = 15
BOUNDS = (0.25, 4.0)  # a validation part that is all right or all wrong would ask for 0 or infinity
FLOOR = 1e-7

Floats = npt.NDArray[np.float32]


def calibration_error(probabilities: Floats, targets: npt.NDArray[np.int64], bins: int = BINS) -> float:
    """Compute the expected calibration error (ECE).

    Args:
        probabilities: float32 array (n, classes).
        targets: int64 array (n,).
        bins: Number of equal bins of the highest probability.

    Returns:
        Mean distance between the highest probability and the accuracy, over bins, weighted by their faces; 0..1.

    Source: Guo et al., 2017, https://arxiv.org/abs/1706.04599.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == targets
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    counts = np.bincount(bin_of, minlength=bins)
    gaps = np.bincount(bin_of, weights=confidence - right, minlength=bins)
    return float(np.abs(gaps).sum() / counts.sum())


def with_temperature(probabilities: Floats, temperature: float) -> Floats:
    """Return the softmax of the logits divided by a temperature; above 1 it softens.

    Args:
        probabilities: float32 array (n, classes), a softmax.
        temperature: Above 0.

    Returns:
        float32 array (n, classes). The order of the classes stays.
    """
    logits = np.log(np.maximum(probabilities, FLOOR)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def fit_temperature(probabilities: Floats, targets: npt.NDArray[np.int64]) -> float:
    """Return the temperature, within BOUNDS, that gives the lowest cross-entropy.

    Args:
        probabilities: float32 array (n, classes), of faces that were not trained on.
        targets: int64 array (n,).
    """
    from scipy.optimize import minimize_scalar

    def loss(temperature: float) -> float:
        own = with_temperature(probabilities, temperature)[np.arange(len(targets)), targets]
        return float(-np.log(np.maximum(own, FLOOR)).mean())

    return float(minimize_scalar(loss, bounds=BOUNDS, method="bounded").x)


def apply_temperature(model: "keras.Model", temperature: float) -> None:
    """Divide a network's logits by a temperature, in its weights, in place.

    So every copy of it, in any format and on any device, gives calibrated probabilities without knowing of it.
    """
    head = model.get_layer(OUTPUT_LAYER)
    head.set_weights([weights / temperature for weights in head.get_weights()])
