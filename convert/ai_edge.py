"""Quantise with ai-edge-quantizer: a float .tflite in, ranges of the activations chosen from what each face does to them."""

import contextlib
import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fer_edge.convert.flatbuffer import make_uint8_interface, read_flatbuffer, write_flatbuffer

if TYPE_CHECKING:
    from types import ModuleType

# Share of the faces, in percent, whose own extremes a range covers. One odd face can stretch a range 188 times (measured,
# InceptionV3 on CK+48) and make the steps too coarse for all others; which share is best differs per network.
COVERED_PERCENT = (100.0, 99.5, 98.0, 95.0, 90.0, 80.0)
USUAL_PERCENT = 98.0


@dataclass(frozen=True)
class Ranges:
    """What each calibration face does to each activation of a float model.

    Attributes:
        names: Names of the activation tensors.
        ranks: Number of dimensions of each.
        low: float32 array (faces, tensors), the smallest value of the tensor on that face.
        high: float32 array (faces, tensors), the largest.
        logits: Columns of the tensors before and behind the softmax.
    """

    names: tuple[str, ...]
    ranks: tuple[int, ...]
    low: npt.NDArray[np.float32]
    high: npt.NDArray[np.float32]
    logits: tuple[int, ...]

    def covering(self, percent: float, logits_percent: float) -> dict[str, dict[str, npt.NDArray[np.float32]]]:
        """Return the range of each tensor that covers this share of the faces' own lows and highs, in percent.

        The logits have a share of their own: cut too far they flatten sure answers, too wide they blur close ones.
        """
        low, high = np.percentile(self.low, 100 - percent, axis=0), np.percentile(self.high, percent, axis=0)
        for column in self.logits:
            low[column] = np.percentile(self.low[:, column], 100 - logits_percent)
            high[column] = np.percentile(self.high[:, column], logits_percent)
        return {
            name: {
                "min": np.full((1,) * rank, low[k], np.float32),
                "max": np.full((1,) * rank, high[k], np.float32),
            }
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


def measure_ranges(float_model: bytes, faces: npt.NDArray[np.uint8]) -> Ranges:
    """Run a float model on faces and keep the extremes of every activation.

    Args:
        float_model: A float32 .tflite file with a fixed batch of 1.
        faces: Calibration faces, uint8 array (n, size, size, 3), RGB.
    """
    from ai_edge_litert.interpreter import Interpreter

    graph = read_flatbuffer(float_model).subgraphs[0]
    made = sorted({int(index) for operator in graph.operators for index in operator.outputs} | {int(graph.inputs[0])})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of the memory that the kept tensors take
        interpreter = Interpreter(model_content=float_model, experimental_preserve_all_tensors=True, num_threads=2)
    interpreter.allocate_tensors()
    low, high = (np.empty((len(faces), len(made)), np.float32) for _ in range(2))
    for row, face in enumerate(faces):
        interpreter.set_tensor(graph.inputs[0], face[None].astype(np.float32))
        interpreter.invoke()
        for column, index in enumerate(made):
            values = interpreter.get_tensor(index)
            low[row, column], high[row, column] = values.min(), values.max()
    # The camera's bytes go in unchanged: the input's range is 0..255, whatever the faces hold.
    low[:, made.index(graph.inputs[0])], high[:, made.index(graph.inputs[0])] = 0, 255
    tensors = [graph.tensors[index] for index in made]
    last = graph.operators[-1]
    logits = tuple(made.index(int(index)) for index in (*last.inputs, *last.outputs) if int(index) in made)
    return Ranges(tuple(t.name.decode() for t in tensors), tuple(len(t.shape) for t in tensors), low, high, logits)


def quantize_int8(
    float_model: bytes,
    ranges: Ranges,
    covered_percent: tuple[float, float],
    keep_float: Sequence[str] = (),
    only: str | None = None,
) -> bytes:
    """Quantise weights and activations to int8, with a uint8 interface.

    Args:
        float_model: The float32 .tflite file.
        ranges: Ranges of its activations.
        covered_percent: Of the activations and of the logits, see Ranges.covering.
        keep_float: Names of layers that stay in float.
        only: Name of the one layer to quantise; all of them by default.

    Raises:
        ImportError: If ai-edge-quantizer is not installed.
        RuntimeError: If it fails.
    """
    package = quantizer_package()
    quantizer = package.quantizer.Quantizer(float_model)
    every = package.qtyping.TFLOperationName.ALL_SUPPORTED
    quantizer.add_static_config(".*" if only is None else scope_of(only), every, activation_num_bits=8, weight_num_bits=8)
    for layer in keep_float:
        quantizer.update_quantization_recipe(scope_of(layer), every, algorithm_key="no_quantize")
    model = read_flatbuffer(_quantize(quantizer, ranges.covering(*covered_percent)))
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
