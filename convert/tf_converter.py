"""Convert a Keras model to a TFLite flatbuffer with TensorFlow's converter. Its output goes to a log file."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.conversion import QuantizationRecipe

if TYPE_CHECKING:
    import keras


def convert_keras(model: "keras.Model", recipe: QuantizationRecipe, faces: npt.NDArray[np.uint8], log: Path) -> bytes:
    """Convert a Keras model to a TFLite flatbuffer.

    Args:
        model: From RGB 0..255 (batch, size, size, 3) to probabilities.
        recipe: The quantization recipe.
        faces: Calibration faces, uint8 array (n, size, size, 3), RGB; used if the recipe is calibrated.
        log: File for everything that the converter prints.

    Returns:
        The flatbuffer, with a fixed batch of 1.

    Raises:
        RuntimeError: If the converter fails. The log shows why.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    shape = (1, *model.input_shape[1:])

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, name="face")])
    def serve(face: Any) -> Any:
        return model(face, training=False)

    with _redirect_output(log):
        try:
            # Frozen first: otherwise the converter keeps the weights as variables, which it cannot calibrate.
            constant = convert_variables_to_constants_v2(serve.get_concrete_function())
            converter = tf.lite.TFLiteConverter.from_concrete_functions([constant])
            _apply(converter, recipe, faces, tf)
            return bytes(converter.convert())
        except Exception as error:  # the converter raises many types
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise RuntimeError(f"the converter failed on {recipe.precision} ({first}). Its full output is in {log}") from error


def _apply(converter: Any, recipe: QuantizationRecipe, faces: npt.NDArray[np.uint8], tf: Any) -> None:
    if recipe.weights == "float32":
        return
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if recipe.weights == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if recipe.calibrated:
        calibration = full_range(faces)
        converter.representative_dataset = lambda: ([face[None].astype(np.float32)] for face in calibration)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.as_dtype(recipe.io_dtype)


def full_range(faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return a copy of the faces with one pixel of the first set to black and one to white.

    The calibrated input range is then exactly 0..255, and the input quantization scale 1, zero point 0: the model takes the
    bytes of the camera unchanged.

    Args:
        faces: uint8 array (n, size, size, 3), RGB, n > 0.
    """
    result = faces.copy()
    result[0, 0, 0] = 0
    result[0, -1, -1] = 255
    return result


@contextlib.contextmanager
def _redirect_output(log: Path) -> Iterator[None]:
    """Redirect everything that the process prints, also from C++, to a file while the block runs."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    originals = os.dup(1), os.dup(2)
    with log.open("ab") as file:
        try:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            yield
        finally:
            with contextlib.suppress(OSError):  # the disk may be full; the terminal must be restored anyway
                sys.stdout.flush()
                sys.stderr.flush()
            os.dup2(originals[0], 1)
            os.dup2(originals[1], 2)
            for descriptor in originals:
                os.close(descriptor)
