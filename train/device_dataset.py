"""Faces on the device: uploaded once, then selected, augmented and mixed inside the training graph.

Each step sends only the indices of the faces to the device. So small networks train as fast as the device computes, on every
Keras backend.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.training_plan import Augmentation
from fer_edge.train.augment import augment, mix
from fer_edge.train.draws import Draws, StepDraws, ViewDraws
from fer_edge.train.teacher_views import STEPS_PER_NAT

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class StoredTargets:
    """Teachers' outputs for views of the training faces, as targets.

    Attributes:
        outputs: uint8 array (n, views, classes), see teacher_views.TeacherViews.
        weight: Weight of the teachers against the labels, 0..1.
        temperature: Temperature that softens their probabilities.
    """

    outputs: npt.NDArray[np.uint8]
    weight: float
    temperature: float


def on_device_dataset(
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.float32],
    ranges: Augmentation,
    seed: int,
    resolution_px: int,
    stored: StoredTargets | None = None,
) -> "keras.Layer":
    """Return a layer from indices of faces to the faces and their labels.

    Args:
        images: uint8 array (n, size, size, 1): all faces of training and validation.
        labels: float32 array (n, classes), one distribution per face.
        ranges: Random changes, in training only.
        seed: Seed of the random numbers.
        resolution_px: Side of the faces before they were enlarged to ``size``, pixels.
        stored: Teachers' outputs for views of the first n faces. Training then shows a random one of these views.

    Returns:
        A layer named ``faces``: int32 (batch,) -> float32 (batch, size, size, 1), 0..255, and float32 (batch, classes). The
        weights in its list ``data`` are not trainable and need not be in a checkpoint.
    """
    import keras
    from keras import ops

    class OnDeviceDataset(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__(name="faces", dtype="float32")
            self.seed_generator = keras.random.SeedGenerator(seed)
            self.images = self._upload(images, "uint8")
            self.labels = self._upload(labels, "float32")
            self.data = [self.images, self.labels]
            if stored:
                self.outputs = self._upload(stored.outputs.reshape(-1, labels.shape[1]), "uint8")
                self.data.append(self.outputs)

        def _upload(self, values: npt.NDArray[Any], dtype: str) -> Any:
            weight = self.add_weight(shape=values.shape, dtype=dtype, initializer="zeros", trainable=False, autocast=False)
            weight.assign(values)
            return weight

        def call(self, inputs: Any, training: bool = False) -> Any:
            faces = ops.cast(ops.take(self.images, inputs, axis=0), "float32")
            chosen = ops.take(self.labels, inputs, axis=0)
            if not training:
                return faces, chosen
            draws: Draws = StepDraws(self.seed_generator)
            if stored:
                count = stored.outputs.shape[1]
                views = keras.random.randint(ops.shape(inputs), 0, count, dtype="int32", seed=self.seed_generator)
                draws = ViewDraws(inputs, views)
                chosen = self._with_teachers(chosen, inputs * count + views, stored)
            return mix(augment(faces, ranges, draws, resolution_px), chosen, ranges, self.seed_generator)

        def _with_teachers(self, labels: Any, rows: Any, targets: StoredTargets) -> Any:
            nats = ops.cast(ops.take(self.outputs, rows, axis=0), "float32") / STEPS_PER_NAT
            return (1 - targets.weight) * labels + targets.weight * ops.softmax(-nats / targets.temperature)

    return OnDeviceDataset()


def pad_to_full_batches(indices: npt.NDArray[np.int32], size: int, seed: int) -> npt.NDArray[np.int32]:
    """Repeat some faces under JAX, so that they fill whole batches.

    JAX would compile a smaller last batch separately, which takes minutes for a large network on a GPU. The same faces, fewer
    than a batch, count twice in every epoch.

    Args:
        indices: int32 array (n,), indices of the faces.
        size: Faces per batch.
        seed: Seed of the choice of the repeated faces.

    Returns:
        int32 array. The same array where there is only one batch, or on another backend.
    """
    import keras

    if keras.backend.backend() != "jax" or len(indices) <= size:
        return indices
    return np.concatenate([indices, np.random.default_rng(seed).choice(indices, -len(indices) % size, replace=False)])


def class_balanced_weights(targets: npt.NDArray[np.int64], power: float) -> npt.NDArray[np.float32] | None:
    """Return the weight of each face in the loss: the frequency of its class to the power -``power``.

    Args:
        targets: int64 array (n,), class indices.
        power: 0 weights all faces equally.

    Returns:
        float32 array (n,) with mean 1; None if all weights are equal.
    """
    if not power:
        return None
    counts = np.bincount(targets)
    weights = (1.0 / counts[targets]) ** power
    return (weights / weights.mean()).astype(np.float32)
