"""Open a run, a .keras file or a .tflite file as one kind of thing: faces in, probabilities out."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fer_edge.edge_runtime.classify import Classifier
from fer_edge.train.evaluate import Probabilities, Progress, keras_probabilities, tflite_probabilities
from fer_edge.train.faces import Faces
from fer_edge.train.run_folder import MODEL_FILE, RUN_FILE
from fer_edge.train.selection import TrainedOn


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
        trained = TrainedOn(
            contract.labels, contract.data, contract.data_fingerprint, contract.split, contract.crop.training_resolution_px
        )
        return OpenModel(
            f"{contract.architecture} {contract.precision}",
            trained,
            lambda faces, progress: tflite_probabilities(classifier, faces, progress),
        )
    folder = Path(path) if Path(path).is_dir() else Path(path).parent
    if not (folder / RUN_FILE).is_file():
        raise FileNotFoundError(f"'{path}' is no run folder and lies in none: no {RUN_FILE}. Train one: fer-edge train")
    run = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    if not run["finished"]:
        raise FileNotFoundError(f"the run in '{folder}' is not finished. Finish it: fer-edge train ... --resume")
    import keras

    model = keras.models.load_model(folder / MODEL_FILE, compile=False)
    data = run["data"]
    trained = TrainedOn(tuple(run["labels"]), data["name"], data["fingerprint"], run["split"], data["resolution_px"])
    return OpenModel(
        f"{run['network']} keras",
        trained,
        lambda faces, progress: keras_probabilities(model, faces, data["resolution_px"], progress),
    )
