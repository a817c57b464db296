"""Several devices that share each batch of one training: tf.distribute on TensorFlow, keras.distribution on JAX."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fer_edge.train.networks import new_session


@contextmanager
def shared_batches(devices: int) -> Iterator[None]:
    """Divide each batch of the network that is built and trained in the block among several devices.

    Every device has all weights and all faces. Each computes its part of the batch; the gradients are averaged. Batch
    normalization measures each part for itself on TensorFlow and the whole batch on JAX.

    Args:
        devices: Number of devices; 1 changes nothing.

    Raises:
        ValueError: If there are fewer devices, or the backend cannot divide a batch.
    """
    if devices == 1:
        yield
        return
    import keras

    new_session()
    backend = keras.backend.backend()
    if backend == "tensorflow":
        with _mirrored(devices).scope():
            yield
    elif backend == "jax":
        available = keras.distribution.list_devices()
        keras.distribution.set_distribution(keras.distribution.DataParallel(devices=_first(available, devices)))
        try:
            yield
        finally:
            keras.distribution.set_distribution(None)
    else:
        raise ValueError(f"--devices needs KERAS_BACKEND=tensorflow or jax. Received: {backend} and {devices} devices")


def _mirrored(devices: int) -> Any:
    import tensorflow as tf

    gpus, cpus = (tf.config.list_logical_devices(kind) for kind in ("GPU", "CPU"))
    return tf.distribute.MirroredStrategy([device.name for device in _first(gpus or cpus, devices)])


def _first(available: list[Any], devices: int) -> list[Any]:
    if len(available) < devices:
        raise ValueError(f"--devices {devices}, but this machine has {len(available)} that can train. Give --devices less")
    return available[:devices]
