"""Splits: which pictures train, which choose, which report; and how honest that is."""

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fer_edge.train.dataset import DataError, FaceDataset

SPLITS = ("paper", "subject", "official")
AUTO = "auto"
TEST_SHARE = 0.2  # the paper's 80/20
VALIDATION_SHARE = 0.1  # of what is left for training

Indices = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Split:
    """A division of a dataset, as indices into it.

    Attributes:
        name: One of SPLITS.
        seed: What the random choices came from.
        fold: Which fold is the test set, None for a single 80/20 split.
        folds: Number of folds, None for a single split.
        train: Indices of the training pictures.
        validation: Indices that choose the epoch; taken from the training part.
        test: Indices that are reported.
    """

    name: str
    seed: int
    fold: int | None
    folds: int | None
    train: Indices
    validation: Indices
    test: Indices

    @property
    def title(self) -> str:
        """Short name for tables: ``paper`` or ``subject 3/10``."""
        return self.name if self.fold is None else f"{self.name} {self.fold}/{self.folds}"

    def ids(self, faces: FaceDataset) -> dict[str, list[str]]:
        """Return the picture ids of each part."""
        return {
            "train": [faces.ids[i] for i in self.train],
            "validation": [faces.ids[i] for i in self.validation],
            "test": [faces.ids[i] for i in self.test],
        }

    def summary(self, faces: FaceDataset) -> dict[str, Any]:
        """Return what a contract says of the split: its name, sizes, digest and leakage, without the ids."""
        return {
            "name": self.name,
            "seed": self.seed,
            "fold": self.fold,
            "folds": self.folds,
            "counts": {part: len(ids) for part, ids in self.ids(faces).items()},
            "train_digest": ids_digest(self.ids(faces)["train"]),
            "leakage": leakage(faces, self),
        }


def ids_digest(ids: list[str]) -> str:
    """sha256 over sorted picture ids."""
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()


def check_split_options(name: str, fold: int | None, folds: int | None) -> None:
    """Check what can be checked without the faces; the arguments are those of make_split.

    Raises:
        ValueError: If the name or the fold is unknown, or there are folds of another split than the subject split.
    """
    if name not in (AUTO, *SPLITS):
        raise ValueError(f"unknown split '{name}'; choose one of: {AUTO}, {', '.join(SPLITS)}")
    if folds is not None and (name not in (AUTO, "subject") or folds < 2):
        raise ValueError(f"folds need the subject split and at least 2. Received: split={name}, folds={folds}")
    if fold is not None and not 0 <= fold < (folds or 0):
        raise ValueError(f"fold must be from 0 to folds-1, and folds be given. Received: fold={fold}, folds={folds}")


def make_split(faces: FaceDataset, name: str, seed: int = 0, fold: int | None = None, folds: int | None = None) -> Split:
    """Divide a dataset into train, validation and test.

    Args:
        faces: The dataset.
        name: ``paper`` (random 80/20 per class), ``subject`` (no subject on two sides), ``official`` (the
            dataset's own parts; pictures that also stand in a test part are left out of training), or ``auto``: the
            most honest one the data allows, in the order official, subject, paper.
        seed: Seed of the random choices.
        fold: With ``folds``: which fold is the test set, 0..folds-1.
        folds: Number of folds of the subject split.

    Raises:
        ValueError: If the name or the fold is unknown.
        DataError: If the data cannot be split so, a class is absent from training, or nothing in it is of its own.
    """
    check_split_options(name, fold, folds)
    if name == AUTO:
        name = _most_honest(faces) if folds is None else "subject"
    if folds is not None and fold is None:
        fold = 0
    parts = {"paper": _paper, "subject": _subject, "official": _official}[name]
    train, validation, test = parts(faces, seed, fold, folds)
    for part, indices in (("validation", validation), ("test", test)):
        if not len(indices):
            raise DataError(f"{len(faces)} faces of {faces.name} leave none for {part} under split '{name}'. Add some")
    _check_own_pictures(faces, train, {faces.digests[i] for i in np.concatenate([validation, test])})
    absent = [label for k, label in enumerate(faces.labels) if not np.any(faces.targets[train] == k)]
    if absent:
        raise DataError(f"no training picture of class {', '.join(absent)} under split '{name}' of {faces.name}. Add some")
    return Split(name, seed, fold, folds, train, validation, test)


def _check_own_pictures(faces: FaceDataset, train: Indices, held_out: set[str]) -> None:
    """Refuse a training part of which every picture is held out too, by its digest."""
    if all(faces.digests[i] in held_out for i in train):
        raise DataError(
            f"every training picture of {faces.name} is also a validation or test picture, pixel for pixel. Add different ones"
        )


def _most_honest(faces: FaceDataset) -> str:
    if {"train", "test"} <= set(faces.parts):
        return "official"
    return "paper" if any(subject is None for subject in faces.subjects) else "subject"


def _paper(faces: FaceDataset, seed: int, fold: int | None, folds: int | None) -> tuple[Indices, Indices, Indices]:
    # The paper's counts (27 of 135, 36 of 177, 42 of 207) are 20 % of each class rounded up.
    del fold, folds
    rng = np.random.default_rng(seed)
    rest, test = _share_per_class(np.arange(len(faces)), faces.targets, TEST_SHARE, rng)
    train, validation = _share_per_class(rest, faces.targets, VALIDATION_SHARE, rng)
    return train, validation, test


def _share_per_class(
    indices: Indices, targets: npt.NDArray[np.int64], share: float, rng: np.random.Generator
) -> tuple[Indices, Indices]:
    """Return (rest, taken), ``share`` of each class taken, rounded up, at least one picture left."""
    rest, taken = [], []
    for k in np.unique(targets[indices]):
        members = rng.permutation(indices[targets[indices] == k])
        count = min(math.ceil(share * len(members) - 1e-9), len(members) - 1)
        taken.append(members[:count])
        rest.append(members[count:])
    return np.sort(np.concatenate(rest)), np.sort(np.concatenate(taken))


def _subject(faces: FaceDataset, seed: int, fold: int | None, folds: int | None) -> tuple[Indices, Indices, Indices]:
    if any(subject is None for subject in faces.subjects):
        raise DataError(f"{faces.name} names no subjects, so a subject split is not possible. Use --split paper or official")
    everyone = np.arange(len(faces))
    rest, test = _groups_apart(faces, everyone, folds or round(1 / TEST_SHARE), seed, fold or 0)
    people = len({faces.subjects[i] for i in rest})
    train, validation = _groups_apart(faces, rest, min(people, round(1 / VALIDATION_SHARE)), seed, 0)
    return train, validation, test


def _groups_apart(faces: FaceDataset, indices: Indices, folds: int, seed: int, fold: int) -> tuple[Indices, Indices]:
    from sklearn.model_selection import StratifiedGroupKFold

    groups = np.array([faces.subjects[i] for i in indices])
    if len(set(groups)) < max(2, folds):
        raise DataError(f"{len(set(groups))} subjects are too few for {folds} folds. Use fewer folds or more people")
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    rest, taken = list(splitter.split(indices, faces.targets[indices], groups))[fold]
    return indices[rest], indices[taken]


def _official(faces: FaceDataset, seed: int, fold: int | None, folds: int | None) -> tuple[Indices, Indices, Indices]:
    del fold, folds
    train, validation, test = (
        np.flatnonzero([part == wanted for part in faces.parts]) for wanted in ("train", "validation", "test")
    )
    if not len(train) or not len(test):
        counts = {part or "none": faces.parts.count(part) for part in sorted(set(faces.parts), key=str)}
        raise DataError(f"{faces.name} has no official train and test part (found: {counts}). Use --split paper or subject")
    held_out = {digest for digest, part in zip(faces.digests, faces.parts, strict=True) if part != "train"}
    _check_own_pictures(faces, train, held_out)
    train = np.array([i for i in train if faces.digests[i] not in held_out], np.intp)
    if not len(validation):
        train, validation = _share_per_class(train, faces.targets, VALIDATION_SHARE, np.random.default_rng(seed))
        chosen = {faces.digests[i] for i in validation}
        train = np.array([i for i in train if faces.digests[i] not in chosen], np.intp)
    return train, validation, test


def leakage(faces: FaceDataset, split: Split) -> dict[str, Any]:
    """Measure what the test set shares with what was trained on (validation chose the epoch, so it counts too).

    Returns:
        ``identical_pictures``: test pictures that stand pixel for pixel in training; ``shared_subjects``: people on
        both sides, None where the data names none; ``test_pictures_of_shared_subjects``; ``leaky``: whether the
        reported figure is flattered by any of it.
    """
    seen = np.concatenate([split.train, split.validation])
    digests = {faces.digests[i] for i in seen}
    identical = sum(faces.digests[i] in digests for i in split.test)
    known = all(subject is not None for subject in faces.subjects)
    subjects = {faces.subjects[i] for i in seen}
    shared_pictures = sum(faces.subjects[i] in subjects for i in split.test) if known else None
    shared = len(subjects & {faces.subjects[i] for i in split.test}) if known else None
    return {
        "identical_pictures": identical,
        "shared_subjects": shared,
        "test_pictures_of_shared_subjects": shared_pictures,
        "leaky": bool(identical or shared),
    }


def leakage_warning(leak: dict[str, Any]) -> str | None:
    """Return one line that stands beside a flattered figure, None for an honest one."""
    if not leak["leaky"]:
        return None
    told = []
    if leak["shared_subjects"]:
        told.append(
            f"{leak['test_pictures_of_shared_subjects']} test pictures show {leak['shared_subjects']} people seen in training"
        )
    if leak["identical_pictures"]:
        told.append(f"{leak['identical_pictures']} test pictures stand in training pixel for pixel")
    return "leaky split: " + "; ".join(told)
