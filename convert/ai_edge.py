"""Quantize with ai-edge-quantizer, with activation ranges measured per calibration face."""

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

# Percentiles of the extremes per face that are tried as the range of an activation. One unusual face can extend a range 188
# times (measured, InceptionV3 on CK+48), which makes the steps too coarse for all others. The best one differs per network.
PERCENTILES = (100.0, 99.5, 98.0, 95.0)


@dataclass(frozen=True)
class ActivationRanges:
    """The extremes and means of the activations of a float model on the calibration faces.

    Attributes:
        names: Names of the activation tensors.
        ranks: Number of dimensions of each tensor.
        low: Smallest value of each tensor on each face, float32 array (faces, tensors).
        high: Largest value, float32 array (faces, tensors).
        means: Mean of each channel over faces and positions by tensor name, float64 arrays (channels,).
    """

    names: tuple[str, ...]
    ranks: tuple[int, ...]
    low: npt.NDArray[np.float32]
    high: npt.NDArray[np.float32]
    means: dict[str, npt.NDArray[np.float64]]

    def percentile(self, percent: float) -> dict[str, dict[str, npt.NDArray[np.float32]]]:
        """Return the range of each tensor from percentiles over the faces.

        Args:
            percent: Percentile of the highs; ``100 - percent`` is that of the lows. 50..100.

        Returns:
            ``min`` and ``max`` by tensor name, float32 arrays with one value and as many dimensions as the tensor.
        """
        low, high = np.percentile(self.low, 100 - percent, axis=0), np.percentile(self.high, percent, axis=0)
        return {
            name: {
                "min": np.full((1,) * rank, low[index], np.float32),
                "max": np.full((1,) * rank, high[index], np.float32),
            }
            for index, (name, rank) in enumerate(zip(self.names, self.ranks, strict=True))
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
    """Run a float model on faces and record the extremes and the mean of every activation.

    Args:
        float_model: A float32 .tflite file with a fixed batch of 1.
        faces: Calibration faces, uint8 array (n, size, size, 3), RGB.
    """
    graph = read_flatbuffer(float_model).subgraphs[0]
    face_index = int(graph.inputs[0])
    indices = sorted({int(index) for operator in graph.operators for index in operator.outputs} | {face_index})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns about the memory of the preserved tensors
        interpreter = make_interpreter(model_content=float_model, experimental_preserve_all_tensors=True, num_threads=2)
    low, high = (np.empty((len(faces), len(indices)), np.float32) for _ in range(2))
    sums: list[Any] = [0.0] * len(indices)
    for row, face in enumerate(faces):
        interpreter.set_tensor(face_index, face[None].astype(np.float32))
        interpreter.invoke()
        for column, index in enumerate(indices):
            values = interpreter.get_tensor(index)
            low[row, column], high[row, column] = values.min(), values.max()
            sums[column] = sums[column] + values.reshape(-1, values.shape[-1]).mean(axis=0, dtype=np.float64)
    # The input takes the bytes of the camera unchanged: its range is 0..255 whatever the faces contain.
    low[:, indices.index(face_index)], high[:, indices.index(face_index)] = 0, 255
    tensors = [graph.tensors[index] for index in indices]
    names = tuple(tensor.name.decode() for tensor in tensors)
    means = {name: total / len(faces) for name, total in zip(names, sums, strict=True)}
    return ActivationRanges(names, tuple(len(tensor.shape) for tensor in tensors), low, high, means)


def quantize_int8(
    float_model: bytes,
    ranges: ActivationRanges,
    percentile: float,
    keep_float: Sequence[str] = (),
    only: str | None = None,
    correct: bool = True,
) -> bytes:
    """Quantize weights and activations to int8, with uint8 input and output.

    The last layer and the softmax stay in float: a single scale for all logits is too coarse if one class has much larger
    logits than the others (measured, VGG16 on CK+48: steps of 0.18, and agreement with Keras 0.94 instead of 0.99).

    Args:
        float_model: The float32 .tflite file.
        ranges: Ranges of its activations.
        percentile: See ActivationRanges.percentile.
        keep_float: Names of other layers that stay in float.
        only: Name of the only layer to quantize; None for all layers.
        correct: Whether to correct the biases for the mean rounding error of the weights.

    Raises:
        ImportError: If ai-edge-quantizer is not installed.
        RuntimeError: If it fails.
    """
    operation = quantizer_package().qtyping.TFLOperationName
    graph = read_flatbuffer(float_model).subgraphs[0]
    logits = graph.tensors[graph.operators[-1].inputs[0]].name.decode()
    kept = [(".*", operation.SOFTMAX)]
    kept += [(scope, operation.ALL_SUPPORTED) for scope in (re.escape(logits), *map(scope_of, keep_float))]
    model = quantize_static(float_model, ranges, percentile, kept, ".*" if only is None else scope_of(only), correct)
    make_uint8_interface(model)
    return write_flatbuffer(model)


def quantize_static(
    float_model: bytes,
    ranges: ActivationRanges,
    percentile: float,
    kept: Sequence[tuple[str, Any]],
    scope: str = ".*",
    correct: bool = True,
) -> Any:
    """Quantize weights and activations to int8. Input and output keep the type that the quantizer gives them.

    Args:
        float_model: The float32 .tflite file.
        ranges: Ranges of its activations.
        percentile: See ActivationRanges.percentile.
        kept: What stays in float: pairs of a regular expression of output names and an operation of ai-edge-quantizer.
        scope: Regular expression of the output names of the operators to quantize.
        correct: Whether to correct the biases for the mean rounding error of the weights.

    Returns:
        The model, as of read_flatbuffer.

    Raises:
        ImportError: If ai-edge-quantizer is not installed.
        RuntimeError: If it fails.
    """
    package = quantizer_package()
    quantizer = package.quantizer.Quantizer(float_model)
    supported = package.qtyping.TFLOperationName.ALL_SUPPORTED
    quantizer.add_static_config(scope, supported, activation_num_bits=8, weight_num_bits=8)
    for kept_scope, operation in kept:
        quantizer.update_quantization_recipe(kept_scope, operation, algorithm_key="no_quantize")
    model = read_flatbuffer(_quantize(quantizer, ranges.percentile(percentile)))
    if correct:
        correct_biases(model, read_flatbuffer(float_model), ranges.means)
    return model


def quantize_weights(float_model: bytes) -> bytes:
    """Store the weights as int8 per channel, and compute in float.

    Raises:
        ImportError: If ai-edge-quantizer is not installed.
        RuntimeError: If it fails.
    """
    package = quantizer_package()
    return _quantize(package.quantizer.Quantizer(float_model, package.recipe.weight_only_wi8_afp32()), None)


def _quantize(quantizer: Any, ranges: Any) -> bytes:
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return bytes(quantizer.quantize(ranges).quantized_model)
    except Exception as error:  # it raises many types
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise RuntimeError(f"ai-edge-quantizer failed ({first}). Try TensorFlow's own: --quantizer tflite") from error


def scope_of(layer: str) -> str:
    """Return the regular expression for a layer in the tensor names of a converted model."""
    # Keras appends a number to a layer that is called again, which is every layer of a folded model.
    return rf"(^|[/;]){re.escape(layer)}_\d+/"
