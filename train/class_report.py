"""Check and report the classes of training data: how many there are, and how many faces each has."""

from collections.abc import Mapping

import numpy as np

from fer_edge.artifacts.contract import CANONICAL_LABELS
from fer_edge.artifacts.reporter import Reporter
from fer_edge.train.class_names import DROP, list_names, unknown_names
from fer_edge.train.dataset import DataError, FaceDataset

MIN_CLASSES = 2
MIN_IMAGES = 2  # of a class: one to train, one to test
FEW_CLASSES = 4
FEW_FACES = 10
LARGE_RATIO = 5  # of the largest to the smallest class; CK+48 has 4.6, FER2013 16.5


def check_trainable(counts: Mapping[str, int]) -> None:
    """Check that a network can learn the classes.

    Args:
        counts: Number of images per label.

    Raises:
        DataError: If there is one class, or a class has one image.
    """
    if len(counts) < MIN_CLASSES:
        raise DataError(f"training needs at least {MIN_CLASSES} classes. Received: {', '.join(counts) or 'none'}")
    for label, count in sorted(counts.items()):
        if count < MIN_IMAGES:
            raise DataError(
                f"the class '{label}' has {count} image; a class needs at least {MIN_IMAGES}, one to train and one to test. "
                f"Add images, or leave the class out: --map '{label}={DROP}'"
            )


def report_classes(faces: FaceDataset, reporter: Reporter) -> None:
    """Report what limits a network on these classes: names that are not known, few classes, few faces, unequal sizes.

    Args:
        faces: The dataset.
        reporter: Receives notes, and a warning of classes with few faces.
    """
    counts = dict(zip(faces.labels, np.bincount(faces.targets, minlength=len(faces.labels)).tolist(), strict=True))
    if not set(faces.labels) <= set(CANONICAL_LABELS):
        unknown = unknown_names(faces.labels)
        reporter.note(f"{len(faces.labels)} classes with the names of the data; not a known expression: {list_names(unknown)}")
    if len(counts) <= FEW_CLASSES:
        largest = max(counts, key=counts.__getitem__)
        share = counts[largest] / len(faces)
        reporter.note(
            f"only {len(counts)} classes: a guess is right in {1 / len(counts):.0%} of the cases, and always '{largest}' in "
            f"{share:.0%}. The model gives every face one of these labels, whatever it shows"
        )
    by_count = sorted(counts, key=lambda label: (counts[label], label))
    named = [f"{label} {counts[label]}" for label in by_count]
    if counts[by_count[-1]] >= LARGE_RATIO * counts[by_count[0]]:
        reporter.note(
            f"the classes differ in size: {list_names(named)}. Rare classes are recognized less often; "
            "--set class_weight_power=0.5 gives them more weight"
        )
    few = [text for label, text in zip(by_count, named, strict=True) if counts[label] < FEW_FACES]
    if few:
        reporter.warn(
            f"classes of fewer than {FEW_FACES} faces: {list_names(few)}. A network hardly learns them, and their scores say "
            f"little. Add images, or leave a class out: --map CLASS={DROP}"
        )
