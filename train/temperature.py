"""Temperature scaling: one number that calibrates the probabilities, so that they match the accuracy.

Source: Guo et al., 2017, https://arxiv.org/abs/1706.04599.
"""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.metrics import MIN_PROBABILITY
from fer_edge.train.networks import OUTPUT_LAYER

if TYPE_CHECKING:
    import keras

SMALLEST = np.finfo(np.float32).tiny  # a float32 softmax can be exactly 0, whose logarithm is not finite
BOUNDS = (0.25, 4.0)  # if all validation predictions were right or all wrong, the best would be 0 or infinity

Floats = npt.NDArray[np.float32]


def with_temperature(probabilities: Floats, temperature: float) -> Floats:
    """Return the softmax of the logits divided by a temperature.

    Args:
        probabilities: float32 array (n, classes), a softmax.
        temperature: Above 0. Above 1 it makes the probabilities more uniform.

    Returns:
        float32 array (n, classes). The ranking of the classes does not change.
    """
    logits = np.log(np.maximum(probabilities, SMALLEST)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def fit_temperature(probabilities: Floats, distributions: Floats) -> float:
    """Return the temperature, within BOUNDS, that gives the lowest cross-entropy.

    Args:
        probabilities: float32 array (n, classes), of faces outside the training split.
        distributions: float32 array (n, classes): their labels, 1 for the class; or the shares of the votes.
    """
    from scipy.optimize import minimize_scalar

    def loss(temperature: float) -> float:
        return cross_entropy(with_temperature(probabilities, temperature), distributions)

    return float(minimize_scalar(loss, bounds=BOUNDS, method="bounded").x)


def cross_entropy(probabilities: Floats, distributions: Floats) -> float:
    """Return the mean cross-entropy, nats.

    Args:
        probabilities: float32 array (n, classes), 0..1.
        distributions: float32 array (n, classes): the labels, 1 for the class; or the shares of the votes.
    """
    return float(-(distributions * np.log(np.maximum(probabilities, MIN_PROBABILITY))).sum(axis=1).mean())


def apply_temperature(model: "keras.Model", temperature: float) -> None:
    """Divide a network's logits by a temperature, in its weights, in place.

    So every copy of it, in any format and on any device, outputs calibrated probabilities without extra code.

    Args:
        model: A network made by build_network.
        temperature: Above 0.
    """
    head = model.get_layer(OUTPUT_LAYER)
    head.set_weights([weights / temperature for weights in head.get_weights()])
