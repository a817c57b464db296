"""Models of other tools: how faces become their input, and their output becomes probabilities."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.contract import ModelError
from fer_edge.artifacts.training_data import check_labels
from fer_edge.benchmarks.backends import Array, TensorInfo, open_runner
from fer_edge.edge_runtime.images import Image, import_cv2

RANGES = {"0..255": (1.0, 0.0), "0..1": (1 / 255, 0.0), "-1..1": (2 / 255, -1.0)}  # factor and offset of a pixel
TOLERANCE = 0.05  # of the sum of quantized probabilities
COLORS = {"rgb": 3, "gray": 1}


@dataclass(frozen=True)
class ForeignInput:
    """What the user says about files without a contract. None marks facts that the user did not state.

    Attributes:
        color: One of COLORS. Default: from the number of channels.
        value_range: One of RANGES: the values that the model takes for black and white.
        labels: Labels in output order.

    Raises:
        ValueError: If a value is unknown.
    """

    color: str | None = None
    value_range: str | None = None
    labels: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for option, value, known in (("--input", self.color, COLORS), ("--range", self.value_range, RANGES)):
            if value is not None and value not in known:
                raise ValueError(f"unknown {option} '{value}'; choose one of: {', '.join(known)}")
        if self.labels is not None:
            check_labels(self.labels)


def read_labels(path: Path) -> tuple[str, ...]:
    """Read a labels file: one label per line, in output order, with or without its number in front.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it has no labels.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no labels file '{path}'. Write one label per line, in the order of the output")
    lines = (line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
    labels = tuple(re.sub(r"^\d+[\s:,]+", "", line) for line in lines if line)
    if not labels:
        raise ValueError(f"the labels file {path} is empty. Write one label per line, in the order of the output")
    return labels


def image_size(inputs: Sequence[TensorInfo]) -> tuple[int, int, int] | None:
    """Return height, width and channels of a model that takes one image of 1 or 3 channels; None for any other model.

    Args:
        inputs: Its inputs.
    """
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].shape[0] != 1:
        return None
    _, *shape = inputs[0].shape
    if shape[2] in COLORS.values():
        return shape[0], shape[1], shape[2]
    return (shape[1], shape[2], shape[0]) if shape[0] in COLORS.values() else None  # channels first


def resize_face(face: Image, size: tuple[int, int, int], color: str | None = None) -> Image:
    """Return a face with the size and channels of a model.

    Args:
        face: uint8 array (height, width), gray, or (height, width, 3), RGB.
        size: Height, width and channels.
        color: ``gray`` removes the color for a model of three channels too.

    Returns:
        uint8 array of that shape.
    """
    cv2 = import_cv2()
    height, width, channels = size
    if face.shape[:2] != (height, width):
        shrinks = height < face.shape[0] or width < face.shape[1]
        method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR_EXACT
        face = np.asarray(cv2.resize(face, (width, height), interpolation=method), np.uint8)
    if face.ndim == 3 and (channels == 1 or color == "gray"):
        face = np.asarray(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY), np.uint8)
    return np.repeat(face[:, :, None], channels, axis=2) if face.ndim == 2 else face


class ForeignClassifier:
    """Classifies faces with a .tflite file of another tool.

    Args:
        model: The file. It should have run in another process before: a damaged file can end the process that loads it.
        settings: What the user says about it.

    Attributes:
        labels: Labels in output order.

    Raises:
        ModelError: If the settings do not fit the file.
    """

    def __init__(self, model: Path, settings: ForeignInput) -> None:
        if settings.labels is None or settings.value_range is None:
            raise ModelError("the accuracy of a file without a contract needs --labels and --range")
        self.labels = settings.labels
        self._runner = open_runner(model.read_bytes(), 1)
        size = image_size(self._runner.inputs)
        if size is None:
            shapes = [info.shape for info in self._runner.inputs]
            raise ModelError(f"its accuracy cannot be measured: it does not take one image of 1 or 3 channels, but {shapes}")
        if settings.color and COLORS[settings.color] > size[2]:
            raise ModelError(f"it takes images of {size[2]} channel, not --input {settings.color}. Pass --input gray")
        self._size, self._color = size, settings.color
        self._factor, self._offset = RANGES[settings.value_range]
        shapes = [info.shape for info in self._runner.outputs]
        fitting = [number for number, shape in enumerate(shapes) if shape[1:] == (len(self.labels),)]
        if not fitting:
            raise ModelError(f"its outputs have the shapes {shapes}, but --labels has {len(self.labels)} labels")
        self._output = fitting[0]

    def probabilities(self, face: Image) -> npt.NDArray[np.float32]:
        """Return the probabilities of one face crop.

        Args:
            face: uint8 array (height, width), gray, or (height, width, 3), RGB.

        Returns:
            float32 array (classes,), 0..1. Outputs that are not probabilities go through a softmax.
        """
        info = self._runner.inputs[0]
        values = resize_face(face, self._size, self._color).astype(np.float64) * self._factor + self._offset
        if info.shape[3] != self._size[2]:  # channels first
            values = values.transpose(2, 0, 1)
        self._runner.write([quantize(values, info).reshape(info.shape)])
        self._runner.invoke()
        info = self._runner.outputs[self._output]
        output = self._runner.read()[self._output][0].astype(np.float64)
        if info.scale:
            output = info.scale * (output - info.zero_point)
        if output.min() < -TOLERANCE or abs(output.sum() - 1) > TOLERANCE:
            output = np.exp(output - output.max())
            output = output / output.sum()
        return np.asarray(output, np.float32)


def quantize(values: npt.NDArray[np.floating[Any]], info: TensorInfo) -> Array:
    """Return real values as the type of a tensor.

    Args:
        values: Real values, any shape.
        info: The tensor.
    """
    if info.dtype.kind == "f":
        return values.astype(info.dtype)
    if info.scale:
        values = values / info.scale + info.zero_point
    limits = np.iinfo(info.dtype)
    return np.clip(np.rint(values), limits.min, limits.max).astype(info.dtype)
