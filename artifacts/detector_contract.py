"""The contract of a face detector: what a detector's .tflite file says about itself, stored in it as fer_edge.json.

The network takes gray bytes, image (1, height, width, 1), and returns per stride s a heat map (1, height / s, width / s, 1) of
logits and a geometry map with seven channels. Cell (row, column) describes a face whose center is

    x = (column + 0.5 + channel 0) * s,    y = (row + 0.5 + channel 1) * s    pixels of the input

The side of its square box is 32 * exp(channel 2) pixels. Channels 3 to 6 are the left and the right eye (x, y twice; left in
the image) relative to the center, in box sides. The box follows the convention of OpenCV's Haar cascade.
"""

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from fer_edge.artifacts.check_graph import check_detector_graph
from fer_edge.artifacts.contract import CONTRACT_FILE, ModelError, check_tflite, has_control_characters
from fer_edge.artifacts.graph import GraphError
from fer_edge.artifacts.model_archive import read_archive
from fer_edge.artifacts.model_file import MAX_MODEL_BYTES
from fer_edge.artifacts.training_data import check_name, check_range
from fer_edge.artifacts.typed_json import from_data, to_data

DETECTOR_KIND = "face_detector"
DETECTOR_CONTRACT_VERSION = 1
MAKE_COMMAND = "fer-edge convert detector RUN"
BASE_SIDE_PX = 32.0  # box side for channel 2 = 0, pixels of the input
GEOMETRY_CHANNELS = 7  # offset x, y; log of the side; left eye x, y; right eye x, y
INPUT_SIDES = (16, 2048)  # pixels
STRIDES = (2, 64)


@dataclass(frozen=True)
class DataSource:
    """Images that a detector was trained on.

    Attributes:
        name: Name of the source; in a converted file, the names of all sources with the same license, separated by commas.
        role: ``photos`` (with boxes), ``faces`` (crops of a face) or ``backgrounds`` (without faces).
        images: Number of images used.
        license: Their license, or where it is stated.
        teachers: Detectors that annotated them; empty where the boxes came from a file or are the whole crop.
    """

    name: str
    role: str
    images: int
    license: str
    teachers: tuple[str, ...] = ()


@dataclass(frozen=True)
class DetectionScores:
    """Results on the validation scenes, with one look at each.

    Attributes:
        found: Fraction of the faces that are found, 0..1.
        false_per_image: Detections without a face, per scene.
        iou: Median intersection over union of the found boxes, 0..1.
    """

    found: float
    false_per_image: float
    iou: float


@dataclass(frozen=True)
class DetectorMetrics:
    """What conversion cost.

    Attributes:
        images: Number of validation scenes.
        faces: Number of faces in them.
        before: Results of the Keras model.
        after: Results of the converted file.
    """

    images: int
    faces: int
    before: DetectionScores
    after: DetectionScores


@dataclass(frozen=True)
class DetectorContract:
    """What the runtime needs to know about a detector file.

    Attributes:
        kind: ``face_detector``.
        name: Name of the network, such as detector_nano.
        height: Height of the input, pixels.
        width: Width of the input, pixels.
        strides: Pixels of the input per cell, one per heat map.
        score_threshold: Score from which a candidate is a face, 0..1.
        second_look_threshold: Score from which a candidate is worth a second look, 0..1.
        score_calibration: a and b. The score ``1 / (1 + exp(-(a * logit + b)))`` is the fraction of true faces among the
            candidates with that logit.
        precision: int8 or float32.
        parameters: Number of weights.
        multiply_adds: Multiply-add operations per look.
        data: The training images.
        scenes_seen: Number of scenes in training.
        metrics: What conversion cost; None in a file that was not measured yet.
        versions: Versions of the programs that made the file.
        source_digest: sha256 of the Keras model that the file was made from.
        flatbuffer_sha256: sha256 of the flatbuffer, which is everything before the zip archive; None before it is attached.
        integer_only: Whether the outputs are int8 too, for NPUs. Otherwise they are float32.
        range_percentile: Percentile of the extremes per scene that the int8 ranges cover; None in earlier files.

    Raises:
        ValueError: If a name cannot be part of a file name, a number is out of range, or the strides do not divide the input.
    """

    kind: Literal["face_detector"]
    name: str
    height: int
    width: int
    strides: tuple[int, ...]
    score_threshold: float
    second_look_threshold: float
    score_calibration: tuple[float, float]
    precision: str
    parameters: int
    multiply_adds: int
    data: tuple[DataSource, ...]
    scenes_seen: int
    metrics: DetectorMetrics | None
    versions: dict[str, str]
    source_digest: str
    flatbuffer_sha256: str | None = None
    integer_only: bool = False
    range_percentile: float | None = None
    detector_contract_version: int = DETECTOR_CONTRACT_VERSION

    def __post_init__(self) -> None:
        check_name("the name of a detector", self.name)
        for side in ("height", "width"):
            check_range(f"the {side} of a detector's input", getattr(self, side), INPUT_SIDES)
        check_range("the number of strides of a detector", len(self.strides), (1, 4))
        for stride in self.strides:
            check_range("the stride of a detector", stride, STRIDES)
            if self.height % stride or self.width % stride:
                raise ValueError(f"a stride must divide the input of {self.width}x{self.height} pixels. Received: {stride}")
        check_range("the score threshold of a detector", self.score_threshold, (0.0, 1.0))
        check_range("the second-look threshold of a detector", self.second_look_threshold, (0.0, self.score_threshold))
        slope, shift = self.score_calibration
        check_range("the slope of a score calibration", slope, (0.01, 100.0))
        check_range("the shift of a score calibration", shift, (-100.0, 100.0))

    def to_json(self) -> str:
        """Return the contract as JSON text without spaces: the sources of the images take kilobytes."""
        return json.dumps(to_data(self), separators=(",", ":"), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> "DetectorContract":
        """Read a contract from JSON text.

        Raises:
            ModelError: If the text is not a detector's contract of this version.
        """
        try:
            values = json.loads(text)
            _check_kind(values)
            return from_data(cls, values)
        except ModelError:
            raise
        except (ValueError, OverflowError, RecursionError) as error:
            raise ModelError(f"the contract inside the detector is damaged ({error}). Convert the detector again") from error


@dataclass(frozen=True)
class DetectorFile:
    """A checked detector file.

    Attributes:
        path: Its path.
        contract: Its contract.
        flatbuffer: The bytes before the zip archive.
        sha256: Their digest.
    """

    path: Path
    contract: DetectorContract
    flatbuffer: bytes
    sha256: str


def read_detector_contract(path: str | Path) -> DetectorContract:
    """Read the contract inside a detector file.

    Args:
        path: The .tflite file.

    Raises:
        FileNotFoundError: If there is no such file.
        ModelError: If the file is not a face detector of fer-edge, or is damaged.
    """
    model = check_tflite(path, MAKE_COMMAND)
    with model.open("rb") as file:
        return _contract_of(file, model)[0]


def read_detector_file(path: str | Path) -> DetectorFile:
    """Read and check a detector file.

    Args:
        path: The .tflite file.

    Raises:
        FileNotFoundError: If there is no such file.
        ModelError: If the file is not a face detector of fer-edge, is damaged, differs from its contract, or contains what
            the converters of fer-edge do not write.
    """
    model = check_tflite(path, MAKE_COMMAND)
    size = model.stat().st_size
    if size > MAX_MODEL_BYTES:
        raise ModelError(f"{model} has {size} bytes; the maximum is {MAX_MODEL_BYTES}")
    content = model.read_bytes()
    contract, start = _contract_of(io.BytesIO(content), model)
    flatbuffer = content[:start]
    digest = hashlib.sha256(flatbuffer).hexdigest()
    if contract.flatbuffer_sha256 != digest:
        raise ModelError(
            f"{model} differs from the digest in its contract: it is truncated, damaged or was changed. Copy it again, or "
            "convert the detector again: fer-edge convert detector RUN"
        )
    try:
        check_detector_graph(flatbuffer, contract.height, contract.width, contract.strides, contract.integer_only)
    except GraphError as error:
        raise ModelError(
            f"{model} is damaged, or was not converted by fer-edge ({error}). Convert the detector again: "
            "fer-edge convert detector RUN"
        ) from error
    return DetectorFile(model, contract, flatbuffer, digest)


def _contract_of(file: BinaryIO, path: Path) -> tuple[DetectorContract, int]:
    """Return the contract inside an open .tflite file, and the position of the zip archive."""
    try:
        start, (text,) = read_archive(file, (CONTRACT_FILE,))
    except ValueError as error:
        raise ModelError(
            f"no contract inside {path}: it is truncated, or it is not a face detector of fer-edge ({error}). Convert one: "
            "fer-edge convert detector RUN"
        ) from error
    try:
        return DetectorContract.from_json(text), start
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def _check_kind(values: Any) -> None:
    """Check that JSON data is a detector's contract of this version."""
    if has_control_characters(values):
        raise ModelError("the contract inside the detector has a text with control characters. Convert the detector again")
    if not isinstance(values, dict) or "kind" not in values:
        raise ModelError(
            "this model is an expression classifier, not a face detector. Pass it as --model, and a detector as --detector"
        )
    if values["kind"] != DETECTOR_KIND:
        raise ModelError(f"the model has the kind {str(values['kind'])[:30]!a}; a detector has {DETECTOR_KIND!r}")
    version = values.get("detector_contract_version")
    if version != DETECTOR_CONTRACT_VERSION:
        raise ModelError(
            f"the detector has contract version {str(version)[:20]}, this fer-edge reads {DETECTOR_CONTRACT_VERSION}. Convert "
            "it again, or install the fer-edge that made it"
        )
