"""Personal corrections as files, one per person. They contain numbers and label names, and no image."""

import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fer_edge.artifacts.atomic_write import atomic_path
from fer_edge.artifacts.typed_json import from_data, to_data
from fer_edge.artifacts.user_folders import user_config_folder
from fer_edge.edge_runtime.personal.correction import (
    MIN_LABELS,
    LeaveOneOut,
    Take,
    fit_offsets,
    leave_one_out,
)

NAME = re.compile(r"\w(?:[\w -]{0,38}[\w-])?")  # letters of any script, digits, spaces, _ and -: a file name everywhere
VERSION = 1
SUFFIX = ".json"
MAX_OFFSET = 20.0  # far beyond any fit: a probability changes by a factor of 500 million


class PersonError(ValueError):
    """A personal correction that cannot be used, or that does not help."""


@dataclass(frozen=True)
class Person:
    """The correction of one person.

    Attributes:
        name: Name of the person.
        model: File name of the model.
        model_sha256: Digest of the model without its contract.
        labels: Label names in the model's output order.
        offsets: Added to the log-probability of each label.
        takes: Number of images or takes by label.
        evaluation: Leave-one-out evaluation of the correction.

    Raises:
        ValueError: If the offsets do not fit the labels, or the version is unknown.
    """

    name: str
    model: str
    model_sha256: str
    labels: tuple[str, ...]
    offsets: tuple[float, ...]
    takes: dict[str, int]
    evaluation: LeaveOneOut
    version: int = VERSION

    def __post_init__(self) -> None:
        if self.version != VERSION:
            raise ValueError(f"version must be {VERSION}. Received: {self.version}")
        if len(self.offsets) != len(self.labels):
            raise ValueError(f"there must be one offset per label, {len(self.labels)}. Received: {len(self.offsets)}")
        for offset in self.offsets:
            if not (math.isfinite(offset) and abs(offset) <= MAX_OFFSET):
                raise ValueError(f"an offset must be between -{MAX_OFFSET:g} and {MAX_OFFSET:g}. Received: {offset}")


def people_folder() -> Path:
    """Return the folder of the personal files: ``fer-edge/people`` in $XDG_CONFIG_HOME or ~/.config."""
    return user_config_folder() / "people"


def person_file(name: str) -> Path:
    """Return the path of a person's file, which may not exist.

    Raises:
        PersonError: If the name is not valid.
    """
    composed = unicodedata.normalize("NFC", name)
    if not NAME.fullmatch(composed):
        raise PersonError(
            f"a person's name has 1 to 40 letters, digits, spaces, _ or -, and no space at its start or end. Received: '{name}'"
        )
    return people_folder() / f"{composed}{SUFFIX}"


def make_person(name: str, takes: Sequence[Take], model: str, model_sha256: str, labels: tuple[str, ...]) -> Person:
    """Fit the correction of a person and evaluate it by leave-one-out. Nothing is written.

    Args:
        name: Name of the person.
        takes: What the person showed, at least two expressions.
        model: File name of the model that labeled the takes.
        model_sha256: Its digest, see Classifier.sha256.
        labels: Its labels in output order.

    Raises:
        PersonError: If the name is not valid, there are fewer than two expressions, all labels are right without a correction,
            or the correction would make labels worse.
    """
    person_file(name)
    counts = Counter(take.label for take in takes)
    if len(counts) < MIN_LABELS:
        received = ", ".join(f"{count} of {label}" for label, count in counts.items()) or "none"
        raise PersonError(
            f"too few images: a correction needs at least {MIN_LABELS} different expressions. Received: {received}. "
            f"The labels of {model}: {', '.join(labels)}"
        )
    evaluation = leave_one_out(takes, labels)
    if evaluation.all_right_before:
        raise PersonError(
            f"there is nothing to correct, so nothing was stored: {model} labels all {len(takes)} images or takes right. "
            "Use it without --person, or add images that it labels wrong"
        )
    if not evaluation.is_useful:
        raise PersonError(
            f"the correction would make labels worse, so nothing was stored. Leave-one-out on {len(takes)} images or takes: "
            f"{describe(evaluation)}. Show each expression clearly, in the light and at the camera that you will use, and try "
            "again; or use the model without --person"
        )
    takes_by_label = {label: counts[label] for label in labels if counts[label]}
    offsets = fit_offsets(takes, labels)
    return Person(name, model, model_sha256, labels, offsets, takes_by_label, evaluation)


def describe(evaluation: LeaveOneOut) -> str:
    """Return an evaluation as text, such as ``50.0 -> 62.5 % correct, mean log-probability -1.21 -> -0.98``."""
    return (
        f"{evaluation.accuracy_before:.1%} -> {evaluation.accuracy_after:.1%} correct, mean log-probability of the right label "
        f"{evaluation.log_probability_before:.3f} -> {evaluation.log_probability_after:.3f}"
    )


def write_person(person: Person) -> Path:
    """Store a person's correction. Only the user can read the file. An earlier file of that name is replaced.

    Returns:
        The path of the file.

    Raises:
        PersonError: If the name is not valid.
        OSError: If the file cannot be written.
    """
    path = person_file(person.name)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.touch(0o600)
        temporary.write_text(json.dumps(to_data(person), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def read_person(name: str) -> Person:
    """Read a person's correction.

    Raises:
        PersonError: If the name is not valid, or the file is damaged.
        FileNotFoundError: If there is no such person.
        OSError: If the file cannot be read.
    """
    path = person_file(name)
    if not path.is_file():
        known = ", ".join(person_names())
        remedy = f"Stored: {known}" if known else "None is stored"
        raise FileNotFoundError(f"no personal file of '{name}'. {remedy}. Make one: fer-edge personalize NAME")
    try:
        return from_data(Person, json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:  # json.JSONDecodeError and UnicodeDecodeError are two
        raise PersonError(
            f"the personal file {path} is damaged ({error}). Delete it: fer-edge personalize --delete '{name}'"
        ) from error


def read_offsets(name: str, model: str, model_sha256: str, labels: tuple[str, ...]) -> tuple[float, ...]:
    """Return a person's offsets for a model.

    Args:
        name: Name of the person.
        model: File name of the model.
        model_sha256: Its digest, see Classifier.sha256.
        labels: Its labels in output order.

    Raises:
        PersonError: If the name is not valid, or the file is damaged or from another model.
        FileNotFoundError: If there is no such person.
    """
    person = read_person(name)
    if person.model_sha256 != model_sha256 or person.labels != labels:
        raise PersonError(
            f"the personal file of '{name}' is from another model, {person.model} with the labels {', '.join(person.labels)}. "
            f"It does not fit {model}. Pass that model with --model, or personalize again: fer-edge personalize '{name}'"
        )
    return person.offsets


def delete_person(name: str) -> None:
    """Delete a person's file.

    Raises:
        PersonError: If the name is not valid.
        FileNotFoundError: If there is no such person.
        OSError: If the file cannot be deleted.
    """
    path = person_file(name)
    if not path.is_file():
        known = ", ".join(person_names())
        raise FileNotFoundError(f"no personal file of '{name}'. {f'Stored: {known}' if known else 'None is stored'}")
    path.unlink()


def person_names() -> list[str]:
    """Return the names of the stored people, sorted."""
    folder = people_folder()
    files = folder.glob(f"*{SUFFIX}") if folder.is_dir() else ()
    return sorted(file.stem for file in files if NAME.fullmatch(file.stem))
