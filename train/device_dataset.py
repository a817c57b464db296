"""Faces on the device: uploaded once, then taken, changed and mixed inside the training graph.

What crosses to the device in each step is the numbers of the faces, a few bytes; so small networks train as fast as the
device computes, on any keras backend.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fer_edge.train.augment import Augmentation, augment, mix

if TYPE_CHECKING:
    import keras


def face_source(
    images: npt.NDArray[np.uint8], labels: npt.NDArray[np.float32], ranges: Augmentation, seed: int
) -> "keras.Layer":
    """Return a layer from numbers of faces to the faces and their labels.

    Args:
        images: uint8 array (n, size, size, 1), all that training and validation need.
        labels: float32 array (n, classes), one distribution per face.
        ranges: Random changes, made in training only.
        seed: Seed of the random numbers.

    Returns:
        A layer: int32 (batch,) -> float32 (batch, size, size, 1), 0..255, and float32 (batch, classes). Its weights
        ``images`` and ``labels`` are not trainable, and are no state that a checkpoint needs.
    """
    import keras
    from keras import ops

    class FaceSource(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__(name="faces", dtype="float32")
            self.seed_generator = keras.random.SeedGenerator(seed)
            self.images = self._stored(images, "uint8")
            self.labels = self._stored(labels, "float32")

        def _stored(self, values: npt.NDArray[Any], dtype: str) -> Any:
            weight = self.add_weight(shape=values.shape, dtype=dtype, initializer="zeros", trainable=False, autocast=False)
            weight.assign(values)
            return weight

        def call(self, inputs: Any, training: bool = False) -> Any:
            faces = ops.cast(ops.take(self.images, inputs, axis=0), "float32")
            chosen = ops.take(self.labels, inputs, axis=0)
            if not training:
                return faces, chosen
            return mix(augment(faces, ranges, self.seed_generator), chosen, ranges, self.seed_generator)

    return FaceSource()


def pad_to_full_batches(numbers: npt.NDArray[np.int32], size: int, seed: int) -> npt.NDArray[np.int32]:
    """Return the numbers of faces, some of them twice, so that they fill whole batches, under JAX.

    JAX would compile a smaller last batch on its own, which takes minutes of a large network on a GPU. The same faces, fewer
    than a batch, count twice in every epoch.

    Args:
        numbers: int32 array (n,).
        size: Faces in a batch.
        seed: Says which are doubled.

    Returns:
        int32 array; the same one where there is a single batch, or another backend.
    """
    import keras

    if keras.backend.backend() != "jax" or len(numbers) <= size:
        return numbers
    return np.concatenate([numbers, np.random.default_rng(seed).choice(numbers, -len(numbers) % size, replace=False)])


def class_balanced_weights(targets: npt.NDArray[np.int64], power: float) -> npt.NDArray[np.float32] | None:
    """Return what each face weighs in the loss, float32 (n,), 1 in the mean: its class's frequency to the power -``power``.

    Args:
        targets: int64 array (n,).
        power: 0 weights all alike.

    Returns:
        None where all weigh the same.
    """
    if not power:
        return None
    counts = np.bincount(targets)
    weights = (1.0 / counts[targets]) ** power
    return (weights / weights.mean()).astype(np.float32)
