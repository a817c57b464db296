"""Splits: which images train, which choose the model and which are reported; and what the test split shares with training."""

import hashlib
import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.training_data import Leakage, SplitCounts, SplitIds, SplitSummary
from fer_edge.train.dataset import DataError, FaceDataset

PROTOCOLS = ("paper", "subject", "official")
AUTO = "auto"
TEST_FRACTION = 0.2  # the paper's 80/20
IGNORE_SPLITS = "--protocol paper ignores the splits and divides all images at random"
MIN_PEOPLE = 3  # for the protocol subject: one per split
VALIDATION_FRACTION = 0.1  # of the images that are not in the test split

Indices = npt.NDArray[np.intp]
Targets = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """A division of a dataset into train, validation and test, as indices into it.

    Attributes:
        protocol: One of PROTOCOLS.
        seed: Seed of the random choices.
        fold: Which fold is the test split; None for a single division.
        folds: Number of folds; None for a single division.
        train: Indices of the training images.
        validation: Indices of the images that choose and calibrate the model.
        test: Indices of the images that are reported.
        validation_in_training: Whether ``train`` contains the validation images, see with_validation_in_training.
    """

    protocol: str
    seed: int
    fold: int | None
    folds: int | None
    train: Indices
    validation: Indices
    test: Indices
    validation_in_training: bool = False

    def with_validation_in_training(self) -> "Split":
        """Return the same division with the validation images in training too. An earlier run has chosen with them."""
        together = np.union1d(self.train, self.validation)
        return replace(self, train=together, validation_in_training=True)

    def ids(self, faces: FaceDataset) -> SplitIds:
        """Return the image ids of each split."""
        train, validation, test = (tuple(faces.ids[i] for i in indices) for indices in (self.train, self.validation, self.test))
        return SplitIds(train, validation, test)

    def summary(self, faces: FaceDataset) -> SplitSummary:
        """Return the summary for run folders and contracts: protocol, counts, digest and leakage, without the ids."""
        return SplitSummary(
            protocol=self.protocol,
            seed=self.seed,
            fold=self.fold,
            folds=self.folds,
            counts=SplitCounts(len(self.train), len(self.validation), len(self.test)),
            train_digest=ids_digest(faces.ids[i] for i in self.train),
            leakage=leakage(faces, self),
            validation_in_training=self.validation_in_training,
        )


def ids_digest(ids: Iterable[str]) -> str:
    """Return the sha256 over sorted image ids, hexadecimal."""
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()


def check_split_options(protocol: str, fold: int | None, folds: int | None) -> None:
    """Check what can be checked without the faces.

    Args:
        protocol: See make_split.
        fold: See make_split.
        folds: See make_split.

    Raises:
        ValueError: If the protocol or the fold is unknown, or there are folds of another protocol than ``subject``.
    """
    if protocol not in (AUTO, *PROTOCOLS):
        raise ValueError(f"unknown protocol '{protocol}'; choose one of: {AUTO}, {', '.join(PROTOCOLS)}")
    if folds is not None and (protocol not in (AUTO, "subject") or folds < 2):
        raise ValueError(
            f"folds need the protocol 'subject' and must be at least 2. Received: protocol={protocol}, folds={folds}"
        )
    if fold is not None and not 0 <= fold < (folds or 0):
        raise ValueError(f"fold must be from 0 to folds-1 and needs folds. Received: fold={fold}, folds={folds}")


def make_split(faces: FaceDataset, protocol: str, seed: int = 0, fold: int | None = None, folds: int | None = None) -> Split:
    """Divide a dataset into train, validation and test.

    Args:
        faces: The dataset.
        protocol: ``paper`` (random 80/20 per class), ``subject`` (no person in more than one split), ``official`` (the
            dataset's own splits; images with a copy in the test split are left out of training), or ``auto``: the first
            of official, subject, paper that the data allows.
        seed: Seed of the random choices.
        fold: With ``folds``: which fold is the test split, 0..folds-1. Default: 0.
        folds: Number of folds of the protocol ``subject``.

    Raises:
        ValueError: If the protocol or the fold is unknown.
        DataError: If the data cannot be divided in this way, a class is absent from training, or every training image is
            also a held-out image.
    """
    check_split_options(protocol, fold, folds)
    if protocol == AUTO:
        protocol = default_protocol(faces) if folds is None else "subject"
    if folds is not None and fold is None:
        fold = 0
    divide = {"paper": _paper, "subject": _subject, "official": _official}[protocol]
    train, validation, test = divide(faces, seed, fold, folds)
    for name, indices in (("validation", validation), ("test", test)):
        if not len(indices):
            raise DataError(f"{len(faces)} faces of {faces.name} leave none for {name} under protocol '{protocol}'. Add some")
    _check_distinct_images(faces, train, {faces.digests[i] for i in np.concatenate([validation, test])})
    absent = [label for k, label in enumerate(faces.labels) if not np.any(faces.targets[train] == k)]
    if absent:
        remedy = "Add images of other people, or use --protocol paper" if protocol == "subject" else "Add some"
        raise DataError(f"no training image of class {', '.join(absent)} under protocol '{protocol}' of {faces.name}. {remedy}")
    return Split(protocol, seed, fold, folds, train, validation, test)


def make_splits(
    faces: FaceDataset, protocol: str, seeds: Sequence[int], folds: int | None, fold: int | None
) -> list[tuple[int, Split]]:
    """Return the seed and the split of each run of a series: every seed, and every fold if ``folds`` has no ``fold``.

    Args:
        faces: The dataset.
        protocol: See make_split.
        seeds: Seeds of split and training.
        folds: Number of folds; None for a single division.
        fold: The only fold to use; None for all folds.

    Raises:
        ValueError: If the protocol or the fold is unknown, or a seed occurs twice.
        DataError: If the data cannot be divided in this way, or has only one class.
    """
    if len(faces.labels) < 2:
        raise DataError(f"training needs faces of at least 2 classes; {faces.name} has only '{faces.labels[0]}'")
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"each seed must occur once. Received: seeds={','.join(map(str, seeds))}")
    chosen: Sequence[int | None] = range(folds) if folds and fold is None and protocol in (AUTO, "subject") else [fold]
    return [(seed, make_split(faces, protocol, seed, number, folds)) for seed in seeds for number in chosen]


def _check_distinct_images(faces: FaceDataset, train: Indices, held_out: set[str]) -> None:
    """Check that some training image is not held out too, by its digest."""
    if all(faces.digests[i] in held_out for i in train):
        raise DataError(
            f"every training image of {faces.name} is also a validation or test image, pixel for pixel. Add different images"
        )


def default_protocol(faces: FaceDataset) -> str:
    """Return the protocol of the data: the first of official, subject and paper that it allows.

    Raises:
        DataError: If the data seems to have splits that cannot be used. A random split would train on its test faces.
    """
    if faces.split_problem:
        raise DataError(f"the splits of {faces.name} are not clear: {faces.split_problem}. {IGNORE_SPLITS}")
    official = set(faces.official_split)
    if {"train", "test"} <= official:
        return "official"
    if len(official) > 1:
        names = ", ".join(sorted(map(str, official)))
        raise DataError(f"{faces.name} has the splits {names}, so train or test is missing. {IGNORE_SPLITS}")
    return "paper" if None in faces.subjects or len(set(faces.subjects)) < MIN_PEOPLE else "subject"


def _paper(faces: FaceDataset, seed: int, fold: int | None, folds: int | None) -> tuple[Indices, Indices, Indices]:
    # The paper's counts (27 of 135, 36 of 177, 42 of 207) are 20 % of each class, rounded up.
    del fold, folds
    rng = np.random.default_rng(seed)
    rest, test = _take_per_class(np.arange(len(faces)), faces.targets, TEST_FRACTION, rng)
    train, validation = _take_per_class(rest, faces.targets, VALIDATION_FRACTION, rng)
    return train, validation, test


def _take_per_class(indices: Indices, targets: Targets, fraction: float, rng: np.random.Generator) -> tuple[Indices, Indices]:
    """Return (rest, taken): a fraction of each class is taken, rounded up; at least one image per class stays."""
    rest, taken = [], []
    for k in np.unique(targets[indices]):
        members = rng.permutation(indices[targets[indices] == k])
        count = min(math.ceil(fraction * len(members) - 1e-9), len(members) - 1)
        taken.append(members[:count])
        rest.append(members[count:])
    return np.sort(np.concatenate(rest)), np.sort(np.concatenate(taken))


def _subject(faces: FaceDataset, seed: int, fold: int | None, folds: int | None) -> tuple[Indices, Indices, Indices]:
    if any(subject is None for subject in faces.subjects):
        raise DataError(f"{faces.name} does not name its subjects. Use --protocol paper or official")
    people = len(set(faces.subjects))
    if people < MIN_PEOPLE:
        raise DataError(
            f"the protocol subject needs {MIN_PEOPLE} people, one per split; {faces.name} has {people}. Use --protocol paper"
        )
    everything = np.arange(len(faces))
    rest, test = _stratified_group_k_fold(faces, everything, folds or _fold_count(faces, everything, TEST_FRACTION), seed, fold)
    if len({faces.subjects[i] for i in rest}) < 2:
        raise DataError(
            f"one of {folds} folds has all people of {faces.name} but one, who cannot be in train and in validation. "
            f"Use --folds {people} or add people"
        )
    train, validation = _stratified_group_k_fold(faces, rest, _fold_count(faces, rest, VALIDATION_FRACTION), seed, None)
    return train, validation, test


def _stratified_group_k_fold(
    faces: FaceDataset, indices: Indices, folds: int, seed: int, fold: int | None
) -> tuple[Indices, Indices]:
    """Return (rest, taken) of a fold; of the first fold that leaves all classes in the rest if ``fold`` is None."""
    from sklearn.model_selection import StratifiedGroupKFold

    groups = np.array([faces.subjects[i] for i in indices])
    if len(set(groups)) < max(2, folds):
        raise DataError(f"{len(set(groups))} people are too few for {folds} folds. Use fewer folds or add people")
    if _largest_class(faces, indices) < max(2, folds):
        raise DataError(
            f"no class of {faces.name} has as many images as there are folds ({folds}). Use fewer folds or add images"
        )
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes with fewer images than folds
        divisions = list(splitter.split(indices, faces.targets[indices], groups))
    if fold is None:
        classes = len(set(faces.targets[indices]))
        complete = (k for k, (rest, _) in enumerate(divisions) if len(set(faces.targets[indices[rest]])) == classes)
        fold = next(complete, 0)
    rest, taken = divisions[fold]
    return indices[rest], indices[taken]


def _fold_count(faces: FaceDataset, indices: Indices, fraction: float) -> int:
    """Return the number of folds of which one is ``fraction`` of the faces, fewer with few people; at least 2."""
    people = len({faces.subjects[i] for i in indices})
    return max(2, min(people, _largest_class(faces, indices), round(1 / fraction)))


def _largest_class(faces: FaceDataset, indices: Indices) -> int:
    return int(np.bincount(faces.targets[indices]).max())


def _official(faces: FaceDataset, seed: int, fold: int | None, folds: int | None) -> tuple[Indices, Indices, Indices]:
    del fold, folds
    train, validation, test = (
        np.flatnonzero([split == name for split in faces.official_split]) for name in ("train", "validation", "test")
    )
    if not len(train) or not len(test):
        official = faces.official_split
        counts = {split or "none": official.count(split) for split in sorted(set(official), key=str)}
        raise DataError(f"{faces.name} has no official train and test split (found: {counts}). Use --protocol paper or subject")
    held_out = {digest for digest, split in zip(faces.digests, faces.official_split, strict=True) if split != "train"}
    _check_distinct_images(faces, train, held_out)
    train = np.array([i for i in train if faces.digests[i] not in held_out], np.intp)
    if not len(validation):
        train, validation = _take_per_class(train, faces.targets, VALIDATION_FRACTION, np.random.default_rng(seed))
        chosen = {faces.digests[i] for i in validation}
        train = np.array([i for i in train if faces.digests[i] not in chosen], np.intp)
    return train, validation, test


def leakage(faces: FaceDataset, split: Split) -> Leakage:
    """Measure what the test split shares with training. Validation counts as training: it chose the model.

    Args:
        faces: The dataset.
        split: Its division.
    """
    seen = np.concatenate([split.train, split.validation])
    digests = {faces.digests[i] for i in seen}
    identical = sum(faces.digests[i] in digests for i in split.test)
    known = all(subject is not None for subject in faces.subjects)
    subjects = {faces.subjects[i] for i in seen}
    shared = len(subjects & {faces.subjects[i] for i in split.test}) if known else None
    return Leakage(
        identical_images=identical,
        shared_subjects=shared,
        test_images_of_shared_subjects=sum(faces.subjects[i] in subjects for i in split.test) if known else None,
        leaky=bool(identical or shared),
    )
