"""The input of a runtime: a model with faces; and its result."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.check_graph import check_graph
from fer_edge.artifacts.model_file import read_model_file
from fer_edge.edge_runtime.crop import preprocess_face, to_rgb
from fer_edge.edge_runtime.images import Image

FLOAT_STEP = 1 / 256  # the unit of a difference between float outputs
Outputs = npt.NDArray[Any]


@dataclass(frozen=True)
class ParityModel:
    """A model and the faces that each runtime gets.

    Attributes:
        path: The .tflite file.
        labels: Label names in output order.
        image_size: Side of the input, pixels.
        float_input: Whether the input is float32.
        scale: Scale of a uint8 output; None for a float output.
        zero_point: Zero point of the output.
        faces: uint8 array (n, size, size, 3), RGB.
    """

    path: Path
    labels: tuple[str, ...]
    image_size: int
    float_input: bool
    scale: float | None
    zero_point: int
    faces: npt.NDArray[np.uint8]

    @property
    def step(self) -> float:
        """The difference of probability that counts as one step."""
        return self.scale or FLOAT_STEP


@dataclass(frozen=True)
class RuntimeOutput:
    """The result of a runtime for one model.

    Attributes:
        version: Version of the runtime.
        outputs: uint8 or float32 array (n, classes); None if it failed.
        labels: Labels that the runtime read from the file; None for a runtime that reads none.
        problem: Why it failed; None if it did not.
    """

    version: str
    outputs: Outputs | None = None
    labels: tuple[str, ...] | None = None
    problem: str | None = None


def read_parity_model(path: Path, images: list[Image]) -> ParityModel:
    """Read a model, and resize faces to its input as the edge does.

    Args:
        path: A .tflite file of fer-edge.
        images: Face crops, uint8 arrays (height, width), gray, or (height, width, 3), RGB.

    Raises:
        FileNotFoundError: If there is no such file.
        ModelError: If it is not a .tflite file of fer-edge, or is damaged.
    """
    file = read_model_file(path)
    contract = file.contract
    size, resolution = contract.image_size, contract.crop.training_resolution_px
    output = check_graph(file.flatbuffer, size, len(contract.labels))
    return ParityModel(
        path=path.absolute(),
        labels=contract.labels,
        image_size=size,
        float_input=contract.quantization.recipe.io_dtype == "float32",
        scale=output.scales[0] if output.scales else None,
        zero_point=output.zero_point,
        faces=np.stack([to_rgb(preprocess_face(image, size, resolution)) for image in images]),
    )
