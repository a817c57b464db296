"""Distillation: what an ensemble of trained models thinks of each training face becomes part of its label."""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.atomic_write import atomic_path
from fer_edge.artifacts.contract import read_contract
from fer_edge.edge_runtime.classify import Classifier
from fer_edge.edge_runtime.find_model import bundled_models, resolve_model
from fer_edge.train.dataset import FaceDataset
from fer_edge.train.evaluate import Probabilities, keras_probabilities, tflite_probabilities
from fer_edge.train.run_folder import (
    MODEL_FILE,
    check_no_leakage_from_run,
    check_no_leakage_from_tflite,
    file_digest,
    is_model_file,
    read_run_file,
)
from fer_edge.train.splits import Split
from fer_edge.train.temperature import with_temperature

CACHE_FOLDER = ".opinions"
SMALLEST_OPINION = 1 / 1024

Floats = npt.NDArray[np.float32]


def resolve_teacher(teacher: str) -> Path:
    """Return where a teacher lies.

    Args:
        teacher: A run folder, a .tflite file or the name of a model that comes with fer-edge.

    Raises:
        FileNotFoundError: If it is not there.
    """
    path = resolve_model(teacher)
    if not path.exists():
        raise FileNotFoundError(
            f"no teacher '{teacher}'. Give a run folder, a .tflite file, or a model that comes with fer-edge: "
            f"{', '.join(bundled_models())}"
        )
    return path


def check_teachers(teachers: Sequence[str], faces: FaceDataset, split: Split) -> None:
    """Check that models can teach: finished, of the same labels, and without a look at the faces that will be reported.

    Args:
        teachers: Run folders, .tflite files and names of models that come with fer-edge.
        faces: The dataset.
        split: Its division.

    Raises:
        FileNotFoundError: If one is not there, or no finished run.
        ModelError: If one is a .tflite file, but not of fer-edge.
        ValueError: If one has other labels, or was trained on validation or test faces of this split.
    """
    for teacher in teachers:
        told, path = f"the teacher '{teacher}'", resolve_teacher(teacher)
        if is_model_file(path):
            contract = read_contract(path)
            labels = contract.labels
            check_no_leakage_from_tflite(contract, told, faces, split)
        else:
            run = read_run_file(path)
            if not run["finished"]:
                raise FileNotFoundError(f"{told} is not finished. Finish it: fer-edge train ... --resume")
            labels = tuple(run["labels"])
            check_no_leakage_from_run(run, told, faces, split)
        if labels != faces.labels:
            apart = [
                f"{who} {', '.join(sorted(more))}"
                for who, more in (
                    ("the teacher lacks", set(faces.labels) - set(labels)),
                    ("the data lacks", set(labels) - set(faces.labels)),
                )
                if more
            ]
            raise ValueError(
                f"{told} knows {', '.join(labels)}, the data has {', '.join(faces.labels)}: {'; '.join(apart)}. "
                "Take a teacher of the same labels; --map drops or renames what the data has beyond them"
            )


def teacher_labels(
    teachers: Sequence[str], faces: FaceDataset, chosen: npt.NDArray[np.intp], temperature: float, cache: Path
) -> Floats:
    """Return the teachers' mean probabilities, softened.

    Args:
        teachers: Run folders, .tflite files and names of models that come with fer-edge.
        faces: The dataset.
        chosen: Indices of the faces to judge.
        temperature: Above 1 softens: teachers are too sure of faces that they were trained on.
        cache: Folder for what each teacher thinks of the dataset; it is asked once.

    Returns:
        float32 array (len(chosen), classes).
    """
    opinions: list[Floats] = [
        with_temperature(_opinion(resolve_model(teacher), faces, cache)[chosen], temperature) for teacher in teachers
    ]
    return np.asarray(np.stack(opinions).mean(axis=0), np.float32)


def _opinion(teacher: Path, faces: FaceDataset, cache: Path) -> Floats:
    """Return a teacher's probabilities for every face of a dataset, the mean over the face and its mirror image."""
    path = cache / CACHE_FOLDER / f"{_model_digest(teacher)[:16]}-{_order(faces)}.npy"
    if path.is_file():
        return np.asarray(np.load(path), np.float32)
    mirrored = dataclasses.replace(faces, images=tuple(np.ascontiguousarray(image[:, ::-1]) for image in faces.images))
    judge = _judge(teacher)
    opinion = judge(faces) + judge(mirrored)
    opinion /= 2
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, opinion)
    return opinion


def _model_digest(teacher: Path) -> str:
    if is_model_file(teacher):
        return file_digest(teacher)
    return str(read_run_file(teacher)["model_digest"])


def _judge(teacher: Path) -> Callable[[FaceDataset], Probabilities]:
    """Return what gives a teacher's probabilities of faces."""
    if is_model_file(teacher):
        classifier = Classifier(teacher)
        (output,) = classifier.interpreter.get_output_details()
        # What an output of 256 steps rounds to 0 lies between 0 and half a step; softening tells 0 and that apart.
        smallest = SMALLEST_OPINION if output["dtype"] == np.uint8 else 0.0
        return lambda those: tflite_probabilities(classifier, those).clip(min=smallest)
    import keras

    resolution = read_run_file(teacher)["data"]["resolution_px"]
    model = keras.models.load_model(teacher / MODEL_FILE, compile=False)
    return partial(keras_probabilities, model, training_resolution_px=resolution)


def _order(faces: FaceDataset) -> str:
    """Return a digest of the pictures in their order, which the fingerprint leaves out."""
    return hashlib.sha256("".join(faces.digests).encode()).hexdigest()[:16]
