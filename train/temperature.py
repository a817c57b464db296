"""Calibration: one number that brings probabilities near the share of right answers."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fer_edge.train.networks import OUTPUT_LAYER

if TYPE_CHECKING:
    import keras

BOUNDS = (0.25, 4.0)  # a validation part that is all right or all wrong would ask for 0 or infinity
FLOOR = 1e-7

Floats = npt.NDArray[np.float32]


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
