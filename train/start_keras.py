"""Import Keras, which takes seconds, after everything else has been checked."""

import logging
import os
from importlib.util import find_spec

from fer_edge.edge_runtime.native_stderr import suppress_stderr

BACKENDS = ("tensorflow", "jax", "torch")


def check_keras() -> None:
    """Check, without importing it, that Keras can be imported. This takes milliseconds.

    Raises:
        ImportError: If keras or its backend is not installed.
        ValueError: If KERAS_BACKEND names a backend that fer-edge does not support.
    """
    backend = _backend()
    for name in ("keras", backend):
        if find_spec(name) is None:
            raise _missing(ModuleNotFoundError(f"No module named '{name}'", name=name), backend)


def _backend() -> str:
    backend = os.environ.get("KERAS_BACKEND") or BACKENDS[0]
    if backend not in BACKENDS:
        raise ValueError(f"KERAS_BACKEND must be one of {', '.join(BACKENDS)}. Received: '{backend}'")
    return backend


def _missing(error: ImportError, backend: str) -> ImportError:
    not_in_extras = backend != BACKENDS[0] and error.name == backend
    remedy = f"pip install {backend}" if not_in_extras else "pip install 'fer-edge[train,convert]'"
    return ImportError(f"keras or its backend cannot be imported ({error}). Install them: {remedy}")


def start_keras() -> None:
    """Import keras and hide the start-up messages of its backend.

    Raises:
        ImportError: If keras or its backend is not installed.
        ValueError: If KERAS_BACKEND names a backend that fer-edge does not support.
    """
    backend = _backend()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Off by default on CPUs without AVX-512; measured on an AMD EPYC (Zen 3): MobileNetV2 trains 1.5 times as fast with it.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    with suppress_stderr():
        try:
            import keras

            keras.random.uniform((1,))  # the first use of a device prints messages too
            logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns of retracing, which conversion needs
        except ImportError as error:
            raise _missing(error, backend) from error
