"""Stochastic weight averaging: the mean of the weights at the end of several cycles is in a wider minimum than each of them."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fer_edge.train.dataset import FaceDataset, to_gray_batch
from fer_edge.train.predict import keras_probabilities
from fer_edge.train.soft_labels import vote_distributions
from fer_edge.train.splits import Split
from fer_edge.train.temperature import cross_entropy, fit_temperature, with_temperature

if TYPE_CHECKING:
    import keras

NORM_FACES = 4096  # enough for the mean and variance of each channel
NORM_BATCH = 128

Weights = Sequence[npt.NDArray[np.float32]]


def average_snapshots(
    model: "keras.Model", snapshots: Sequence[Weights], faces: FaceDataset, split: Split, count: int | None = None
) -> int:
    """Set the weights of a network to the average of its last k snapshots, in place; k is chosen on validation.

    The first snapshots may be too far from the last to be useful.

    Args:
        model: The network.
        snapshots: Its weights at the end of each cycle, as returned by get_weights.
        faces: The dataset.
        split: Its division. The best k has the lowest validation loss, each at its best temperature.
        count: The number k, where an earlier run has chosen it.

    Returns:
        The number k of averaged snapshots.

    Source: Izmailov et al., 2018, https://arxiv.org/abs/1803.05407.
    """
    if len(snapshots) == 1:
        model.set_weights(snapshots[0])
        return 1
    validation = faces.subset(split.validation)
    labels = vote_distributions(validation)
    spread = np.linspace(0, len(split.train) - 1, min(NORM_FACES, len(split.train))).astype(int)
    images = to_gray_batch(faces.subset(split.train[spread]), model.input_shape[1], faces.resolution_px)
    lowest, best, weights = math.inf, 1, snapshots[-1]
    for number in range(1, len(snapshots) + 1) if count is None else (count,):
        model.set_weights([np.mean(values, axis=0) for values in zip(*snapshots[-number:], strict=True)])
        if number > 1:
            update_bn(model, images)
        probabilities = keras_probabilities(model, validation, faces.resolution_px)
        loss = cross_entropy(with_temperature(probabilities, fit_temperature(probabilities, labels)), labels)
        if loss < lowest:
            lowest, best, weights = loss, number, model.get_weights()
    model.set_weights(weights)
    return best


def update_bn(model: "keras.Model", images: npt.NDArray[np.uint8]) -> None:
    """Recompute mean and variance of each batch normalization, in place, because averaged weights change its inputs.

    Dropout is off meanwhile, as in inference.

    Args:
        model: From RGB 0..255 (batch, size, size, 3).
        images: uint8 array (n, size, size, 1), gray: training faces.
    """
    import keras

    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    dropouts = [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    momenta, rates = [norm.momentum for norm in norms], [dropout.rate for dropout in dropouts]
    for dropout in dropouts:
        dropout.rate = 0.0
    order = np.random.default_rng(0).permutation(len(images))  # datasets are sorted by class
    for done, batch in enumerate(np.array_split(order, -(-len(images) // NORM_BATCH)) if norms else ()):
        for norm in norms:
            norm.momentum = done / (done + 1)  # the plain mean of all batches so far
        model(np.repeat(images[batch], 3, axis=-1).astype(np.float32), training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    for dropout, rate in zip(dropouts, rates, strict=True):
        dropout.rate = rate
