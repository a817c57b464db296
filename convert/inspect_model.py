"""Inspect a .tflite file: operators, float operators, XNNPACK partitions, and layers with unusually large weights."""

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fer_edge.convert.flatbuffer import operators, read_flatbuffer
from fer_edge.edge_runtime.interpreter import make_interpreter

if TYPE_CHECKING:
    import keras

# Measured on the five trained networks: the largest weight of a layer is at most 30 times that of the median layer, after
# equalization at most 138 times (a depthwise layer of MobileNetV2).
OUTLIER_RATIO = 300.0


@dataclass(frozen=True)
class Inspection:
    """The content of a .tflite file.

    Attributes:
        operators: Number of operators by name.
        float_operators: Number of those that compute in float.
        custom_operators: Number of those that are not built-ins. A name that starts with ``Flex`` needs TensorFlow.
        partitions: Number of parts of the graph that XNNPACK runs; 1 is best, None if the runtime does not report it.
        file_bytes: Size of the file.
        compressed_bytes: Size of the file after zlib, level 9, as in a download or an app package.
    """

    operators: dict[str, int]
    float_operators: dict[str, int]
    custom_operators: dict[str, int]
    partitions: int | None
    file_bytes: int
    compressed_bytes: int


def inspect_model(path: Path) -> Inspection:
    """Inspect a .tflite file."""
    content = path.read_bytes()
    all_operators, floats, custom = (dict(counts.most_common()) for counts in operators(read_flatbuffer(content)))
    return Inspection(all_operators, floats, custom, _partitions(content), len(content), len(zlib.compress(content, 9)))


def _partitions(content: bytes) -> int | None:
    try:
        interpreter = make_interpreter(model_content=content, num_threads=1)
        # The public API does not report what the delegate runs.
        return sum(operator["op_name"] == "DELEGATE" for operator in interpreter._get_ops_details())
    except (AttributeError, RuntimeError, ValueError):
        return None


def outlier_layers(model: "keras.Model") -> dict[str, float]:
    """Return the layers whose largest weight is more than OUTLIER_RATIO times that of the median layer.

    The last layer is not considered: int8 files compute it in float. Nor are depthwise convolutions of 1 x 1 pixels: with one
    weight and one scale per channel, their weights are exact.

    Args:
        model: The folded Keras model. Batch normalization is part of its weights.

    Returns:
        The ratio by layer name.
    """
    weighted = [layer for layer in model.layers if layer.weights and not _has_one_weight_per_channel(layer)][:-1]
    largest = {layer.name: float(np.abs(layer.get_weights()[0]).max()) for layer in weighted}
    inner = list(largest.values())[1:]  # the first layer reads bytes: its weights are divided by 255
    median = float(np.median(inner)) if inner else 0.0
    if not median:
        return {}
    return {name: value / median for name, value in largest.items() if value / median > OUTLIER_RATIO}


def _has_one_weight_per_channel(layer: "keras.Layer") -> bool:
    import keras

    return isinstance(layer, keras.layers.DepthwiseConv2D) and layer.kernel_size == (1, 1)
