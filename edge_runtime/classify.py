"""Classify face crops with a converted model."""

from collections.abc import Sequence
from heapq import nlargest
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numpy import ndarray

from fer_edge.artifacts.contract import ModelError
from fer_edge.artifacts.model_file import read_model_file
from fer_edge.edge_runtime.check_probabilities import check_probabilities
from fer_edge.edge_runtime.crop import preprocess_face, to_rgb
from fer_edge.edge_runtime.find_model import find_model
from fer_edge.edge_runtime.images import Image
from fer_edge.edge_runtime.interpreter import open_interpreter, tensor_view
from fer_edge.edge_runtime.personal.correction import apply_offsets
from fer_edge.edge_runtime.personal.people import read_offsets
from fer_edge.edge_runtime.trial_load import try_loading

UINT8 = np.dtype(np.uint8)
IDENTITY_QUANTIZATION = (1.0, 0)  # scale and zero point of an input that takes the bytes of an image unchanged


class Prediction(NamedTuple):
    """The model's prediction for one face.

    Attributes:
        label: The most probable label.
        probability: Probability of ``label``, 0..1.
        probabilities: Probability of each label, 0..1, in the order of ``labels``.
        labels: Label names in the model's output order.
    """

    label: str
    probability: float
    probabilities: tuple[float, ...]
    labels: tuple[str, ...]

    @property
    def top_labels(self) -> tuple[str, str]:
        """Return the two most probable labels, the most probable first.

        After smoothing they can differ from ``label``, which is then "unsure", or the label of the frames before.
        """
        (_, first), (_, second) = self._top_two()
        return first, second

    @property
    def margin(self) -> float:
        """Return by how much the most probable label leads the one after it, 0..1."""
        (highest, _), (second, _) = self._top_two()
        return highest - second

    def _top_two(self) -> list[tuple[float, str]]:
        return nlargest(2, zip(self.probabilities, self.labels, strict=True), key=itemgetter(0))

    def as_dict(self) -> dict[str, float]:
        """Return the probability of each label, 0..1, by label name."""
        return dict(zip(self.labels, self.probabilities, strict=True))


class Classifier:
    """A converted model, ready to classify face crops.

    Args:
        model: A fer-edge .tflite file, a folder, the name of a bundled model, or None for the default; see ``find_model``.
        num_threads: Number of interpreter threads, >= 1.
        views: 2 classifies the mirror image of each face too and averages the probabilities, at twice the time; 1 does not.
        person: Name of a person whose correction is applied to the probabilities, see ``fer-edge personalize``; None for no
            correction.

    Attributes:
        model: Path of the .tflite file.
        views: Number of images that are classified per face.
        contract: The contract stored in the file.
        labels: Label names in output order.
        num_threads: Number of interpreter threads.
        sha256: Digest of the model without its contract.

    Raises:
        FileNotFoundError: If the model file or the person does not exist.
        PersonError: If the personal file is damaged or from another model.
        ModelError: If the file is not a fer-edge .tflite file, is damaged, differs from its contract, or does not output
            probabilities.
        ValueError: If ``views`` is not 1 or 2.
        ImportError: If no interpreter is installed.
    """

    def __init__(
        self, model: str | Path | None = None, num_threads: int = 1, *, views: int = 1, person: str | None = None
    ) -> None:
        if views not in (1, 2):
            raise ValueError(f"views must be 1 (the face) or 2 (and its mirror image). Received: views={views}")
        self.views = views
        file = read_model_file(find_model(model))
        try_loading(file)
        path = self.model = file.path
        self.interpreter = open_interpreter(path, num_threads, file.flatbuffer)
        self.contract = file.contract
        self.sha256 = file.sha256
        self.labels = self.contract.labels
        self.num_threads = num_threads
        (inputs,), (outputs,) = self.interpreter.get_input_details(), self.interpreter.get_output_details()
        size = self.contract.image_size
        self._shape = (size, size, 3)
        if tuple(inputs["shape"]) != (1, *self._shape) or tuple(outputs["shape"]) != (1, len(self.labels)):
            raise ModelError(
                f"{path} differs from its contract: input {tuple(inputs['shape'])}, output {tuple(outputs['shape'])}, "
                f"contract {(1, *self._shape)} and {(1, len(self.labels))}. Convert the run again"
            )
        if inputs["dtype"] == np.uint8 and inputs["quantization"] != IDENTITY_QUANTIZATION:
            raise ModelError(
                f"{path} does not take image bytes unchanged: its input quantization is {inputs['quantization']}, "
                f"not {IDENTITY_QUANTIZATION}. Convert the run again"
            )
        self._input = tensor_view(self.interpreter, inputs["index"])[0]
        self._output = memoryview(tensor_view(self.interpreter, outputs["index"])[0])
        scale, zero_point = outputs["quantization"]
        # A uint8 output has only 256 values: a table lookup replaces the arithmetic.
        table = np.float32(scale) * (np.arange(256, dtype=np.float32) - np.float32(zero_point))
        self._dequantized: list[float] | None = table.tolist() if outputs["dtype"] == np.uint8 else None
        self._check_output()
        self._offsets = None if person is None else read_offsets(person, path.name, file.sha256, self.labels)

    def _check_output(self) -> None:
        """Run the model once, on a gray face."""
        self._input[...] = 128
        self.interpreter.invoke()
        output = self._output.tolist()
        self._checked([self._dequantized[value] for value in output] if self._dequantized else output)

    def _checked(self, values: Sequence[float]) -> tuple[float, ...]:
        try:
            check_probabilities(values)
        except ValueError as error:
            raise ModelError(f"{self.model} cannot be used: {error}. Convert the run again: fer-edge convert RUN") from error
        return tuple(values)

    def probabilities(self, face: Image) -> npt.NDArray[np.float32]:
        """Return the probabilities of one face crop.

        Args:
            face: uint8 array (height, width, 3), RGB, or (height, width), gray, of any size.

        Returns:
            float32 array (classes,), 0..1. The sum is 1 up to quantization error.

        Raises:
            ValueError: If the array is not an image.
        """
        return np.array(self._predict(face).probabilities, np.float32)

    def predict(self, faces: Image | Sequence[Image]) -> list[Prediction]:
        """Classify one or more face crops.

        Args:
            faces: One uint8 array (height, width, 3), RGB, or (height, width), gray; a batch (n, height, width, 3); or
                a sequence of faces of any size.

        Returns:
            One prediction per face, in input order.

        Raises:
            ValueError: If a face is not an image.
        """
        if isinstance(faces, ndarray) and (faces.shape == self._shape or faces.ndim == 2 or faces.shape[2:] == (3,)):
            return [self._predict(faces)]
        return [self._predict(face) for face in ((faces,) if faces is None else faces)]

    def _predict(self, face: Image) -> Prediction:
        # CPU caches are cold after an inference, so each Python or numpy call costs microseconds. This function makes few
        # calls and creates no arrays.
        if not (type(face) is ndarray and face.dtype is UINT8 and face.shape == self._shape):
            face = to_rgb(preprocess_face(face, self.contract.image_size, self.contract.crop.training_resolution_px))
        values = self._invoke(face)
        if self.views == 2:
            values = tuple((one + other) / 2 for one, other in zip(values, self._invoke(face[:, ::-1]), strict=True))
        if self._offsets is not None:
            values = apply_offsets(values, self._offsets)
        highest = max(values)
        return tuple.__new__(Prediction, (self.labels[values.index(highest)], highest, values, self.labels))

    def _invoke(self, face: Image) -> tuple[float, ...]:
        """Return the probabilities of an input of the model."""
        self._input[...] = face
        self.interpreter.invoke()
        output = self._output.tolist()
        return itemgetter(*output)(self._dequantized) if self._dequantized else self._checked(output)
