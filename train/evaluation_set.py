"""Which faces a finished model is measured on, and whether training has seen them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.training_data import SplitIds, SplitSummary
from fer_edge.train.class_names import with_model_labels
from fer_edge.train.dataset import OFFICIAL_SPLITS, DataError, FaceDataset
from fer_edge.train.splits import AUTO, PROTOCOLS, Split, ids_digest, leakage, make_split

ALL = "all"


@dataclass(frozen=True)
class TrainingProvenance:
    """What a model was trained on.

    Attributes:
        labels: Label names in output order.
        data: Name of the dataset.
        fingerprint: Fingerprint of the dataset.
        split: How it was divided.
        ids: Ids of the images in each split; None where they are not known, as for a .tflite file.
    """

    labels: tuple[str, ...]
    data: str
    fingerprint: str
    split: SplitSummary
    ids: SplitIds | None = None


@dataclass(frozen=True)
class EvaluationSet:
    """Faces to measure a model on.

    Attributes:
        faces: The faces; targets in the label order of the model. Faces with votes keep the classes of the votes.
        protocol: Title of the protocol, such as ``subject 3/10``, for tables.
        split: Name of the split.
        not_in_training: Boolean array (n,): whether a face has no pixel-identical copy in training. None where the model
            was trained on other data, or the split is not a test split.
        dropped: Number of faces whose label the model does not know.
        warning: What inflates the metrics; None where nothing is known to.
    """

    faces: FaceDataset
    protocol: str
    split: str
    not_in_training: npt.NDArray[np.bool_] | None
    dropped: int
    warning: str | None


def check_selection(protocol: str | None, split: str) -> None:
    """Check the names of a protocol and a split.

    Args:
        protocol: See select_faces.
        split: See select_faces.

    Raises:
        ValueError: If one is unknown.
    """
    if split not in (*OFFICIAL_SPLITS, ALL):
        raise ValueError(f"unknown split '{split}'; choose one of: {', '.join(OFFICIAL_SPLITS)}, {ALL}")
    if protocol not in (None, AUTO, *PROTOCOLS, ALL):
        raise ValueError(f"unknown protocol '{protocol}'; choose one of: {', '.join(PROTOCOLS)}, {ALL}")


def select_faces(
    faces: FaceDataset, trained: TrainingProvenance, protocol: str | None = None, split: str = "test", seed: int | None = None
) -> EvaluationSet:
    """Choose the faces to measure a model on.

    Args:
        faces: The whole dataset.
        trained: What the model was trained on.
        protocol: ``paper``, ``subject``, ``official``, or ``all`` for every face. Default: on the training data the protocol
            of the training; on other data ``official`` where it has official splits, otherwise ``all``.
        split: ``train``, ``validation``, ``test``, ``private_test`` or ``all``.
        seed: Seed of the division. Default: that of the training.

    Raises:
        ValueError: If the protocol or the split is unknown.
        DataError: If the data cannot be divided in this way, the split is empty, or no label is shared.
    """
    check_selection(protocol, split)
    same_data = faces.fingerprint == trained.fingerprint
    if protocol is None:
        if faces.split_problem and not same_data:
            raise DataError(f"the splits of {faces.name} are not clear: {faces.split_problem}. Or measure on --protocol {ALL}")
        official = {"train", "test"} <= set(faces.official_split)
        protocol = trained.split.protocol if same_data else "official" if official else ALL
    division = None if protocol == ALL else _divide(faces, trained, protocol, seed)
    split = split if division else ALL
    subset = faces.subset(_indices(faces, division, split))
    kept = subset if subset.votes is not None else with_model_labels(subset, trained.labels)
    not_in_training = None
    if division and same_data and split in ("test", "private_test"):
        seen = {faces.digests[i] for i in _training_indices(faces, division)}
        not_in_training = np.array([digest not in seen for digest in kept.digests], bool)
    return EvaluationSet(
        faces=kept,
        protocol=division.summary(faces).title if division else ALL,
        split=split,
        not_in_training=not_in_training,
        dropped=len(subset) - len(kept),
        warning=_warning(faces, trained, division, split),
    )


def _divide(faces: FaceDataset, trained: TrainingProvenance, protocol: str, seed: int | None) -> Split:
    """Divide the faces: as in training where protocol and seed allow it."""
    own = trained.split
    if own.protocol != protocol or seed not in (None, own.seed):
        return make_split(faces, protocol, own.seed if seed is None else seed)
    if trained.ids and trained.fingerprint == faces.fingerprint:
        index = {name: number for number, name in enumerate(faces.ids)}
        ids = (trained.ids.train, trained.ids.validation, trained.ids.test)
        if all(name in index for names in ids for name in names):
            train, validation, test = (np.array([index[name] for name in names], np.intp) for names in ids)
            return Split(protocol, own.seed, own.fold, own.folds, train, validation, test, own.validation_in_training)
    split = make_split(faces, protocol, own.seed, own.fold, own.folds)
    return split.with_validation_in_training() if own.validation_in_training else split


def _indices(faces: FaceDataset, division: Split | None, split: str) -> npt.NDArray[np.intp]:
    if division is None or split == ALL:
        return np.arange(len(faces))
    if split == "private_test":
        if division.protocol != "official":
            raise DataError(
                f"the split 'private_test' belongs to the protocol 'official'. Received: protocol '{division.protocol}'"
            )
        indices = np.flatnonzero([name == split for name in faces.official_split])
    else:
        indices = {"train": division.train, "validation": division.validation, "test": division.test}[split]
    if not len(indices):
        raise DataError(f"{faces.name} has no split '{split}' under protocol '{division.protocol}'")
    return indices


def _training_indices(faces: FaceDataset, division: Split) -> npt.NDArray[np.intp]:
    """Return what counts as training data. Under ``official`` that includes the duplicates that training left out."""
    if division.protocol == "official":
        return np.flatnonzero([split in ("train", "validation") for split in faces.official_split])
    return np.concatenate([division.train, division.validation])


def _warning(faces: FaceDataset, trained: TrainingProvenance, division: Split | None, split: str) -> str | None:
    """Return what inflates the metrics of this split; the most serious reason only."""
    if faces.fingerprint != trained.fingerprint:
        if faces.name != trained.data:
            return None
        return (
            f"this data is called '{faces.name}' like the training data of the model but differs from it: "
            "the model may have seen some of these faces"
        )
    if division is None or split in ("train", ALL):
        return f"the split '{split}' contains faces that the model was trained on"
    if ids_digest(faces.ids[i] for i in division.train) != trained.split.train_digest:
        return (
            f"the model was trained on another split (protocol {trained.split.protocol}, seed {trained.split.seed}): it has "
            "seen some of these faces"
        )
    if split == "validation" and division.validation_in_training:
        return "the split 'validation' contains faces that the model was trained on"
    if split == "validation":
        return "the split 'validation' contains the faces that chose and calibrated the model"
    return leakage(faces, division).warning() if split == "test" else None
