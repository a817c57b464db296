"""Run a .tflite file with the interpreter, with or without XNNPACK, with LiteRT's CompiledModel or with tflite-runtime."""

import importlib
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from fer_edge.edge_runtime.interpreter import find_interpreter
from fer_edge.edge_runtime.native_stderr import suppress_stderr

Array = npt.NDArray[Any]


class TensorInfo(NamedTuple):
    """Shape, dtype, and quantization of an input or output; scale 0 without quantization."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    scale: float
    zero_point: int


class Runner(Protocol):
    """A loaded model.

    Attributes:
        inputs: Its inputs.
        outputs: Its outputs.
    """

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]

    def write(self, arrays: Sequence[Array]) -> None:
        """Set the inputs."""

    def invoke(self) -> None:
        """Run the model once."""

    def read(self) -> list[Array]:
        """Return the outputs."""


class InterpreterRunner:
    """A model in an interpreter. See Runner.

    Args:
        interpreter: The interpreter, with allocated tensors.
    """

    def __init__(self, interpreter: Any) -> None:
        self._interpreter = interpreter
        self._inputs, self._outputs = interpreter.get_input_details(), interpreter.get_output_details()
        self.inputs = tuple(map(_tensor_info, self._inputs))
        self.outputs = tuple(map(_tensor_info, self._outputs))
        self.invoke = interpreter.invoke

    def write(self, arrays: Sequence[Array]) -> None:
        """Set the inputs."""
        for details, array in zip(self._inputs, arrays, strict=True):
            self._interpreter.set_tensor(details["index"], array)

    def read(self) -> list[Array]:
        """Return the outputs."""
        return [self._interpreter.get_tensor(details["index"]) for details in self._outputs]


class CompiledModelRunner:
    """A model in LiteRT's CompiledModel, on the CPU. See Runner.

    Args:
        content: The flatbuffer.
        num_threads: Number of threads, >= 1.
    """

    def __init__(self, content: bytes, num_threads: int) -> None:
        api = importlib.import_module("ai_edge_litert.compiled_model")
        options = api.Options(api.HardwareAccelerator.CPU, cpu_options=api.CpuOptions(num_threads=num_threads))
        self._model = api.CompiledModel.from_buffer(content, options=options)
        key = next(iter(self._model.get_signature_list()))
        signature = self._model.get_signature_by_index(0)
        details = self._model.get_input_tensor_details(key), self._model.get_output_tensor_details(key)
        self.inputs = tuple(_tensor_info(details[0][name]) for name in signature["inputs"])
        self.outputs = tuple(_tensor_info(details[1][name]) for name in signature["outputs"])
        self._input_buffers = self._model.create_input_buffers(0)
        self._output_buffers = self._model.create_output_buffers(0)

    def write(self, arrays: Sequence[Array]) -> None:
        """Set the inputs."""
        for buffer, array in zip(self._input_buffers, arrays, strict=True):
            buffer.write(array)

    def invoke(self) -> None:
        """Run the model once."""
        self._model.run_by_index(0, self._input_buffers, self._output_buffers)

    def read(self) -> list[Array]:
        """Return the outputs."""
        return [
            buffer.read(int(np.prod(info.shape)), info.dtype).reshape(info.shape)
            for buffer, info in zip(self._output_buffers, self.outputs, strict=True)
        ]


def import_backend(backend: str) -> None:
    """Import the packages of a backend: importing is not part of loading a model.

    Raises:
        ImportError: If it is not installed.
    """
    package = {"compiled-model": "ai_edge_litert.compiled_model", "tflite-runtime": "tflite_runtime.interpreter"}.get(backend)
    try:
        importlib.import_module(package) if package else find_interpreter()
    except ImportError as error:
        remedy = "pip install tflite-runtime" if backend == "tflite-runtime" else "pip install 'fer-edge[edge]'"
        raise ImportError(f"the backend {backend} is not installed ({error}). Install it: {remedy}") from error


def open_runner(content: bytes, num_threads: int, backend: str = "xnnpack") -> Runner:
    """Load a model.

    Args:
        content: The flatbuffer.
        num_threads: Number of threads, >= 1.
        backend: One of BACKENDS.

    Raises:
        ImportError: If the backend is not installed.
        ValueError: From the backend, if it cannot load the model.
        RuntimeError: Likewise.
    """
    import_backend(backend)
    with suppress_stderr():
        if backend == "compiled-model":
            return CompiledModelRunner(content, num_threads)
        return InterpreterRunner(open_plain_interpreter(content, num_threads, backend))


def open_plain_interpreter(content: bytes, num_threads: int, backend: str) -> Any:
    """Create an interpreter and allocate its tensors.

    Args:
        content: The flatbuffer.
        num_threads: Number of threads, >= 1.
        backend: ``xnnpack``, ``no-xnnpack`` or ``tflite-runtime``.
    """
    package = "tflite_runtime" if backend == "tflite-runtime" else find_interpreter()[0]
    module = importlib.import_module(f"{package}.interpreter")
    options: dict[str, Any] = {"model_content": content, "num_threads": num_threads}
    if backend == "no-xnnpack":
        options["experimental_op_resolver_type"] = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = module.Interpreter(**options)
    interpreter.allocate_tensors()
    return interpreter


def plan_of(content: bytes) -> tuple[int, str]:
    """Return the memory that the interpreter plans for activations, bytes, and the type of most of the weights.

    XNNPACK would hide the activations in memory that it does not report, so the interpreter's own kernels are loaded.

    Args:
        content: The flatbuffer.
    """
    with suppress_stderr():
        interpreter = open_plain_interpreter(content, 1, "no-xnnpack")
    first = np.frombuffer(content, np.uint8).ctypes.data
    ranges: list[tuple[int, int]] = []
    weights: dict[str, int] = {}
    for details in interpreter.get_tensor_details():
        try:
            view = interpreter.tensor(details["index"])()
        except ValueError:  # a tensor without memory
            continue
        if not isinstance(view, np.ndarray):  # a scalar is copied
            continue
        start, size = view.ctypes.data, view.nbytes
        if first <= start < first + len(content):
            weights[view.dtype.name] = weights.get(view.dtype.name, 0) + size
        else:
            ranges.append((start, start + size))
    return _union_bytes(ranges), max(weights, key=lambda name: weights[name], default="unknown")


def _union_bytes(ranges: Sequence[tuple[int, int]]) -> int:
    """Return the number of bytes in at least one of the ranges: tensors reuse the memory of earlier ones."""
    total, end = 0, 0
    for start, stop in sorted(ranges):
        total += max(0, stop - max(start, end))
        end = max(end, stop)
    return total


def _tensor_info(details: dict[str, Any]) -> TensorInfo:
    scale, zero_point = details.get("quantization", (0.0, 0))
    return TensorInfo(tuple(map(int, details["shape"])), np.dtype(details["dtype"]), float(scale), int(zero_point))
