"""The run folder: what one training leaves for evaluation, conversion and reports. Its format is defined here only."""

import json
import re
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.atomic_write import atomic_path, atomic_write
from fer_edge.artifacts.contract import IMAGE_SIZES, MAX_LABELS, MIN_LABELS, RESOLUTIONS, CropConvention
from fer_edge.artifacts.file_digest import file_digest
from fer_edge.artifacts.keras_model import read_model_labels
from fer_edge.artifacts.metrics import ClassificationMetrics
from fer_edge.artifacts.training_data import DataSummary, SplitIds, SplitSummary, check_labels, check_name, check_range
from fer_edge.artifacts.training_plan import Plan
from fer_edge.artifacts.typed_json import from_data, to_data

MODEL_FILE = "model.keras"
RUN_FILE = "run.json"
DETECTOR_RUN_FILE = "detector.json"
CALIBRATION_FILE = "calibration.npz"
HELD_OUT_FILE = "held_out.npz"
RUN_VERSION = 2
GRAY_LAYER = "to_gray"  # the first layer of model.keras: from RGB 0..255 to one gray channel 0..1

DIGEST = re.compile(r"[0-9a-f]{64}")

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class LoadedWeights:
    """Where initial weights came from.

    Attributes:
        source: ``imagenet``, ``none`` or the path.
        reinitialized_layers: Layers that start from random weights nevertheless.
        note: Why another source was used than requested; None where it was not.
        license: Origin and license of published weights; None for others.
    """

    source: str
    reinitialized_layers: tuple[str, ...] = ()
    note: str | None = None
    license: str | None = None


@dataclass(frozen=True)
class SplitMetrics:
    """The metrics of each split."""

    train: ClassificationMetrics
    validation: ClassificationMetrics
    test: ClassificationMetrics


@dataclass(frozen=True)
class TrainingResults:
    """What a finished training produced.

    Attributes:
        model_digest: sha256 of model.keras.
        history: Metrics per epoch.
        metrics: Metrics per split.
        weights: Where the initial weights came from.
        temperature: Temperature fitted on validation; None without calibration.
        precision: ``float32`` or ``mixed_bfloat16``.
        ema_momentum: Momentum of the moving average of the weights; 0 without.
        averaged_cycles: Number of cycles whose final weights were averaged; None without cycles.
        backend: Keras backend.
        parameters: Number of weights.
        train_seconds: Wall time of training, seconds.
        weights_rounded_to: Type that the weights were stored in for transport; None where they were not.
        trained_with: Versions on the machine that trained it, where that was another one; None otherwise.
        unsure_threshold: Below this probability a label is "unsure", 0..1; chosen on validation. None where it was not chosen.
    """

    model_digest: str
    history: dict[str, tuple[float, ...]]
    metrics: SplitMetrics
    weights: LoadedWeights
    temperature: float | None
    precision: str | None
    ema_momentum: float | None
    averaged_cycles: int | None
    backend: str | None
    parameters: int
    train_seconds: float
    weights_rounded_to: str | None = None
    trained_with: dict[str, str] | None = None
    unsure_threshold: float | None = None


@dataclass(frozen=True)
class RunRecord:
    """The content of run.json.

    Attributes:
        run_version: Version of this format.
        labels: Label names in output order.
        plan: What was to be trained.
        recipe_changes: NAME=VALUE of each setting that differs from the named recipe.
        data: The dataset.
        split: How it was divided.
        ids: The ids of the images in each split.
        versions: Versions of Python and packages.
        written: Time of writing, ISO 8601, UTC.
        command: The command that started the training; empty where a program did.
        results: None until training has finished.
        crop: How the faces were cut out of whole photos; None where the images were face crops.

    Raises:
        ValueError: If the name of the network or of the recipe cannot be part of a file name, a label cannot be used, a number
            is out of range, or the metrics are those of other labels.
    """

    run_version: int
    labels: tuple[str, ...]
    plan: Plan
    recipe_changes: tuple[str, ...]
    data: DataSummary
    split: SplitSummary
    ids: SplitIds
    versions: dict[str, str]
    written: str
    command: tuple[str, ...] = ()
    results: TrainingResults | None = None
    crop: CropConvention | None = None

    def __post_init__(self) -> None:
        check_name("the network of a run", self.plan.network)
        check_name("the recipe of a run", self.plan.recipe.name)
        check_labels(self.labels)
        check_range("the number of labels of a run", len(self.labels), (MIN_LABELS, MAX_LABELS))
        check_range("the image size of a run", self.plan.image_size, IMAGE_SIZES)
        check_range("the resolution of the data of a run", self.data.resolution_px, RESOLUTIONS)
        if self.results is not None:
            _check_results(self.results, self.labels)


def _check_results(results: TrainingResults, labels: tuple[str, ...]) -> None:
    """Check that results are possible, and that their metrics are those of the labels, in this order."""
    if not DIGEST.fullmatch(results.model_digest):
        raise ValueError(f"the digest of {MODEL_FILE} must be 64 hexadecimal digits. Received: {results.model_digest[:80]!a}")
    check_range("the parameters of a run", results.parameters, (1, 10**10))
    if results.temperature is not None:
        check_range("the temperature of a run", results.temperature, (0.0, 1000.0))
    if results.unsure_threshold is not None:
        check_range("the unsure threshold of a run", results.unsure_threshold, (0.0, 1.0))
    for name in ("train", "validation", "test"):
        metrics: ClassificationMetrics = getattr(results.metrics, name)
        if tuple(metrics.per_class) != labels:
            raise ValueError(
                f"its labels are {', '.join(labels)}, but its {name} metrics are of {', '.join(metrics.per_class)}: the labels "
                "were changed after training"
            )
        if [len(row) for row in metrics.confusion] != [len(labels)] * len(labels):
            raise ValueError(f"the confusion of its {name} metrics is not {len(labels)} x {len(labels)}")


@dataclass(frozen=True)
class StoredFaces:
    """Faces in a run folder.

    Attributes:
        images: uint8 arrays (height, width), gray, or (height, width, 3), RGB.
        targets: int64 array (n,), indices into the labels of the run.
    """

    images: tuple[Image, ...]
    targets: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Run:
    """A finished training run.

    Attributes:
        folder: The run folder.
        record: The content of run.json.
        results: The results in it.
        calibration: Distinct training faces for quantization.
        held_out: Test faces, to measure what conversion costs.
    """

    folder: Path
    record: RunRecord
    results: TrainingResults
    calibration: StoredFaces
    held_out: StoredFaces

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names in output order."""
        return self.record.labels

    @property
    def model_path(self) -> Path:
        """Path of the Keras model."""
        return self.folder / MODEL_FILE


def run_name(network: str, recipe: str, data: str, split: SplitSummary, seed: int) -> str:
    """Return the folder name of a run, for example ``mobilenet_v2-ck48-paper-subject_f3of10-s0``.

    Args:
        network: Name of the network.
        recipe: Name of the recipe.
        data: Name of the dataset.
        split: How the dataset is divided.
        seed: Seed of the training.
    """
    fold = "" if split.fold is None else f"_f{split.fold}of{split.folds}"
    return f"{network}-{data}-{recipe}-{split.protocol}{fold}-s{seed}"


def is_run_folder(path: str | Path) -> bool:
    """Return whether ``path`` is a folder with a run.json."""
    return (Path(path) / RUN_FILE).is_file()


def read_run_record(folder: str | Path) -> RunRecord:
    """Read run.json, finished or not.

    Args:
        folder: The run folder.

    Raises:
        FileNotFoundError: If there is no run.json.
        ValueError: If it is damaged or was written by another version.
    """
    path = Path(folder) / RUN_FILE
    if not path.is_file():
        if Path(folder, DETECTOR_RUN_FILE).is_file():
            raise FileNotFoundError(f"'{folder}' is the run of a face detector. Convert it: fer-edge convert detector {folder}")
        raise FileNotFoundError(f"'{folder}' is not a run folder: it has no {RUN_FILE}. Train one: fer-edge train")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        version = data.get("run_version") if isinstance(data, dict) else None
        if version == RUN_VERSION:
            return from_data(RunRecord, data)
    except ValueError as error:  # also what json and utf-8 decoding raise
        raise ValueError(f"{path} is damaged ({error}). Remove the folder and train again") from error
    raise ValueError(f"{path} has version {version}, this fer-edge reads {RUN_VERSION}. Train again")


def read_finished_run(folder: str | Path) -> tuple[RunRecord, TrainingResults]:
    """Read run.json of a finished run and check that model.keras is the model it finished with, with the same labels.

    Args:
        folder: The run folder.

    Returns:
        The record and its results.

    Raises:
        FileNotFoundError: If it is not a run folder or the run has not finished.
        ValueError: If run.json is damaged, its labels were changed, or model.keras is damaged or was replaced.
    """
    record = read_run_record(folder)
    model = Path(folder) / MODEL_FILE
    if record.results is None:
        raise FileNotFoundError(f"the run in '{folder}' has not finished. Finish it: fer-edge train ... --resume")
    if not model.is_file():
        raise FileNotFoundError(f"the run folder '{folder}' lacks {MODEL_FILE}. Train again, or copy the whole folder")
    if file_digest(model) != record.results.model_digest:
        raise ValueError(f"{model} is not the model that this run finished with: it is damaged or was replaced. Train again")
    labels = read_model_labels(model)
    if labels not in (None, record.labels):  # None: written by an earlier version
        raise ValueError(
            f"the labels in {Path(folder) / RUN_FILE} were changed: they are {', '.join(record.labels)}, but those of "
            f"{MODEL_FILE} are {', '.join(labels or ())}. Copy the whole run folder again"
        )
    return record, record.results


def read_run(folder: str | Path) -> Run:
    """Read a finished run and its faces, checked like read_finished_run.

    Args:
        folder: The run folder.

    Raises:
        FileNotFoundError: If it is not a run folder, the run has not finished, or a file is missing.
        ValueError: If a file is damaged or was replaced.
    """
    record, results = read_finished_run(folder)
    path, classes = Path(folder), len(record.labels)
    calibration, held_out = (read_stored_faces(path / name, classes) for name in (CALIBRATION_FILE, HELD_OUT_FILE))
    return Run(path, record, results, calibration, held_out)


def finished_runs(folder: Path) -> list[Path]:
    """Return the run folders inside ``folder`` that have a model, sorted by name."""
    return sorted(path.parent for path in folder.glob(f"*/{RUN_FILE}") if (path.parent / MODEL_FILE).is_file())


def newest_run(runs: Path) -> Path:
    """Return the finished run in the folder ``runs`` that was written last.

    Raises:
        FileNotFoundError: If there is none.
    """
    finished = finished_runs(runs)
    if not finished:
        raise FileNotFoundError(
            f"no finished run in '{runs}'. Train one: fer-edge train cnn --data synthetic; or name one: fer-edge convert RUN"
        )
    return max(finished, key=lambda folder: ((folder / RUN_FILE).stat().st_mtime_ns, folder.name))


def write_run_record(folder: Path, record: RunRecord) -> None:
    """Write run.json as a whole.

    Args:
        folder: The run folder. It is created if it does not exist.
        record: The content.
    """
    atomic_write(folder / RUN_FILE, json.dumps(to_data(record), indent=1))


def write_stored_faces(path: Path, images: Sequence[Image], targets: npt.NDArray[np.int64]) -> None:
    """Write faces at their own resolution: one array where all have one shape, otherwise one array per face.

    Args:
        path: The .npz file.
        images: uint8 arrays (height, width) or (height, width, 3).
        targets: int64 array (n,), indices into the labels.
    """
    content: dict[str, Any] = {"targets": targets}
    if len({image.shape for image in images}) == 1:
        content["images"] = np.stack(images)
    else:
        content |= {f"image_{number:05d}": image for number, image in enumerate(images)}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **content)


def read_stored_faces(path: Path, classes: int) -> StoredFaces:
    """Read faces that write_stored_faces wrote.

    Args:
        path: The .npz file.
        classes: Number of labels of the run.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, or contains something other than faces and their targets.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            targets = content["targets"]
            images = (
                content["images"] if "images" in content.files else [content[f"image_{k:05d}"] for k in range(len(targets))]
            )
            faces = StoredFaces(tuple(images), targets)
        _check_faces(faces, classes)
        return faces
    except FileNotFoundError as error:
        raise FileNotFoundError(f"the run folder lacks {path.name}. Train again, or copy the whole folder") from error
    except (ValueError, TypeError, KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged ({error}). Train again, or copy the run folder again") from error


def _check_faces(faces: StoredFaces, classes: int) -> None:
    targets = faces.targets
    if targets.dtype != np.int64 or targets.shape != (len(faces.images),):
        raise ValueError(
            f"targets must be int64, one per image. Received: {targets.dtype} {targets.shape} for {len(faces.images)} images"
        )
    if len(targets) and not 0 <= targets.min() <= targets.max() < classes:
        raise ValueError(f"targets must be 0 to {classes - 1}. Received: {targets.min()} to {targets.max()}")
    for image in faces.images:
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)) or not image.size:
            raise ValueError(f"images must be uint8, gray or RGB. Received: {image.dtype} {image.shape}")
