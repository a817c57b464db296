"""Create a TFLite interpreter from the light package that is installed, never from TensorFlow."""

import ctypes
import importlib
import os
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.contract import ModelError
from fer_edge.edge_runtime.native_stderr import suppress_stderr

PACKAGES = ("ai_edge_litert", "tflite_runtime")
IS_64_BIT = sys.maxsize > 2**32  # of Python; the kernel of 32-bit Raspberry Pi OS is 64-bit
PROBE_MODEL = Path(__file__).with_name("probe.tflite")

_open: weakref.WeakSet[Any] = weakref.WeakSet()


def find_interpreter() -> tuple[str, Callable[..., Any]]:
    """Return the name of the installed interpreter package and its Interpreter class.

    Raises:
        ImportError: If none of PACKAGES can be imported. The message contains the install command.
    """
    reasons = []
    for package in PACKAGES:
        try:
            return package, importlib.import_module(f"{package}.interpreter").Interpreter
        except ImportError as error:
            reasons.append(f"{package}: {error}")
    if not IS_64_BIT:
        raise ImportError(
            "this Python is 32-bit, and there is no LiteRT for 32-bit systems. Write Raspberry Pi OS (64-bit) to the SD card"
        )
    raise ImportError(
        f"no TFLite interpreter found (tried {', '.join(PACKAGES)}). Install one: pip install 'fer-edge[edge]'. "
        f"Reasons: {'; '.join(reasons)}"
    )


def open_interpreter(model: str | Path, num_threads: int = 1, content: bytes | None = None) -> Any:
    """Load a .tflite file and allocate its tensors.

    Args:
        model: Path of the file.
        num_threads: Number of interpreter threads, >= 1.
        content: The flatbuffer, if it has been read already. The path is then only named in errors.

    Returns:
        The interpreter, ready to invoke.

    Raises:
        ImportError: If no interpreter is installed.
        ModelError: If the file cannot be loaded or contains operators that the interpreter does not have.
        ValueError: If num_threads is less than 1.
    """
    if num_threads < 1:
        raise ValueError(f"num_threads must be at least 1. Received: num_threads={num_threads}")
    try:
        source = {"model_path": str(model)} if content is None else {"model_content": content}
        return make_interpreter(**source, num_threads=num_threads)
    except (ValueError, RuntimeError) as error:
        raise ModelError(_describe_load_error(model, str(error))) from error


def make_interpreter(**arguments: Any) -> Any:
    """Create an interpreter and allocate its tensors, without the log line about its delegate.

    Args:
        arguments: Keyword arguments of the Interpreter class.

    Raises:
        ImportError: If no interpreter is installed.
        ValueError: From the interpreter, if it cannot load the model.
        RuntimeError: From the interpreter, if it cannot allocate the tensors.
    """
    _, interpreter_class = find_interpreter()
    with suppress_stderr():
        interpreter = interpreter_class(**arguments)
        interpreter.allocate_tensors()
    _open.add(interpreter)
    return interpreter


def _keep_those_of_the_parent() -> None:
    """Never free the interpreters of the parent process in a forked child: freeing waits for threads that the child lacks."""
    for interpreter in _open:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(interpreter))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_those_of_the_parent)


def tensor_view(interpreter: Any, index: int) -> npt.NDArray[Any]:
    """Return an array that shares the memory of a tensor.

    The interpreter's get_tensor and set_tensor allocate arrays and copy. CPU caches are cold after an inference, so each of
    these calls takes tens of microseconds.

    Args:
        interpreter: From open_interpreter. It must outlive the array, and its tensors must not be allocated again.
        index: Index of the tensor in the interpreter.

    Returns:
        Array with the shape and dtype of the tensor. Writing to it sets the tensor.
    """
    view = interpreter.tensor(index)()
    # Through the address: an interpreter refuses to run while arrays from tensor() exist.
    memory = (ctypes.c_uint8 * view.nbytes).from_address(view.ctypes.data)
    return np.frombuffer(memory, view.dtype).reshape(view.shape)


def _describe_load_error(model: str | Path, reason: str) -> str:
    first_line = reason.strip().splitlines()[0] if reason.strip() else "no reason given"
    if "custom op" in reason.lower() or "flex" in reason.lower():
        return (
            f"{model} contains custom operators, which the interpreter does not have ({first_line}). "
            "Convert the model with built-in operators only"
        )
    return f"{model} cannot be loaded: it is truncated or damaged ({first_line}). Convert the run again: fer-edge convert RUN"
