"""What is inside a .tflite file: operators, what is not integer, what XNNPACK takes, layers whose weights stand out."""

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fer_edge.convert.flatbuffer import operators, read_flatbuffer
from fer_edge.edge_runtime.interpreter import make_interpreter

if TYPE_CHECKING:
    import keras

# Measured on the five trained networks: the layer with the largest weights has at most 30 times those of the median layer, 138
# times once channels are equalised (a depthwise layer of MobileNetV2).
OUTLIER_RATIO = 300.0


@dataclass(frozen=True)
class Inspection:
    """The inside of one .tflite file.

    Attributes:
        operators: Number of operators by name.
        float_operators: Those that compute with floats.
        custom_operators: Those that are no built-ins; a name that begins with ``Flex`` needs TensorFlow.
        partitions: Number of parts of the graph that XNNPACK runs; 1 is best, None where the runtime does not say.
        file_bytes: Size of the file.
        compressed_bytes: Size of the file after zlib, level 9: what a download or an app store package takes.
    """

    operators: dict[str, int]
    float_operators: dict[str, int]
    custom_operators: dict[str, int]
    partitions: int | None
    file_bytes: int
    compressed_bytes: int


def inspect_model(path: Path) -> Inspection:
    """Look into a .tflite file."""
    content = path.read_bytes()
    every, floats, custom = operators(read_flatbuffer(content))
    return Inspection(
        dict(every.most_common()),
        dict(floats.most_common()),
        dict(custom.most_common()),
        _partitions(content),
        len(content),
        len(zlib.compress(content, 9)),
    )


def _partitions(content: bytes) -> int | None:
    try:
        interpreter = make_interpreter(model_content=content, num_threads=1)
        # No public call tells what the delegate took; without this one the count is not known.
        return sum(operator["op_name"] == "DELEGATE" for operator in interpreter._get_ops_details())
    except (AttributeError, RuntimeError, ValueError):
        return None


def outlier_layers(model: "keras.Model") -> dict[str, float]:
    """Return layers whose largest weight is more than OUTLIER_RATIO times that of the median layer, with that factor.

    The last layer is left out: int8 files compute it in float. So are depthwise convolutions of 1 x 1 pixels: with one weight
    and one scale per channel, each is exact however large it is.

    Args:
        model: The folded Keras model. Batch normalisation is inside its weights.
    """
    weighted = [layer for layer in model.layers if layer.weights and not _one_weight_a_channel(layer)][:-1]
    largest = {layer.name: float(np.abs(layer.get_weights()[0]).max()) for layer in weighted}
    inner = list(largest.values())[1:]  # the first layer's are divided by 255: it reads bytes
    median = float(np.median(inner)) if inner else 0.0
    if not median:
        return {}
    return {name: value / median for name, value in largest.items() if value / median > OUTLIER_RATIO}


def _one_weight_a_channel(layer: "keras.Layer") -> bool:
    import keras

    return isinstance(layer, keras.layers.DepthwiseConv2D) and layer.kernel_size == (1, 1)
