"""Open a run, a .keras file or a .tflite file as one kind of thing: faces in, probabilities out."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fer_edge.edge_runtime.classify import Classifier
from fer_edge.train.evaluate import Probabilities, Progress, keras_probabilities, measure, tflite_probabilities
from fer_edge.train.faces import Faces
from fer_edge.train.run_folder import MODEL_FILE, read_run_file
from fer_edge.train.selection import Selection, TrainedOn, select_faces


@dataclass(frozen=True)
class OpenModel:
    """A model that can be measured.

    Attributes:
        title: Network and precision, for tables.
        trained: What it was trained on.
        probabilities: From faces to float32 (n, classes).
    """

    title: str
    trained: TrainedOn
    probabilities: Callable[[Faces, Progress | None], Probabilities]


def is_keras(path: str | Path) -> bool:
    """Return whether opening ``path`` needs keras: a run folder or a .keras file."""
    return Path(path).is_dir() or Path(path).suffix == ".keras"


def open_model(path: str | Path) -> OpenModel:
    """Open a run folder, the model.keras inside it, or a .tflite file.

    Raises:
        FileNotFoundError: If there is none, or the run is not finished.
        ValueError: If the file cannot be used.
    """
    if not is_keras(path):
        classifier = Classifier(path)
        contract = classifier.contract
        trained = TrainedOn(contract.labels, contract.data, contract.data_fingerprint, contract.split)
        return OpenModel(
            f"{contract.architecture} {contract.precision}",
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
    trained = TrainedOn(tuple(run["labels"]), data["name"], data["fingerprint"], run["split"])
    return OpenModel(
        f"{run['network']} keras",
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
    selection: Selection
    probabilities: Probabilities
    figures: dict[str, Any]


def evaluate_model(
    path: str | Path,
    faces: Faces,
    split_name: str | None = None,
    part: str = "test",
    seed: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure a run or a .tflite file.

    Args:
        path: Run folder or .tflite file.
        faces: The whole dataset.
        split_name: See select_faces.
        part: See select_faces.
        seed: See select_faces.
        progress: Called with (faces done, faces in all).

    Returns:
        The figures of ``measure``, and with them model, title, data, split, part, trained_on, warning,
        duplicates_in_training (test faces that stand in training pixel for pixel) and accuracy_without_duplicates;
        the last two are None where they do not apply.

    Raises:
        FileNotFoundError: If the model does not exist or is not finished.
        ValueError: If the model or the selection cannot be used.
    """
    model = open_model(path)
    chosen = select_faces(faces, model.trained, split_name, part, seed)
    probabilities = model.probabilities(chosen.faces, progress)
    targets, labels, distinct = chosen.faces.targets, chosen.faces.labels, chosen.distinct
    without = None
    if distinct is not None and distinct.any():
        without = float((probabilities[distinct].argmax(axis=1) == targets[distinct]).mean())
    figures = {
        "model": str(path),
        "title": model.title,
        "data": faces.name,
        "split": chosen.split_title,
        "part": chosen.part,
        "trained_on": model.trained.data,
        "warning": chosen.warning,
        "dropped": chosen.dropped,
        **measure(probabilities, targets, labels),
        "duplicates_in_training": None if distinct is None else int((~distinct).sum()),
        "accuracy_without_duplicates": without,
    }
    return Evaluation(model.title, chosen, probabilities, figures)
