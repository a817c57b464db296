"""Which faces a finished model is measured on, and whether it has seen them before."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fer_edge.train.dataset import PARTS, DataError, FaceDataset
from fer_edge.train.splits import AUTO, SPLITS, Split, ids_digest, leakage, leakage_warning, make_split

ALL = "all"


@dataclass(frozen=True)
class TrainingProvenance:
    """What a model says of its training.

    Attributes:
        labels: Label names in output order.
        data: Name of the dataset.
        fingerprint: Fingerprint of the dataset.
        split: Summary of the split, see Split.summary; a run folder's has the ids of each part as well.
    """

    labels: tuple[str, ...]
    data: str
    fingerprint: str
    split: Mapping[str, Any]


@dataclass(frozen=True)
class EvaluationSet:
    """Faces to measure a model on.

    Attributes:
        faces: The faces, targets in the model's label order.
        split_title: Name of the split, for tables.
        part: The part taken.
        distinct: Boolean array (n,): which of them stand nowhere in the training part, pixel for pixel. None where the
            model was trained on other data, or the part is none to report on.
        dropped: How many faces have a label that the model does not know.
        warning: What flatters the figure, None where nothing is known to.
    """

    faces: FaceDataset
    split_title: str
    part: str
    distinct: npt.NDArray[np.bool_] | None
    dropped: int
    warning: str | None


def select_faces(
    faces: FaceDataset, trained: TrainingProvenance, split_name: str | None = None, part: str = "test", seed: int | None = None
) -> EvaluationSet:
    """Choose the faces to measure a model on.

    Args:
        faces: The whole dataset.
        trained: What the model was trained on.
        split_name: ``paper``, ``subject``, ``official``, or ``all`` for every face. None takes the model's own split
            on its own data, and on other data the official one where there is one, else every face.
        part: ``train``, ``validation``, ``test``, ``private_test`` or ``all``.
        seed: Seed of the split, the model's own by default.

    Raises:
        ValueError: If the split or the part is unknown.
        DataError: If the data cannot be split so, the part is empty, or no label is shared.
    """
    if part not in (*PARTS, ALL):
        raise ValueError(f"unknown part '{part}'; choose one of: {', '.join(PARTS)}, {ALL}")
    if split_name not in (None, AUTO, *SPLITS, ALL):
        raise ValueError(f"unknown split '{split_name}'; choose one of: {', '.join(SPLITS)}, {ALL}")
    same_data = faces.fingerprint == trained.fingerprint
    if split_name is None:
        own = trained.split["name"]
        official = {"train", "test"} <= set(faces.parts)
        split_name = own if same_data else "official" if official else ALL
    seen: set[str] | None = None
    if split_name == ALL:
        chosen, title, part, warning = np.arange(len(faces)), ALL, ALL, None
    else:
        split = _like_training(faces, trained, split_name, seed)
        chosen, title = _part_of(faces, split, part), split.title
        reported = same_data and part in ("test", "private_test")
        seen = {faces.digests[i] for i in _training_part(faces, split)} if reported else None
        warning = leakage_warning(leakage(faces, split)) if same_data and part == "test" else None
        if same_data and part == "validation":
            warning = "the part 'validation' holds the faces that the model was chosen and calibrated by"
        if same_data and ids_digest(split.ids(faces)["train"]) != trained.split["train_digest"]:
            own = f"{trained.split['name']}, seed {trained.split['seed']}"
            warning = f"the model was trained under another split ({own}): it has seen some of these faces"
    if same_data and part in ("train", ALL):
        warning = f"the part '{part}' holds faces that the model was trained on"
    if not same_data and faces.name == trained.data:
        warning = (
            f"this data is called '{faces.name}' like the model's training data but is not the same: "
            "the model may have seen some of these faces"
        )
    subset = faces.take(chosen)
    kept = subset.with_labels(trained.labels)
    distinct = None if seen is None else np.array([digest not in seen for digest in kept.digests], bool)
    return EvaluationSet(kept, title, part, distinct, len(subset) - len(kept), warning)


def _like_training(faces: FaceDataset, trained: TrainingProvenance, split_name: str, seed: int | None) -> Split:
    own = trained.split
    if own["name"] != split_name or seed not in (None, own["seed"]):
        return make_split(faces, split_name, own["seed"] if seed is None else seed)
    stored = own.get("ids")
    if stored and trained.fingerprint == faces.fingerprint:
        place = {name: index for index, name in enumerate(faces.ids)}
        if all(name in place for ids in stored.values() for name in ids):
            parts = {part: np.array([place[name] for name in ids], np.intp) for part, ids in stored.items()}
            return Split(split_name, own["seed"], own["fold"], own["folds"], **parts)
    return make_split(faces, split_name, own["seed"], own["fold"], own["folds"])


def _part_of(faces: FaceDataset, split: Split, part: str) -> npt.NDArray[np.intp]:
    if part == ALL:
        return np.arange(len(faces))
    if part == "private_test":
        if split.name != "official":
            raise DataError(f"the part 'private_test' belongs to the official split. Received: split '{split.name}'")
        chosen = np.flatnonzero([own == part for own in faces.parts])
    else:
        chosen = {"train": split.train, "validation": split.validation, "test": split.test}[part]
    if not len(chosen):
        raise DataError(f"{faces.name} has no part '{part}' under split '{split.name}'")
    return chosen


def _training_part(faces: FaceDataset, split: Split) -> npt.NDArray[np.intp]:
    """Return what counts as training data: of an official split the whole official part, duplicates included."""
    if split.name == "official":
        return np.flatnonzero([part in ("train", "validation") for part in faces.parts])
    return np.concatenate([split.train, split.validation])
