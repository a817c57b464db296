"""The contract: what a .tflite file says about itself, stored inside the file as fer_edge.json."""

import json
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from fer_edge.artifacts.conversion import ConversionMetrics, QuantizationSummary
from fer_edge.artifacts.training_data import SplitSummary, check_labels, check_name
from fer_edge.artifacts.typed_json import from_data, to_data

CANONICAL_LABELS = ("angry", "contempt", "disgust", "fear", "happy", "neutral", "sad", "surprise")
CONTRACT_FILE = "fer_edge.json"
LABELS_FILE = "labels.txt"
CONTRACT_VERSION = 2
TFLITE_IDENTIFIER = b"TFL3"  # bytes 4..8 of every TFLite flatbuffer


class ModelError(ValueError):
    """A model file that cannot be used: truncated, made by another tool, or with another contract."""


@dataclass(frozen=True)
class BoxTransform:
    """Where the training crop is, relative to a detector's box.

    Attributes:
        scale: Side of the crop as a multiple of the longer side of the box.
        shift_x: Shift of the crop's center to the right, in box widths.
        shift_y: Shift of the crop's center downwards, in box heights.
    """

    scale: float = 1.0
    shift_x: float = 0.0
    shift_y: float = 0.0


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
    """

    convention: str = "haar"
    training_resolution_px: int = 48
    box_transforms: dict[str, BoxTransform] = field(default_factory=lambda: dict(BOX_TRANSFORMS))


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

    Raises:
        ValueError: If a name cannot be part of a file name, or a label cannot be used.
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
    contract_version: int = CONTRACT_VERSION

    def __post_init__(self) -> None:
        check_name("the network of a contract", self.architecture)
        check_name("the data of a contract", self.data)
        check_labels(self.labels)

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
            version = values.get("contract_version") if isinstance(values, dict) else None
            if version != CONTRACT_VERSION:
                raise ModelError(
                    f"the model has contract version {version}, this fer-edge reads {CONTRACT_VERSION}. Convert the model "
                    "again, or install the fer-edge that made it"
                )
            return from_data(cls, values)
        except ModelError:
            raise
        except ValueError as error:
            raise ModelError(f"the contract inside the model is damaged ({error}). Convert the model again") from error


def check_tflite(path: str | Path) -> Path:
    """Check that ``path`` is a TFLite flatbuffer, by its first bytes.

    Raises:
        FileNotFoundError: If there is no such file.
        ModelError: If it is not a .tflite file.
    """
    model = Path(path)
    if not model.is_file():
        raise FileNotFoundError(f"no model file '{model}'. Make one: fer-edge convert RUN --int8")
    with model.open("rb") as file:
        head = file.read(8)
    if head[4:8] != TFLITE_IDENTIFIER:
        raise ModelError(f"{model} is not a .tflite file (its first bytes are {head!r}). Convert a run: fer-edge convert RUN")
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
    try:
        with zipfile.ZipFile(model) as archive:
            text = archive.read(CONTRACT_FILE)
    except (zipfile.BadZipFile, KeyError, zlib.error) as error:
        raise ModelError(
            f"no contract inside {model}: it is truncated, or it was not made by fer-edge. Convert the run again: "
            "fer-edge convert RUN"
        ) from error
    try:
        return Contract.from_json(text)
    except ModelError as error:
        raise ModelError(f"{model}: {error}") from error
