"""Class names of a dataset: known expressions with their synonyms, or names of the user's choice, and their renaming."""

import difflib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fer_edge.artifacts.contract import CANONICAL_LABELS
from fer_edge.artifacts.training_data import check_labels
from fer_edge.edge_runtime.live.smoothing import UNSURE
from fer_edge.train.dataset import DataError, FaceDataset

SYNONYMS = {
    "anger": "angry",
    "contemptuous": "contempt",
    "disgusted": "disgust",
    "fearful": "fear",
    "afraid": "fear",
    "happiness": "happy",
    "joy": "happy",
    "sadness": "sad",
    "surprised": "surprise",
}
DROP = "-"
MAX_CLASSES = 50
MAX_LISTED = 12  # class names in one message


@dataclass(frozen=True)
class LabelMap:
    """Labels of renamed classes, from parse_label_map.

    Attributes:
        given: Label per class, as the user asked; the data must have these classes. Classes are in small letters, because the
            case of a class name does not matter here.
        stored: Label per class in the training data of a model. They apply to the classes that the data has.
    """

    given: Mapping[str, str] = field(default_factory=dict)
    stored: Mapping[str, str] = field(default_factory=dict)

    def label_of(self, name: str) -> str:
        """Return the label of a class name of the data; DROP if the class is left out."""
        for labels in (self.given, self.stored):
            for key in (normalize(name).casefold(), canonical_name(name)):
                if key in labels:
                    return labels[key]
        return normalize(name)

    def pairs(self) -> tuple[str, ...]:
        """Return the given labels as CLASS=LABEL."""
        return tuple(f"{name}={label}" for name, label in self.given.items())


def parse_label_map(pairs: Sequence[str], stored: Sequence[str] = ()) -> LabelMap:
    """Parse ``CLASS=LABEL`` pairs; the label ``-`` leaves the class out.

    Args:
        pairs: What the user asks for.
        stored: What the training of a model asked for.

    Raises:
        ValueError: If a pair has no ``=``, or two pairs rename one class in different ways.
    """
    return LabelMap(_parse_pairs(pairs), _parse_pairs(stored))


def _parse_pairs(pairs: Sequence[str]) -> dict[str, str]:
    result: dict[str, str] = {}
    for pair in pairs:
        name, equals, label = (normalize(part) for part in pair.partition("="))
        if not equals or not name or not label:
            raise ValueError(f"a class map is CLASS=LABEL, for example contempt=neutral. Received: '{pair}'")
        earlier = result.setdefault(name.casefold(), label)
        if earlier != label:
            raise ValueError(f"the class '{name}' is mapped twice, to '{earlier}' and to '{label}'. Map it once")
    return result


def normalize(name: str) -> str:
    """Return a name in Unicode's composed form (NFC). Folders from a Mac have the decomposed form of the same name."""
    return unicodedata.normalize("NFC", name)


def canonical_name(name: str) -> str:
    """Return the canonical label of a known expression, in any case or by a synonym; any other name in small letters."""
    folded = normalize(name).casefold()
    return SYNONYMS.get(folded, folded)


def assign_labels(names: Iterable[str], label_map: LabelMap, source: str) -> dict[str, str | None]:
    """Return the label of each class of a dataset.

    If all classes are known expressions, the labels are canonical. Otherwise every class keeps its name exactly.

    Args:
        names: Class names of the data.
        label_map: Renamed classes.
        source: The dataset, for errors.

    Returns:
        Label per class name; None for a class that is left out.

    Raises:
        DataError: If the map names a class that the data lacks or leaves no class; there are more than MAX_CLASSES; a label is
            not printable or too long; or two labels differ only in case.
    """
    mapped = {name: label_map.label_of(name) for name in sorted(set(names))}
    seen = {normalize(name).casefold() for name in mapped} | {canonical_name(name) for name in mapped}
    missing = [name for name in label_map.given if name not in seen]
    if missing:
        raise DataError(f"{source} has no class '{missing[0]}' to map; it has: {list_names(sorted(mapped))}")
    kept = {label for label in mapped.values() if label != DROP}
    if mapped and not kept:
        raise DataError(f"--map leaves out every class of {source}. Keep at least two")
    known = all(canonical_name(label) in CANONICAL_LABELS for label in kept)
    labels = {name: None if label == DROP else canonical_name(label) if known else label for name, label in mapped.items()}
    _check_labels({label for label in labels.values() if label is not None}, source)
    return labels


def count_labels(counts: Mapping[str, int], labels: Mapping[str, str | None]) -> dict[str, int]:
    """Return the number of images per label, without the classes that are left out.

    Args:
        counts: Number of images per class name.
        labels: Label per class name, from assign_labels.
    """
    result: dict[str, int] = {}
    for name, count in counts.items():
        label = labels[name]
        if label is not None:
            result[label] = result.get(label, 0) + count
    return result


def _check_labels(labels: set[str], source: str) -> None:
    ordered = sorted(labels)
    if len(ordered) > MAX_CLASSES:
        raise DataError(
            f"{source} has {len(ordered)} classes, more than {MAX_CLASSES}: {list_names(ordered)}. Are these folders classes? "
            "Give CLASS/IMAGE or SPLIT/CLASS/IMAGE"
        )
    try:
        check_labels(ordered)
    except ValueError as error:
        raise DataError(f"a class of {source} cannot be used: {error}. Rename it, or pass --map CLASS=LABEL") from error
    folded: dict[str, str] = {}
    for label in ordered:
        other = folded.setdefault(label.casefold(), label)
        if other != label:
            raise DataError(
                f"the classes '{other}' and '{label}' of {source} differ only in case. Rename one, or pass "
                f"--map '{other}={label}'"
            )
    if UNSURE in folded:
        raise DataError(
            f"'{UNSURE}' cannot be a class: it is the label of a face that no class fits. Rename it: --map {UNSURE}=LABEL"
        )


def ordered_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """Return distinct labels in canonical order if all are canonical, otherwise sorted."""
    distinct = set(labels)
    if distinct <= set(CANONICAL_LABELS):
        return tuple(label for label in CANONICAL_LABELS if label in distinct)
    return tuple(sorted(distinct))


def unknown_names(labels: Iterable[str]) -> list[str]:
    """Return the labels that are not known expressions, each with the expression that it may be a misspelling of."""
    result = []
    for label in labels:
        if canonical_name(label) not in CANONICAL_LABELS:
            (close, *_) = difflib.get_close_matches(canonical_name(label), [*CANONICAL_LABELS, *SYNONYMS], 1, 0.8) or [""]
            result.append(f"{label} (did you mean {close}? --map '{label}={close}')" if close else label)
    return result


def list_names(names: Sequence[str]) -> str:
    """Return names for a message, at most MAX_LISTED of them."""
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more


def with_model_labels(faces: FaceDataset, labels: tuple[str, ...]) -> FaceDataset:
    """Re-index the faces to the labels of a model and drop faces of other classes.

    A class of the data that has another case or is a synonym of a model's label counts as that label.

    Args:
        faces: The faces.
        labels: Labels of the model, in output order.

    Raises:
        DataError: If no face has one of these labels.
    """
    by_name = {canonical_name(label): label for label in reversed(labels)}
    names = [label if label in labels else by_name.get(canonical_name(label), label) for label in faces.labels]
    if tuple(names) != faces.labels:
        merged = tuple(dict.fromkeys(names))
        targets = np.array([merged.index(name) for name in names], np.int64)[faces.targets]
        faces = replace(faces, labels=merged, targets=targets)
    return faces.with_labels(labels)
