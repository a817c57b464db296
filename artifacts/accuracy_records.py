"""Records of accuracy: one JSON line per training run and per evaluation, appended and never changed."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fer_edge.artifacts.metrics import ClassificationMetrics, VoteMetrics
from fer_edge.artifacts.run_folder import TrainingResults
from fer_edge.artifacts.training_data import PhotoSummary, SplitSummary
from fer_edge.artifacts.training_plan import Plan
from fer_edge.artifacts.typed_json import from_data


@dataclass(frozen=True)
class ConvertedFile:
    """What a training record keeps of one .tflite file of the run.

    Attributes:
        file_bytes: Size, bytes.
        faces: Number of held-out faces it was measured on.
        agreement: Fraction of them with the Keras model's label, 0..1.
        accuracy_before: Accuracy of the Keras model on them, 0..1.
        accuracy_after: Accuracy of the file on them, 0..1.
        recall_before: Recall per label of the Keras model; None for a label without faces.
        recall_after: Recall per label of the file; None likewise.
    """

    file_bytes: int
    faces: int
    agreement: float
    accuracy_before: float
    accuracy_after: float
    recall_before: dict[str, float | None]
    recall_after: dict[str, float | None]


@dataclass(frozen=True)
class TrainingRecord:
    """One finished training run, without image ids and history.

    Paths are reduced to names: where files are is the user's business.

    Attributes:
        kind: ``training``.
        plan: What was trained.
        recipe_changes: NAME=VALUE of each setting that differs from the named recipe.
        data: Name of the dataset.
        data_fingerprint: sha256 over its labels and pixels.
        label_map: Renamed classes, CLASS=LABEL each.
        split: How it was divided.
        versions: Versions of Python and packages.
        command: The command that started it; empty where a program did.
        results: Metrics and more; the history is empty.
        converted: The .tflite files of the run, by precision.
    """

    kind: Literal["training"]
    plan: Plan
    recipe_changes: tuple[str, ...]
    data: str
    data_fingerprint: str
    label_map: tuple[str, ...]
    split: SplitSummary
    versions: dict[str, str]
    command: tuple[str, ...]
    results: TrainingResults
    converted: dict[str, ConvertedFile]


@dataclass(frozen=True)
class EvaluationRecord:
    """One model measured on one split of one dataset.

    Attributes:
        kind: ``evaluation``.
        model: Name of the run folder or file.
        title: Network and precision, for tables.
        network: Name of the network, or ``ensemble``.
        precision: ``keras``, or the precision of the file.
        digest: sha256 of its Keras model; for an ensemble all of them, joined by ``+``; None where unknown.
        trained_on: Name of the training data.
        data: Name of the dataset.
        protocol: How the dataset was divided, such as ``official`` or ``subject 3/10``; ``all`` for every face.
        split: ``train``, ``validation``, ``test``, ``private_test`` or ``all``.
        warning: What inflates the metrics; None where nothing is known to.
        dropped: Number of faces whose label the model does not know.
        metrics: The metrics.
        duplicates_in_training: Faces with a pixel-identical copy in training; None where that does not apply.
        accuracy_without_duplicates: Accuracy without these faces; None likewise.
        votes: Agreement with the annotators; None where the faces have no votes.
        photos: How faces were cut out of photos, over the whole dataset; None where the images were face crops.
        views: 2 if the probabilities are the mean over each face and its mirror image, otherwise 1.
    """

    kind: Literal["evaluation"]
    model: str
    title: str
    network: str
    precision: str
    digest: str | None
    trained_on: str
    data: str
    protocol: str
    split: str
    warning: str | None
    dropped: int
    metrics: ClassificationMetrics
    duplicates_in_training: int | None
    accuracy_without_duplicates: float | None
    votes: VoteMetrics | None = None
    photos: PhotoSummary | None = None
    views: int = 1

    @property
    def classes(self) -> tuple[str, ...]:
        """Label names in output order."""
        return tuple(self.metrics.per_class)

    @property
    def split_title(self) -> str:
        """Protocol and split for tables: ``official test``, or ``all`` for every face."""
        return self.protocol if self.protocol == self.split else f"{self.protocol} {self.split}"


def read_accuracy_records(path: Path) -> tuple[list[TrainingRecord], list[EvaluationRecord]]:
    """Read a JSON-lines file of training and evaluation records.

    Args:
        path: The file. A missing file has no records.

    Returns:
        All training records and all evaluation records, in the order of the file.

    Raises:
        ValueError: If a line is not such a record. The error names the line.
    """
    trainings: list[TrainingRecord] = []
    evaluations: list[EvaluationRecord] = []
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    for number, line in enumerate(lines, start=1):
        try:
            data = json.loads(line)
            if isinstance(data, dict) and data.get("kind") == "evaluation":
                evaluations.append(from_data(EvaluationRecord, data))
            else:
                trainings.append(from_data(TrainingRecord, data))
        except ValueError as error:  # json.JSONDecodeError is one
            raise ValueError(f"line {number} of {path} is not an accuracy record ({error})") from error
    return trainings, evaluations
