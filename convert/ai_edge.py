"""Quantise with ai-edge-quantizer: a float .tflite in, ranges of the activations from what each face does to them."""

import contextlib
import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fer_edge.convert.bias_correction import correct_biases
from fer_edge.convert.flatbuffer import make_uint8_interface, read_flatbuffer, write_flatbuffer
from fer_edge.edge_runtime.interpreter import make_interpreter

if TYPE_CHECKING:
    from types import ModuleType

# Share of the faces, in percent, whose own extremes a range covers. One odd face can stretch a range 188 times (measured,
# InceptionV3 on CK+48) and make the steps too coarse for all others; which share is best differs per network.
COVERED_PERCENT = (100.0, 99.5, 98.0, 95.0)


@dataclass(frozen=True)
class ActivationRanges:
    """What each calibration face does to each activation of a float model.

    Attributes:
        names: Names of the activation tensors.
        ranks: Number of dimensions of each.
        low: float32 array (faces, tensors), the smallest value of the tensor on that face.
        high: float32 array (faces, tensors), the largest.
        means: By name, the mean of each channel over faces and places, float64 array (channels,).
    """

    names: tuple[str, ...]
    ranks: tuple[int, ...]
    low: npt.NDArray[np.float32]
    high: npt.NDArray[np.float32]
    means: dict[str, npt.NDArray[np.float64]]

    def covering(self, percent: float) -> dict[str, dict[str, npt.NDArray[np.float32]]]:
        """Return the range of each tensor that covers this share of the faces' own lows and highs, in percent."""
        low, high = np.percentile(self.low, 100 - percent, axis=0), np.percentile(self.high, percent, axis=0)
        return {
            name: {"min": np.full((1,) * rank, low[k], np.float32), "max": np.full((1,) * rank, high[k], np.float32)}
            for k, (name, rank) in enumerate(zip(self.names, self.ranks, strict=True))
        }


def quantizer_package() -> "ModuleType":
    """Import ai-edge-quantizer.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        import ai_edge_quantizer
    except ImportError as error:
        raise ImportError(
            f"ai-edge-quantizer cannot be imported ({error}). Install it: pip install 'fer-edge[convert]', "
            "or use TensorFlow's own: --quantizer tflite"
        ) from error
    return ai_edge_quantizer


def calibrate(float_model: bytes, faces: npt.NDArray[np.uint8]) -> ActivationRanges:
    """Run a float model on faces and keep the extremes and the mean of every activation.

    Args:
        float_model: A float32 .tflite file with a fixed batch of 1.
        faces: Calibration faces, uint8 array (n, size, size, 3), RGB.
    """
    graph = read_flatbuffer(float_model).subgraphs[0]
    made = sorted({int(index) for operator in graph.operators for index in operator.outputs} | {int(graph.inputs[0])})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of the memory that the kept tensors take
        interpreter = make_interpreter(model_content=float_model, experimental_preserve_all_tensors=True, num_threads=2)
    low, high = (np.empty((len(faces), len(made)), np.float32) for _ in range(2))
    sums: list[Any] = [0.0] * len(made)
    for row, face in enumerate(faces):
        interpreter.set_tensor(graph.inputs[0], face[None].astype(np.float32))
        interpreter.invoke()
        for column, index in enumerate(made):
            values = interpreter.get_tensor(index)
            low[row, column], high[row, column] = values.min(), values.max()
            sums[column] = sums[column] + values.reshape(-1, values.shape[-1]).mean(axis=0, dtype=np.float64)
    # The camera's bytes go in unchanged: the input's range is 0..255, whatever the faces hold.
    low[:, made.index(graph.inputs[0])], high[:, made.index(graph.inputs[0])] = 0, 255
    tensors = [graph.tensors[index] for index in made]
    names = tuple(tensor.name.decode() for tensor in tensors)
    means = {name: total / len(faces) for name, total in zip(names, sums, strict=True)}
    return ActivationRanges(names, tuple(len(tensor.shape) for tensor in tensors), low, high, means)


def quantize_int8(
    float_model: bytes,
    ranges: ActivationRanges,
    covered_percent: float,
    keep_float: Sequence[str] = (),
    only: str | None = None,
    corrected: bool = True,
) -> bytes:
    """Quantise weights and activations to int8, with a uint8 interface.

    The last layer and the softmax stay in float: one scale for all logits is too coarse where one class answers far stronger
    than the others (measured, VGG16 on CK+48: steps of 0.18, and agreement with Keras 0.94 instead of 0.99).

    Args:
        float_model: The float32 .tflite file.
        ranges: ActivationRanges of its activations.
        covered_percent: See ActivationRanges.covering.
        keep_float: Names of further layers that stay in float.
        only: Name of the one layer to quantise; all of them by default.
        corrected: Whether biases take back what the rounding of the weights shifts.

    Raises:
        ImportError: If ai-edge-quantizer is not installed.
        RuntimeError: If it fails.
    """
    package = quantizer_package()
    quantizer = package.quantizer.Quantizer(float_model)
    operation = package.qtyping.TFLOperationName
    every = operation.ALL_SUPPORTED
    quantizer.add_static_config(".*" if only is None else scope_of(only), every, activation_num_bits=8, weight_num_bits=8)
    original = read_flatbuffer(float_model)
    graph = original.subgraphs[0]
    answer = graph.tensors[graph.operators[-1].inputs[0]].name.decode()
    quantizer.update_quantization_recipe(".*", operation.SOFTMAX, algorithm_key="no_quantize")
    for scope in (re.escape(answer), *map(scope_of, keep_float)):
        quantizer.update_quantization_recipe(scope, every, algorithm_key="no_quantize")
    model = read_flatbuffer(_quantize(quantizer, ranges.covering(covered_percent)))
    if corrected:
        correct_biases(model, original, ranges.means)
    make_uint8_interface(model)
    return write_flatbuffer(model)


def quantize_weights(float_model: bytes) -> bytes:
    """Store the weights as int8, per channel, and compute in float.

    Raises:
        ImportError: If ai-edge-quantizer is not installed.
        RuntimeError: If it fails.
    """
    package = quantizer_package()
    return _quantize(package.quantizer.Quantizer(float_model, package.recipe.weight_only_wi8_afp32()), None)


def _quantize(quantizer: Any, ranges: Any) -> bytes:
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return bytes(quantizer.quantize(ranges).quantized_model)
    except Exception as error:  # it raises whatever its parts raise
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise RuntimeError(f"ai-edge-quantizer failed ({first}). Try TensorFlow's own: --quantizer tflite") from error


def scope_of(layer: str) -> str:
    """Return the regular expression that finds a layer in the tensor names of a converted model."""
    # Keras appends a number to a layer that is called again, as every layer of a folded model is.
    return rf"(^|[/;]){re.escape(layer)}_\d+/"
