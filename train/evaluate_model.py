"""Open a run, a .keras file or a .tflite file as one kind of thing: faces in, probabilities out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fer_edge.edge_runtime.classify import Classifier
from fer_edge.train.dataset import FaceDataset
from fer_edge.train.evaluate import (
    SMALLEST_PROBABILITY,
    Probabilities,
    Progress,
    keras_probabilities,
    measure,
    tflite_probabilities,
)
from fer_edge.train.evaluation_set import EvaluationSet, TrainingProvenance, select_faces
from fer_edge.train.run_folder import MODEL_FILE, read_run_file


@dataclass(frozen=True)
class LoadedModel:
    """A model that can be measured.

    Attributes:
        network: Name of the network.
        precision: ``keras``, or that of the .tflite file.
        digest: sha256 of the Keras model that it is or was made from.
        trained: What it was trained on.
        probabilities: From faces to float32 (n, classes).
    """

    network: str
    precision: str
    digest: str
    trained: TrainingProvenance
    probabilities: Callable[[FaceDataset, Progress | None], Probabilities]

    @property
    def title(self) -> str:
        """Network and precision, for tables."""
        return f"{self.network} {self.precision}"


def is_keras(path: str | Path) -> bool:
    """Return whether opening ``path`` needs keras: a run folder or a .keras file."""
    return Path(path).is_dir() or Path(path).suffix == ".keras"


def open_model(path: str | Path) -> LoadedModel:
    """Open a run folder, the model.keras inside it, or a .tflite file.

    Raises:
        FileNotFoundError: If there is none, or the run is not finished.
        ValueError: If the file cannot be used.
    """
    if not is_keras(path):
        classifier = Classifier(path)
        contract = classifier.contract
        trained = TrainingProvenance(contract.labels, contract.data, contract.data_fingerprint, contract.split)
        return LoadedModel(
            contract.architecture,
            contract.precision,
            contract.source_digest,
            trained,
            lambda faces, progress: tflite_probabilities(classifier, faces, progress),
        )
    folder = Path(path) if Path(path).is_dir() else Path(path).parent
    if Path(path) not in (folder, folder / MODEL_FILE):
        raise ValueError(f"'{path}' is not the {MODEL_FILE} of a run folder. Give the run folder itself")
    run = read_run_file(folder)
    if not run["finished"]:
        raise FileNotFoundError(f"the run in '{folder}' is not finished. Finish it: fer-edge train ... --resume")
    import keras

    model = keras.models.load_model(folder / MODEL_FILE, compile=False)
    data = run["data"]
    trained = TrainingProvenance(tuple(run["labels"]), data["name"], data["fingerprint"], run["split"])
    return LoadedModel(
        run["network"],
        "keras",
        run["model_digest"],
        trained,
        lambda faces, progress: keras_probabilities(model, faces, data["resolution_px"], progress),
    )


@dataclass(frozen=True)
class Evaluation:
    """One model measured on one part of one dataset.

    Attributes:
        title: Network and precision.
        selection: The faces and what is to be said of them.
        probabilities: float32 array (n, classes).
        figures: What was measured, as plain data: see evaluate_model.
    """

    title: str
    selection: EvaluationSet
    probabilities: Probabilities
    figures: dict[str, Any]


def evaluate_model(
    path: str | Path,
    faces: FaceDataset,
    split_name: str | None = None,
    part: str = "test",
    seed: int | None = None,
    progress: Progress | None = None,
    shared_classes: bool = False,
) -> Evaluation:
    """Measure a run or a .tflite file.

    Args:
        path: Run folder or .tflite file.
        faces: The whole dataset.
        split_name: See select_faces.
        part: See select_faces.
        seed: See select_faces.
        progress: Called with (faces done, faces in all).
        shared_classes: Leave out the classes that the data does not have, as if the model did not know them.

    Returns:
        The figures of ``measure``, and with them model, title, network, precision, digest (sha256 of the Keras model), data,
        split, part, trained_on, classes, warning, duplicates_in_training (test faces that stand in training pixel for
        pixel) and accuracy_without_duplicates; the last two are None where they do not apply.

    Raises:
        FileNotFoundError: If the model does not exist or is not finished.
        ValueError: If the model or the selection cannot be used.
    """
    model = open_model(path)
    chosen = select_faces(faces, model.trained, split_name, part, seed)
    probabilities = model.probabilities(chosen.faces, progress)
    if shared_classes:
        labels = tuple(label for label in model.trained.labels if label in faces.labels)
        probabilities = probabilities[:, [model.trained.labels.index(label) for label in labels]]
        probabilities = probabilities / np.maximum(probabilities.sum(axis=1, keepdims=True), SMALLEST_PROBABILITY)
        chosen = replace(chosen, faces=chosen.faces.with_labels(labels))
    about = {
        "model": str(path),
        "title": model.title,
        "network": model.network,
        "precision": model.precision,
        "digest": model.digest,
        "trained_on": model.trained.data,
    }
    return Evaluation(model.title, chosen, probabilities, about | _figures(faces.name, chosen, probabilities))


def evaluate_ensemble(members: Sequence[Evaluation]) -> Evaluation:
    """Measure what several models say together: the mean of their probabilities. Its digest names those of all, with ``+``.

    Args:
        members: Evaluations of the same faces.

    Raises:
        ValueError: If there are fewer than two, or they differ in faces or labels.
    """
    if len(members) < 2:
        raise ValueError(f"an ensemble needs at least two models. Received: {len(members)}")
    first = members[0].selection
    for member in members[1:]:
        other = member.selection.faces
        if (other.ids, other.labels) != (first.faces.ids, first.faces.labels):
            raise ValueError(
                f"'{member.figures['model']}' was measured on other faces or labels than '{members[0].figures['model']}', so "
                "they make no ensemble. Take models of one data set and split, or pass --split and --seed"
            )
    probabilities = np.asarray(np.stack([member.probabilities for member in members]).mean(axis=0), np.float32)
    warnings = {member.selection.warning for member in members}
    chosen = replace(first, warning="; ".join(sorted(warning for warning in warnings if warning)) or None)
    title = f"ensemble of {len(members)}"
    about = {
        "model": " + ".join(member.title for member in members),
        "title": title,
        "network": "ensemble",
        "precision": "+".join(sorted({member.figures["precision"] for member in members})),
        "digest": "+".join(member.figures["digest"] for member in members),
        "trained_on": "+".join(sorted({member.figures["trained_on"] for member in members})),
    }
    return Evaluation(title, chosen, probabilities, about | _figures(members[0].figures["data"], chosen, probabilities))


def _figures(data: str, chosen: EvaluationSet, probabilities: Probabilities) -> dict[str, Any]:
    targets, labels, distinct = chosen.faces.targets, chosen.faces.labels, chosen.distinct
    without = None
    if distinct is not None and distinct.any():
        without = float((probabilities[distinct].argmax(axis=1) == targets[distinct]).mean())
    return {
        "data": data,
        "split": chosen.split_title,
        "part": chosen.part,
        "classes": list(labels),
        "warning": chosen.warning,
        "dropped": chosen.dropped,
        **measure(probabilities, targets, labels),
        "duplicates_in_training": None if distinct is None else int((~distinct).sum()),
        "accuracy_without_duplicates": without,
    }
