"""The mean of the weights that several cycles of a training end with: a wider minimum than each of them lies in."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fer_edge.train.dataset import FaceDataset, to_gray_batch
from fer_edge.train.evaluate import keras_probabilities, measure
from fer_edge.train.splits import Split
from fer_edge.train.temperature import fit_temperature, with_temperature

if TYPE_CHECKING:
    import keras

NORM_FACES = 4096  # enough for the mean and variance of each channel
NORM_BATCH = 128

Weights = Sequence[npt.NDArray[np.float32]]


def average_snapshots(model: "keras.Model", ends: Sequence[Weights], faces: FaceDataset, split: Split) -> int:
    """Give a network the mean weights of the last cycles, of as many as validation prefers, in place.

    The first cycles may end too far from the last to be of use.

    Args:
        model: The network.
        ends: Its weights at the end of each cycle, as get_weights gives them.
        faces: The dataset.
        split: Its division. Validation decides, by the loss under the temperature that fits best.

    Returns:
        The number of cycles in the mean; 1 where the last one alone is best.

    Source: Izmailov et al., 2018, https://arxiv.org/abs/1803.05407.
    """
    if len(ends) == 1:
        model.set_weights(ends[0])
        return 1
    judges = faces.take(split.validation)
    spread = np.linspace(0, len(split.train) - 1, min(NORM_FACES, len(split.train))).astype(int)
    images = to_gray_batch(faces.take(split.train[spread]), model.input_shape[1], faces.resolution_px)
    least, best, weights = math.inf, 1, ends[-1]
    for count in range(1, len(ends) + 1):
        model.set_weights([np.mean(values, axis=0) for values in zip(*ends[-count:], strict=True)])
        if count > 1:
            update_bn(model, images)
        guess = keras_probabilities(model, judges, faces.resolution_px)
        calibrated = with_temperature(guess, fit_temperature(guess, judges.targets))
        loss = measure(calibrated, judges.targets, faces.labels)["loss"]
        if loss < least:
            least, best, weights = loss, count, model.get_weights()
    model.set_weights(weights)
    return best


def update_bn(model: "keras.Model", images: npt.NDArray[np.uint8]) -> None:
    """Give each batch normalisation the mean and variance of its inputs, in place: averaged weights make others.

    Nothing is dropped out meanwhile: the inputs are those of inference.

    Args:
        model: From RGB 0..255 (batch, size, size, 3).
        images: uint8 array (n, size, size, 1), grey: training faces.
    """
    import keras

    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    dropouts = [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    momenta, rates = [norm.momentum for norm in norms], [dropout.rate for dropout in dropouts]
    for dropout in dropouts:
        dropout.rate = 0.0
    order = np.random.default_rng(0).permutation(len(images))  # datasets stand sorted by class
    for done, batch in enumerate(np.array_split(order, -(-len(images) // NORM_BATCH)) if norms else ()):
        for norm in norms:
            norm.momentum = done / (done + 1)  # the plain mean of all batches so far
        model(np.repeat(images[batch], 3, axis=-1).astype(np.float32), training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    for dropout, rate in zip(dropouts, rates, strict=True):
        dropout.rate = rate
