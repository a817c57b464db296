"""Distillation: the mean probabilities of trained models, the teachers, become part of each training label."""

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.atomic_write import atomic_path
from fer_edge.artifacts.contract import read_contract
from fer_edge.artifacts.file_digest import file_digest
from fer_edge.artifacts.keras_model import load_keras_model
from fer_edge.artifacts.run_folder import MODEL_FILE, read_finished_run
from fer_edge.artifacts.training_plan import CLEAN, SAME, Plan
from fer_edge.edge_runtime.batch_predict import Probabilities, classify_faces
from fer_edge.edge_runtime.classify import Classifier
from fer_edge.edge_runtime.find_model import bundled_models, resolve_model
from fer_edge.train.dataset import FaceDataset
from fer_edge.train.model_source import check_no_leakage_from_run, check_no_leakage_from_tflite, is_tflite
from fer_edge.train.predict import keras_probabilities
from fer_edge.train.splits import Split
from fer_edge.train.teacher_views import check_views, header_of, is_views_file
from fer_edge.train.temperature import with_temperature

CACHE_FOLDER = ".teacher_cache"
# An output of 256 steps rounds every probability below half a step to 0. Softening needs a value in between.
MIN_QUANTIZED_PROBABILITY = 1 / 1024


def resolve_teacher(teacher: str) -> Path:
    """Return the path of a teacher.

    Args:
        teacher: A run folder, a .tflite file, the name of a bundled model, or a file of outputs for views.

    Raises:
        FileNotFoundError: If it does not exist.
    """
    path = resolve_model(teacher)
    if not path.exists():
        raise FileNotFoundError(
            f"no teacher '{teacher}'. Give a run folder, a .tflite file, or a bundled model: {', '.join(bundled_models())}"
        )
    return path


def check_teachers(plan: Plan, faces: FaceDataset, split: Split) -> None:
    """Check that models can teach: finished, with the labels of the data, and not trained on held-out faces.

    Args:
        plan: It names the teachers: run folders, .tflite files, bundled models, or a file of their outputs for views.
        faces: The dataset.
        split: Its division.

    Raises:
        FileNotFoundError: If a teacher does not exist, is not a run folder, or has not finished.
        ModelError: If it is a .tflite file that was not made by fer-edge.
        ValueError: If it has other labels, was trained on validation or test faces of this split, or was replaced; or if a
            file of outputs is of other faces or views.
    """
    if plan.teacher_views not in (CLEAN, SAME):
        expected = header_of(faces, split, plan.recipe.augmentation, plan.image_size, int(plan.teacher_views))
    for teacher in plan.teachers:
        description, path = f"the teacher '{teacher}'", resolve_teacher(teacher)
        if is_views_file(path):
            check_views(path, expected)
            continue
        if is_tflite(path):
            contract = read_contract(path)
            labels = contract.labels
            check_no_leakage_from_tflite(contract, description, faces, split)
        else:
            run, _ = read_finished_run(path)
            labels = run.labels
            check_no_leakage_from_run(run, description, faces, split)
        if labels != faces.labels:
            missing = (
                ("the teacher lacks", set(faces.labels) - set(labels)),
                ("the data lacks", set(labels) - set(faces.labels)),
            )
            differences = "; ".join(f"{where} {', '.join(sorted(names))}" for where, names in missing if names)
            raise ValueError(
                f"{description} has the labels {', '.join(labels)}, the data has {', '.join(faces.labels)}: {differences}. "
                "Use a teacher with the labels of the data; --map drops or renames classes of the data"
            )


def teacher_labels(
    teachers: Sequence[str], faces: FaceDataset, chosen: npt.NDArray[np.intp], temperature: float, cache: Path
) -> Probabilities:
    """Return the teachers' mean probabilities, softened.

    Args:
        teachers: Run folders, .tflite files and names of bundled models.
        faces: The dataset.
        chosen: Indices of the faces to classify.
        temperature: Above 1 softens the probabilities: teachers are too confident about their own training faces.
        cache: Folder for each teacher's probabilities, which are computed once per dataset.

    Returns:
        float32 array (len(chosen), classes), 0..1.
    """
    probabilities = [
        with_temperature(_teacher_probabilities(resolve_model(teacher), faces, cache)[chosen], temperature)
        for teacher in teachers
    ]
    return np.asarray(np.stack(probabilities).mean(axis=0), np.float32)


def _teacher_probabilities(teacher: Path, faces: FaceDataset, cache: Path) -> Probabilities:
    """Return a teacher's probabilities for all faces of a dataset: the mean over each face and its mirror image."""
    path = cache / CACHE_FOLDER / f"{_model_digest(teacher)[:16]}-{_order_digest(faces)}.npy"
    if path.is_file():
        return np.asarray(np.load(path), np.float32)
    classify = _load_teacher(teacher)
    probabilities = np.asarray((classify(faces) + classify(faces.mirrored())) / 2, np.float32)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, probabilities)
    return probabilities


def _model_digest(teacher: Path) -> str:
    return file_digest(teacher) if is_tflite(teacher) else read_finished_run(teacher)[1].model_digest


def _load_teacher(teacher: Path) -> Callable[[FaceDataset], Probabilities]:
    """Return a function from faces to a teacher's probabilities."""
    if is_tflite(teacher):
        classifier = Classifier(teacher)
        (output,) = classifier.interpreter.get_output_details()
        smallest = MIN_QUANTIZED_PROBABILITY if output["dtype"] == np.uint8 else 0.0
        return lambda faces: classify_faces(classifier, faces.images).clip(min=smallest)
    import keras

    run, _ = read_finished_run(teacher)
    model = load_keras_model(keras, teacher / MODEL_FILE, run.labels, run.plan.image_size)
    return partial(keras_probabilities, model, training_resolution_px=run.data.resolution_px)


def _order_digest(faces: FaceDataset) -> str:
    """Return a digest of the images in their order, which the fingerprint ignores."""
    return hashlib.sha256("".join(faces.digests).encode()).hexdigest()[:16]
