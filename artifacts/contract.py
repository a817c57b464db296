"""The contract: what a .tflite file says about itself, carried inside the file as fer_edge.json."""

import dataclasses
import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CANONICAL_LABELS = ("angry", "contempt", "disgust", "fear", "happy", "neutral", "sad", "surprise")
CONTRACT_FILE = "fer_edge.json"
LABELS_FILE = "labels.txt"
CONTRACT_VERSION = 1
TFLITE_IDENTIFIER = b"TFL3"  # bytes 4..8 of every TFLite flatbuffer


class ModelError(ValueError):
    """A model file that cannot be used: truncated, of another maker, or of another contract."""


@dataclass(frozen=True)
class BoxTransform:
    """Where the training crop lies relative to a detector's box.

    Attributes:
        scale: Side of the crop as a multiple of the longer side of the detector's box.
        shift_x: Shift of the crop's centre to the right, in box widths.
        shift_y: Shift of the crop's centre downwards, in box heights.
    """

    scale: float = 1.0
    shift_x: float = 0.0
    shift_y: float = 0.0


# For contracts of faces that no detector was run on. FER2013 and CK+48 faces were cut by OpenCV's Haar box, so that box is
# the crop; BlazeFace draws a tighter and lower one. Measured with box_transform.py on 800 FER2013 training faces (seed 0;
# benchmarks/results/live.jsonl): BlazeFace found 693, median scale 1.151 (quartiles 0.20 apart), shift_y -0.102 (0.074);
# YuNet 686, 0.976 (0.17) and -0.042 (0.049). Data sets differ: on 256 CK+48 faces BlazeFace's is 1.143 and -0.155, and with
# the wrong one of the two, 3 points of accuracy were lost.
BOX_TRANSFORMS = {
    "haar": BoxTransform(),
    "blazeface": BoxTransform(scale=1.151, shift_y=-0.102),
    "yunet": BoxTransform(scale=0.976, shift_y=-0.042),
}


@dataclass(frozen=True)
class CropConvention:
    """How a face is cut and brought to size, so that the edge sees what training saw.

    Attributes:
        convention: Name of the box the training faces were cut by.
        training_resolution_px: Side of the training faces. A larger crop is first brought down to it, because the
            network never saw sharper faces.
        box_transforms: Box transform per detector name.
    """

    convention: str = "haar"
    training_resolution_px: int = 48
    box_transforms: dict[str, BoxTransform] = field(default_factory=lambda: dict(BOX_TRANSFORMS))


@dataclass(frozen=True)
class Contract:
    """What every stage after conversion needs to know about a model file.

    Attributes:
        architecture: Network name.
        labels: Label names in output order.
        image_size: Side of the square input, pixels.
        crop: Crop convention.
        precision: float32, float16, dynamic or int8.
        quantization: The quantisation recipe as plain data.
        parameters: Number of weights of the network.
        data: Name of the training data.
        data_fingerprint: sha256 over labels and content of the training data's pictures.
        split: Name, seed, fold, folds, number of images per part, digest of the training ids, leakage.
        recipe: Name of the training recipe.
        metrics: Accuracy, per-class recall and expected calibration error before and after conversion, agreement.
        versions: Versions of what made the file.
        source_digest: sha256 of the Keras model that the file was made from.
        temperature: By what training divided the logits, so that a probability is the share of right answers; it is in
            the weights already. None where the probabilities are not calibrated.
    """

    architecture: str
    labels: tuple[str, ...]
    image_size: int
    crop: CropConvention
    precision: str
    quantization: dict[str, Any]
    parameters: int
    data: str
    data_fingerprint: str
    split: dict[str, Any]
    recipe: str
    metrics: dict[str, Any]
    versions: dict[str, str]
    source_digest: str
    temperature: float | None = None
    contract_version: int = CONTRACT_VERSION

    def to_json(self) -> str:
        """Return the contract as indented JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Contract":
        """Read a contract from JSON text.

        Raises:
            ModelError: If the text is no contract of this version.
        """
        try:
            values = json.loads(text)
            if values["contract_version"] != CONTRACT_VERSION:
                raise ModelError(
                    f"contract version {values['contract_version']} is not {CONTRACT_VERSION}, the one this fer-edge "
                    "reads. Convert the model again, or install the fer-edge that made it"
                )
            crop = values["crop"]
            transforms = {name: BoxTransform(**numbers) for name, numbers in crop["box_transforms"].items()}
            values["crop"] = CropConvention(**{**crop, "box_transforms": transforms})
            values["labels"] = tuple(values["labels"])
            contract = cls(**values)
        except (KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ModelError(f"the contract inside the model is damaged ({error!r}). Convert the model again") from error
        return contract


def check_tflite(path: str | Path) -> Path:
    """Check that ``path`` is a file that begins as a TFLite flatbuffer does.

    Raises:
        FileNotFoundError: If there is no such file.
        ModelError: If it is something else than a .tflite file.
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
        ModelError: If the file is no .tflite, is truncated, or holds no contract.
    """
    model = check_tflite(path)
    try:
        with zipfile.ZipFile(model) as archive:
            text = archive.read(CONTRACT_FILE)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ModelError(
            f"no contract inside {model}: it is truncated, or it was not made by fer-edge. Convert the run again: "
            "fer-edge convert RUN"
        ) from error
    return Contract.from_json(text)
