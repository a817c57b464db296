"""Distillation: what an ensemble of trained runs thinks of each training face becomes part of its label."""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fer_edge.edge_runtime.whole_file import whole_file
from fer_edge.train.evaluate import keras_probabilities
from fer_edge.train.faces import Faces
from fer_edge.train.run_folder import MODEL_FILE, check_unseen, read_run_file
from fer_edge.train.splits import Split
from fer_edge.train.temperature import with_temperature

CACHE_FOLDER = ".opinions"

Floats = npt.NDArray[np.float32]


def check_teachers(teachers: Sequence[str], faces: Faces, split: Split) -> None:
    """Check that runs can teach: finished, of the same labels, and without a look at the faces that will be reported.

    Raises:
        FileNotFoundError: If one is no finished run.
        ValueError: If one has other labels, or was trained on validation or test faces of this split.
    """
    for teacher in teachers:
        run = read_run_file(Path(teacher))
        if not run["finished"]:
            raise FileNotFoundError(f"the teacher '{teacher}' is not finished. Finish it: fer-edge train ... --resume")
        if tuple(run["labels"]) != faces.labels:
            raise ValueError(
                f"the teacher '{teacher}' knows {', '.join(run['labels'])}, the data has {', '.join(faces.labels)}. "
                "Take a teacher of the same labels, or --map the data"
            )
        check_unseen(run, f"the teacher '{teacher}'", faces, split)


def teacher_labels(
    teachers: Sequence[str], faces: Faces, chosen: npt.NDArray[np.intp], temperature: float, cache: Path
) -> Floats:
    """Return the teachers' mean probabilities, softened.

    Args:
        teachers: Run folders.
        faces: The dataset.
        chosen: Indices of the faces to judge.
        temperature: Above 1 softens: teachers are too sure of faces that they were trained on.
        cache: Folder for what each teacher thinks of the dataset; it is asked once.

    Returns:
        float32 array (len(chosen), classes).
    """
    opinions: list[Floats] = [
        with_temperature(_opinion(Path(teacher), faces, cache)[chosen], temperature) for teacher in teachers
    ]
    return np.asarray(np.stack(opinions).mean(axis=0), np.float32)


def _opinion(teacher: Path, faces: Faces, cache: Path) -> Floats:
    """Return a teacher's probabilities for every face of a dataset, the mean over the face and its mirror image."""
    run = read_run_file(teacher)
    path = cache / CACHE_FOLDER / f"{run['model_digest'][:16]}-{_order(faces)}.npy"
    if path.is_file():
        return np.asarray(np.load(path), np.float32)
    import keras

    model = keras.models.load_model(teacher / MODEL_FILE, compile=False)
    mirrored = dataclasses.replace(faces, images=tuple(np.ascontiguousarray(image[:, ::-1]) for image in faces.images))
    resolution = run["data"]["resolution_px"]
    opinion = keras_probabilities(model, faces, resolution) + keras_probabilities(model, mirrored, resolution)
    opinion /= 2
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.save(file, opinion)
    return opinion


def _order(faces: Faces) -> str:
    """Return a digest of the pictures in their order, which the fingerprint leaves out."""
    return hashlib.sha256("".join(faces.digests).encode()).hexdigest()[:16]
