"""What a model's training data was, and how its faces were divided."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from fer_edge.artifacts.printable import JOINERS

NAME = re.compile(r"[a-z0-9_-]+")
MAX_LABEL_CHARACTERS = 64


def check_name(kind: str, name: str) -> str:
    """Return a name that becomes part of file names, checked.

    Args:
        kind: What it names, for the error.
        name: Lower-case letters, digits, ``_`` and ``-``.

    Raises:
        ValueError: If it has any other character, such as a path separator.
    """
    if not NAME.fullmatch(name):
        raise ValueError(f"{kind} may contain only a-z, 0-9, _ and -. Received: {name!r}")
    return name


def check_labels(labels: Sequence[str]) -> None:
    """Check the labels of a dataset or a model.

    Raises:
        ValueError: If a label is not 1 to 64 printable characters, starts or ends with a space, or occurs twice.
    """
    for label in labels:
        if not label or len(label) > MAX_LABEL_CHARACTERS:
            raise ValueError(f"a label has 1 to {MAX_LABEL_CHARACTERS} characters. Received: {len(label)} ({label[:80]!a})")
        if not all(character.isprintable() or character in JOINERS for character in label):
            raise ValueError(f"a label has no control characters and is valid Unicode. Received: {label!a}")
        if label != label.strip():
            raise ValueError(f"a label does not start or end with a space. Received: {label!a}")
    twice = sorted({label for label in labels if list(labels).count(label) > 1})
    if twice:
        raise ValueError(f"labels must be distinct. Received twice: {', '.join(twice)}")


def check_range(what: str, value: float, limits: tuple[float, float]) -> None:
    """Check a number.

    Args:
        what: Its name, for the error.
        value: The number.
        limits: Its minimum and maximum.

    Raises:
        ValueError: If it is outside.
    """
    low, high = limits
    if not low <= value <= high:
        raise ValueError(f"{what} must be between {low:g} and {high:g}. Received: {value:.6g}")


@dataclass(frozen=True)
class PhotoSummary:
    """How the faces of a dataset were cut out of whole photos.

    Attributes:
        detector: Name of the detector.
        images: Number of images.
        without_face: Number of images in which the detector found no face. They are left out.
        several_faces: Number of images with several faces, of which the largest was taken.
        face_crops: Number of images that were small face crops already and were left as they are.
    """

    detector: str
    images: int
    without_face: int
    several_faces: int
    face_crops: int

    def message(self) -> str:
        """Return one line for people."""
        found = self.images - self.without_face - self.face_crops
        parts = [f"faces cut out of {found} of {self.images} photos by the detector {self.detector}"]
        if self.face_crops:
            parts.append(f"small face crops, unchanged: {self.face_crops}")
        parts.append(f"without a face, left out: {self.without_face}")
        parts.append(f"with several faces, the largest taken: {self.several_faces}")
        return "; ".join(parts)


@dataclass(frozen=True)
class DataSummary:
    """The dataset of a training run.

    Attributes:
        name: Short name, used in file names.
        fingerprint: sha256 over the labels and pixels of all images.
        images: Number of images.
        resolution_px: Median of the shorter sides, pixels.
        skipped: Images that could not be used, one line each with the reason.
        label_map: Renamed classes, CLASS=LABEL each.
        photos: How its faces were cut out of whole photos; None where the images were face crops.

    Raises:
        ValueError: If the name cannot be part of a file name.
    """

    name: str
    fingerprint: str
    images: int
    resolution_px: int
    skipped: tuple[str, ...] = ()
    label_map: tuple[str, ...] = ()
    photos: PhotoSummary | None = None

    def __post_init__(self) -> None:
        check_name("the name of a dataset", self.name)


@dataclass(frozen=True)
class Leakage:
    """What the test split shares with training and validation.

    Attributes:
        identical_images: Test images with a pixel-identical copy in training or validation.
        shared_subjects: People in both; None where the data does not identify people.
        test_images_of_shared_subjects: Test images of these people; None likewise.
        leaky: Whether any of this inflates the reported metrics.
    """

    identical_images: int
    shared_subjects: int | None
    test_images_of_shared_subjects: int | None
    leaky: bool

    def warning(self) -> str | None:
        """Return one line for reports; None without leakage."""
        if not self.leaky:
            return None
        reasons, people = [], self.shared_subjects
        if people:
            reasons.append(f"{self.test_images_of_shared_subjects} test images show {_people(people)} seen in training")
        if self.identical_images:
            reasons.append(f"{self.identical_images} test images have pixel-identical copies in training")
        return "leaky split: " + "; ".join(reasons)


def _people(count: int) -> str:
    return "1 person" if count == 1 else f"{count} people"


@dataclass(frozen=True)
class SplitCounts:
    """Number of images per split."""

    train: int
    validation: int
    test: int


@dataclass(frozen=True)
class SplitSummary:
    """How a dataset was divided.

    Attributes:
        protocol: ``paper``, ``subject`` or ``official``.
        seed: Seed of the random choices.
        fold: Which fold is the test split; None for a single division.
        folds: Number of folds; None for a single division.
        counts: Number of images per split.
        train_digest: sha256 over the sorted ids of the training images.
        leakage: What test shares with training.
        validation_in_training: Whether the validation images were trained on, after an earlier run had used them to choose.

    Raises:
        ValueError: If the protocol cannot be part of a file name.
    """

    protocol: str
    seed: int
    fold: int | None
    folds: int | None
    counts: SplitCounts
    train_digest: str
    leakage: Leakage
    validation_in_training: bool = False

    def __post_init__(self) -> None:
        check_name("the protocol of a split", self.protocol)

    @property
    def title(self) -> str:
        """Short name for tables: ``paper`` or ``subject 3/10``."""
        return self.protocol if self.fold is None else f"{self.protocol} {self.fold}/{self.folds}"


@dataclass(frozen=True)
class SplitIds:
    """The ids of the images in each split."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
