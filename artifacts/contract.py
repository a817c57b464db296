"""The contract: what a .tflite file says about itself, stored inside the file as fer_edge.json."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from fer_edge.artifacts.conversion import ConversionMetrics, QuantizationSummary
from fer_edge.artifacts.model_archive import read_archive
from fer_edge.artifacts.npu_summary import NpuSummary
from fer_edge.artifacts.training_data import SplitSummary, check_labels, check_name, check_range
from fer_edge.artifacts.typed_json import from_data, to_data

CANONICAL_LABELS = ("angry", "contempt", "disgust", "fear", "happy", "neutral", "sad", "surprise")
CONTRACT_FILE = "fer_edge.json"
LABELS_FILE = "labels.txt"
CONTRACT_VERSION = 2
TFLITE_IDENTIFIER = b"TFL3"  # bytes 4..8 of every TFLite flatbuffer
IMAGE_SIZES = (8, 1024)  # pixels
RESOLUTIONS = (8, 2048)  # pixels
BOX_SCALES = (0.2, 5.0)
BOX_SHIFTS = (-2.0, 2.0)
MAX_BOX_TRANSFORMS = 16
MIN_LABELS, MAX_LABELS = 2, 1000
CONTROL_CHARACTERS = re.compile("[\x00-\x1f\x7f-\x9f]")  # a terminal would execute them


class ModelError(ValueError):
    """A model file that cannot be used: truncated, made by another tool, or with another contract."""


@dataclass(frozen=True)
class BoxTransform:
    """Where the training crop is, relative to a detector's box.

    Attributes:
        scale: Side of the crop as a multiple of the longer side of the box.
        shift_x: Shift of the crop's center to the right, in box widths.
        shift_y: Shift of the crop's center downwards, in box heights.

    Raises:
        ValueError: If a number is out of range.
    """

    scale: float = 1.0
    shift_x: float = 0.0
    shift_y: float = 0.0

    def __post_init__(self) -> None:
        check_range("the scale of a box transform", self.scale, BOX_SCALES)
        for shift in (self.shift_x, self.shift_y):
            check_range("the shift of a box transform", shift, BOX_SHIFTS)


# Used when no detector was run on the training faces. FER2013 and CK+48 faces were cropped with OpenCV's Haar box, so that box
# is the crop; BlazeFace draws a tighter and lower box. Measured with detectors/box_transform.py on 800 FER2013 training faces
# (seed 0; benchmarks/results/live.jsonl): BlazeFace found 693, median scale 1.151 (interquartile range 0.20), shift_y -0.102
# (0.074); YuNet found 686, 0.976 (0.17) and -0.042 (0.049). Datasets differ: on 256 CK+48 faces BlazeFace's values are 1.143
# and -0.155, and the wrong pair of the two cost 3 points of accuracy.
BOX_TRANSFORMS = {
    "haar": BoxTransform(),
    "blazeface": BoxTransform(scale=1.151, shift_y=-0.102),
    "yunet": BoxTransform(scale=0.976, shift_y=-0.042),
}


@dataclass(frozen=True)
class CropConvention:
    """How a face is cropped and resized, so that the edge sees what training saw.

    Attributes:
        convention: Name of the detector whose box cropped the training faces.
        training_resolution_px: Side of the training faces, pixels. A larger crop is first downscaled to it, because the
            network never saw sharper faces.
        box_transforms: Box transform per detector name.

    Raises:
        ValueError: If a number is out of range.
    """

    convention: str = "haar"
    training_resolution_px: int = 48
    box_transforms: dict[str, BoxTransform] = field(default_factory=lambda: dict(BOX_TRANSFORMS))

    def __post_init__(self) -> None:
        check_range("the training resolution of a contract", self.training_resolution_px, RESOLUTIONS)
        check_range("the number of box transforms", len(self.box_transforms), (1, MAX_BOX_TRANSFORMS))

    def box_transform(self, detector: str) -> BoxTransform:
        """Return the box transform of a detector.

        Raises:
            ValueError: If the contract has none for it.
        """
        if detector in self.box_transforms:
            return self.box_transforms[detector]
        # The own detector learns boxes in Haar's convention. Contracts of earlier versions do not mention it.
        if detector == "own" and "haar" in self.box_transforms:
            return self.box_transforms["haar"]
        raise ValueError(
            f"the model's contract has no box transform for detector '{detector}'; available: "
            f"{', '.join(self.box_transforms)}. Convert the run again where that detector is installed"
        )


@dataclass(frozen=True)
class OutputQuantization:
    """How a uint8 output becomes a probability: ``scale * (value - zero_point)``.

    LiteRT.js does not report these numbers, and they differ between files.
    """

    scale: float
    zero_point: int


@dataclass(frozen=True)
class Contract:
    """What every stage after conversion needs to know about a model file.

    Attributes:
        architecture: Name of the network.
        labels: Label names in output order.
        image_size: Side of the square input, pixels.
        crop: Crop convention.
        precision: float32, float16, dynamic or int8, with a suffix for variants.
        quantization: How the file was quantized.
        parameters: Number of weights of the network.
        data: Name of the training data.
        data_fingerprint: sha256 over labels and pixels of the training data.
        split: How the data was divided.
        recipe: Name of the training recipe.
        metrics: What conversion cost; None in a file that was not measured yet.
        versions: Versions of the programs that made the file.
        source_digest: sha256 of the Keras model that the file was made from.
        temperature: Temperature that training divided the logits by, so that a probability matches the accuracy. The weights
            contain it already. None where the probabilities are not calibrated.
        command: The command that made the file; empty where a program made it.
        label_map: Renamed classes of the training data, CLASS=LABEL each.
        unsure_threshold: Below this probability the label is "unsure", 0..1. Chosen on the validation split; None where it
            was not chosen.
        output: How the output becomes a probability; None for a float output, and in a file of an earlier version.
        flatbuffer_sha256: sha256 of the flatbuffer, which is everything before the zip archive; None likewise.
        npu: How the file was compiled for an NPU; None for a file that CPUs run.

    Raises:
        ValueError: If a name cannot be part of a file name, a label cannot be used, or a number is out of range.
    """

    architecture: str
    labels: tuple[str, ...]
    image_size: int
    crop: CropConvention
    precision: str
    quantization: QuantizationSummary
    parameters: int
    data: str
    data_fingerprint: str
    split: SplitSummary
    recipe: str
    metrics: ConversionMetrics | None
    versions: dict[str, str]
    source_digest: str
    temperature: float | None = None
    command: tuple[str, ...] = ()
    label_map: tuple[str, ...] = ()
    unsure_threshold: float | None = None
    output: OutputQuantization | None = None
    flatbuffer_sha256: str | None = None
    npu: NpuSummary | None = None
    contract_version: int = CONTRACT_VERSION

    def __post_init__(self) -> None:
        check_name("the network of a contract", self.architecture)
        check_name("the data of a contract", self.data)
        check_labels(self.labels)
        check_range("the number of labels", len(self.labels), (MIN_LABELS, MAX_LABELS))
        check_range("the image size of a contract", self.image_size, IMAGE_SIZES)
        check_range("the parameters of a contract", self.parameters, (1, 10**10))
        for name in ("temperature", "unsure_threshold"):
            value = getattr(self, name)
            if value is not None:
                check_range(f"the {name} of a contract", value, (0.0, 1.0 if name == "unsure_threshold" else 1000.0))

    def to_json(self) -> str:
        """Return the contract as indented JSON text."""
        return json.dumps(to_data(self), indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Contract":
        """Read a contract from JSON text.

        Raises:
            ModelError: If the text is not a contract of this version.
        """
        try:
            values = json.loads(text)
            if has_control_characters(values):
                raise ModelError("the contract inside the model has a text with control characters. Convert the model again")
            check_classifier(values)
            version = values.get("contract_version") if isinstance(values, dict) else None
            if version != CONTRACT_VERSION:
                raise ModelError(
                    f"the model has contract version {str(version)[:20]}, this fer-edge reads {CONTRACT_VERSION}. Convert the "
                    "model again, or install the fer-edge that made it"
                )
            return from_data(cls, values)
        except ModelError:
            raise
        except (ValueError, OverflowError, RecursionError) as error:
            raise ModelError(f"the contract inside the model is damaged ({error}). Convert the model again") from error


def has_control_characters(values: Any) -> bool:
    """Return whether a key or string of JSON data has a control character."""
    return any(CONTROL_CHARACTERS.search(part) for part in _texts(values))


def check_classifier(values: Any) -> None:
    """Check that JSON data is not the contract of another kind of model.

    Raises:
        ModelError: If it names a kind: only other models than classifiers do.
    """
    kind = values.get("kind") if isinstance(values, dict) else None
    if kind == "face_detector":
        raise ModelError("this model is a face detector, not an expression classifier. Pass it as --detector, not as the model")
    if kind is not None:
        raise ModelError(f"the model has the kind {str(kind)[:30]!a}, which is not an expression classifier")


def _texts(values: Any) -> Iterator[str]:
    """Yield all keys and strings of JSON data."""
    if isinstance(values, str):
        yield values
    elif isinstance(values, dict):
        for key, value in values.items():
            yield key
            yield from _texts(value)
    elif isinstance(values, list):
        for value in values:
            yield from _texts(value)


def check_tflite(path: str | Path, command: str = "fer-edge convert RUN --int8") -> Path:
    """Check that ``path`` is a TFLite flatbuffer, by its first bytes.

    Args:
        path: The .tflite file.
        command: The command that makes such a file, for errors.

    Raises:
        FileNotFoundError: If there is no such file.
        ModelError: If it is not a .tflite file.
    """
    model = Path(path)
    if not model.is_file():
        raise FileNotFoundError(f"no model file '{model}'. Make one: {command}")
    with model.open("rb") as file:
        head = file.read(8)
    if head[4:8] != TFLITE_IDENTIFIER:
        raise ModelError(f"{model} is not a .tflite file (its first bytes are {head!r}). Make one: {command}")
    return model


def read_contract(path: str | Path) -> Contract:
    """Read the contract inside a .tflite file.

    Args:
        path: The .tflite file.

    Raises:
        FileNotFoundError: If there is no such file.
        ModelError: If the file is not a .tflite file, is truncated, or has no contract.
    """
    model = check_tflite(path)
    with model.open("rb") as file:
        return contract_of(file, model)[0]


def contract_of(file: BinaryIO, path: Path) -> tuple[Contract, int]:
    """Read the contract inside an open .tflite file.

    Args:
        file: The file.
        path: Its path, for errors.

    Returns:
        The contract, and the position of the zip archive, which follows the flatbuffer.

    Raises:
        ModelError: If the file is truncated, has no contract, or its labels.txt has other labels.
    """
    try:
        _check_kind(file, path)
        start, (text, labels) = read_archive(file, (CONTRACT_FILE, LABELS_FILE))
    except ModelError:
        raise
    except ValueError as error:
        raise ModelError(
            f"no contract inside {path}: it is truncated, or it was not made by fer-edge ({error}). Convert the run again: "
            "fer-edge convert RUN"
        ) from error
    try:
        contract = Contract.from_json(text)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    if labels.decode(errors="replace").rstrip("\n").split("\n") != list(contract.labels):
        raise ModelError(f"{path}: labels.txt inside the model differs from its contract. Convert the model again")
    return contract, start


def _check_kind(file: BinaryIO, path: Path) -> None:
    """Check the kind before the labels: a detector has none."""
    _, (text,) = read_archive(file, (CONTRACT_FILE,))
    try:
        check_classifier(json.loads(text))
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except (ValueError, RecursionError):
        return  # from_json names the damage
