"""The TFLite interpreter, from whichever light package is installed. Never from TensorFlow."""

import contextlib
import ctypes
import importlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.contract import ModelError

PACKAGES = ("ai_edge_litert", "tflite_runtime")
STDERR_LOCK = threading.Lock()
PROBE_MODEL = Path(__file__).with_name("probe.tflite")


def find_interpreter() -> tuple[str, Callable[..., Any]]:
    """Return the name of the interpreter's package and its Interpreter class.

    Raises:
        ImportError: If none of PACKAGES can be imported, saying how to get one.
    """
    reasons = []
    for package in PACKAGES:
        try:
            return package, importlib.import_module(f"{package}.interpreter").Interpreter
        except ImportError as error:
            reasons.append(f"{package}: {error}")
    raise ImportError(
        f"no TFLite interpreter found (tried {', '.join(PACKAGES)}). Install one: pip install 'fer-edge[edge]'. "
        f"Reasons: {'; '.join(reasons)}"
    )


def open_interpreter(model: str | Path, num_threads: int = 1) -> Any:
    """Load a .tflite file and allocate its tensors.

    Args:
        model: Path of the file.
        num_threads: Threads of the interpreter, at least 1.

    Returns:
        The interpreter, ready to invoke.

    Raises:
        ImportError: If no interpreter is installed.
        ModelError: If the file cannot be loaded, or holds operators the interpreter lacks.
        ValueError: If num_threads is less than 1.
    """
    if num_threads < 1:
        raise ValueError(f"num_threads must be at least 1. Received: num_threads={num_threads}")
    try:
        return make_interpreter(model_path=str(model), num_threads=num_threads)
    except (ValueError, RuntimeError) as error:
        raise ModelError(_why_not_loaded(model, str(error))) from error


def make_interpreter(**arguments: Any) -> Any:
    """Make an interpreter and allocate its tensors, without the line it prints of its delegate.

    Args:
        arguments: Those of the interpreter's class.

    Raises:
        ImportError: If no interpreter is installed.
        ValueError, RuntimeError: What the interpreter raises at a model that it cannot run.
    """
    _, interpreter_class = find_interpreter()
    with suppress_stderr():
        interpreter = interpreter_class(**arguments)
        interpreter.allocate_tensors()
    return interpreter


@contextlib.contextmanager
def suppress_stderr() -> Iterator[None]:
    """Drop what the whole process prints to standard error, C++ included, while the block runs. What fails raises still."""
    with STDERR_LOCK:
        try:
            kept = os.dup(2)
        except OSError:  # a service without standard error
            yield
            return
        try:
            sys.stderr.flush()
            with Path(os.devnull).open("wb") as nowhere:
                os.dup2(nowhere.fileno(), 2)
                yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)


def tensor_view(interpreter: Any, index: int) -> npt.NDArray[Any]:
    """Return a tensor's own memory as an array: what is written there is what the interpreter reads, and the other way round.

    The interpreter's own calls copy through arrays made anew. Right after an inference the caches are cold, and then each such
    call takes tens of microseconds.

    Args:
        interpreter: From open_interpreter; it must live as long as the array, and its tensors must not be allocated again.
        index: Of the tensor.
    """
    view = interpreter.tensor(index)()
    # Through its address: an interpreter refuses to run while arrays of its own making refer to it.
    memory = (ctypes.c_uint8 * view.nbytes).from_address(view.ctypes.data)
    return np.frombuffer(memory, view.dtype).reshape(view.shape)


def _why_not_loaded(model: str | Path, reason: str) -> str:
    first = reason.strip().splitlines()[0] if reason.strip() else "no reason given"
    if "custom op" in reason.lower() or "flex" in reason.lower():
        return f"{model} holds custom operators, which no plain interpreter runs ({first}). Convert it with built-in ones only"
    return f"{model} cannot be loaded: it is truncated or damaged ({first}). Convert the run again: fer-edge convert RUN"
