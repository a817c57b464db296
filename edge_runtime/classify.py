"""Classify face crops with a converted model."""

from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numpy import ndarray

from fer_edge.artifacts.contract import ModelError, check_tflite, read_contract
from fer_edge.edge_runtime.crop import preprocess_face, to_rgb
from fer_edge.edge_runtime.find_model import find_model
from fer_edge.edge_runtime.images import Image
from fer_edge.edge_runtime.interpreter import open_interpreter, tensor_view

UINT8 = np.dtype(np.uint8)
RAW_BYTES = (1.0, 0)  # scale and zero point of an input that takes a camera's bytes as they are


class Prediction(NamedTuple):
    """What the model says of one face.

    Attributes:
        label: The most probable label.
        probability: Its probability, 0..1.
        probabilities: One probability per label, in the model's order.
        labels: Label names in that order.
    """

    label: str
    probability: float
    probabilities: tuple[float, ...]
    labels: tuple[str, ...]

    def as_dict(self) -> dict[str, float]:
        """Return the probabilities by label."""
        return dict(zip(self.labels, self.probabilities, strict=True))


class Classifier:
    """A converted model, ready to classify face crops.

    Args:
        model: A .tflite file made by fer-edge; or what ``find_model`` takes: a folder, the name of a network that comes with
            fer-edge, None for the default.
        num_threads: Threads of the interpreter.

    Attributes:
        model: The file.
        contract: The contract inside it.
        labels: Label names in output order.
        num_threads: Threads of the interpreter.

    Raises:
        FileNotFoundError: If there is no such file.
        ModelError: If it is no .tflite of fer-edge, truncated, or not of its own contract.
        ImportError: If no interpreter is installed.
    """

    def __init__(self, model: str | Path | None = None, num_threads: int = 1) -> None:
        path = self.model = check_tflite(find_model(model))
        self.interpreter = open_interpreter(path, num_threads)
        self.contract = read_contract(path)
        self.labels = self.contract.labels
        self.num_threads = num_threads
        (inputs,), (outputs,) = self.interpreter.get_input_details(), self.interpreter.get_output_details()
        size = self.contract.image_size
        self._shape = (size, size, 3)
        if tuple(inputs["shape"]) != (1, *self._shape) or tuple(outputs["shape"]) != (1, len(self.labels)):
            raise ModelError(
                f"{path} does not keep its own contract: input {tuple(inputs['shape'])}, output {tuple(outputs['shape'])}, "
                f"contract {(1, *self._shape)} and {(1, len(self.labels))}. Convert the run again"
            )
        if inputs["dtype"] == np.uint8 and inputs["quantization"] != RAW_BYTES:
            raise ModelError(
                f"{path} does not take raw bytes: its input quantization is {inputs['quantization']}, not {RAW_BYTES}. "
                "Convert the run again"
            )
        self._face = tensor_view(self.interpreter, inputs["index"])[0]
        self._answer = memoryview(tensor_view(self.interpreter, outputs["index"])[0])
        scale, zero_point = outputs["quantization"]
        # One look-up replaces the arithmetic: a quantized output has 256 values only.
        table = np.float32(scale) * (np.arange(256, dtype=np.float32) - np.float32(zero_point))
        self._dequantized: list[float] | None = table.tolist() if outputs["dtype"] == np.uint8 else None

    def probabilities(self, face: Image) -> npt.NDArray[np.float32]:
        """Classify one face crop.

        Args:
            face: uint8 array (height, width, 3), RGB, or (height, width), gray, of any size.

        Returns:
            float32 array (classes,), summing to 1 but for quantization.

        Raises:
            ValueError: If the array is no image.
        """
        return np.array(self._predict(face).probabilities, np.float32)

    def predict(self, faces: Image | Sequence[Image]) -> list[Prediction]:
        """Classify one face crop or several.

        Args:
            faces: One uint8 array (height, width, 3), RGB, or (height, width), gray; a batch (n, height, width, 3); or
                a sequence of faces of any size.

        Returns:
            One prediction per face, in order.

        Raises:
            ValueError: If one of them is no image.
        """
        if isinstance(faces, ndarray) and (faces.shape == self._shape or faces.ndim == 2 or faces.shape[2:] == (3,)):
            return [self._predict(faces)]
        return [self._predict(face) for face in ((faces,) if faces is None else faces)]

    def _predict(self, face: Image) -> Prediction:
        # Right after an inference the caches are cold, and each call into another part of Python or numpy takes microseconds:
        # hence few of them, and none that makes an array.
        if not (type(face) is ndarray and face.dtype is UINT8 and face.shape == self._shape):
            face = to_rgb(preprocess_face(face, self.contract.image_size, self.contract.crop.training_resolution_px))
        self._face[...] = face
        self.interpreter.invoke()
        answer = self._answer.tolist()
        values = itemgetter(*answer)(self._dequantized) if self._dequantized else tuple(answer)
        highest = max(values)
        return tuple.__new__(Prediction, (self.labels[values.index(highest)], highest, values, self.labels))
