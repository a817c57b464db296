"""Faces: the pictures, labels, subjects and official parts of one dataset, in memory."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from fer_edge.edge_runtime.crop import preprocess_face
from fer_edge.edge_runtime.images import Image, import_cv2

PARTS = ("train", "validation", "test", "private_test")


class DataError(ValueError):
    """A dataset that cannot be used as it is."""


@dataclass(frozen=True)
class FaceDataset:
    """A dataset of labelled face pictures.

    Attributes:
        name: Short name, used in file names.
        labels: Label names in canonical order; ``targets`` index into them.
        ids: One unique id per picture, its path inside the dataset without the folders that all pictures share.
        images: uint8 arrays (height, width), grey, or (height, width, 3), RGB.
        targets: int64 array (n,).
        subjects: The person on each picture, None where unknown.
        parts: The part the dataset itself puts each picture in (one of PARTS), None where it has none.
        skipped: What was left out, and why, one line each.
        label_map: How classes were renamed, CLASS=LABEL each.
    """

    name: str
    labels: tuple[str, ...]
    ids: tuple[str, ...]
    images: tuple[Image, ...]
    targets: npt.NDArray[np.int64]
    subjects: tuple[str | None, ...]
    parts: tuple[str | None, ...]
    skipped: tuple[str, ...] = ()
    label_map: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def digests(self) -> tuple[str, ...]:
        """Digest of each picture's pixels: equal for pictures that are equal pixel for pixel."""
        return tuple(
            hashlib.blake2b(repr(image.shape).encode() + image.tobytes(), digest_size=16).hexdigest() for image in self.images
        )

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the sorted labels and contents: the same pictures give the same one, whatever they are called."""
        rows = sorted(zip((self.labels[target] for target in self.targets), self.digests, strict=True))
        return hashlib.sha256("\n".join("\t".join(row) for row in rows).encode()).hexdigest()

    @cached_property
    def resolution_px(self) -> int:
        """Median of the shorter sides: the resolution the network sees in training."""
        return int(np.median([min(image.shape[:2]) for image in self.images]))

    def take(self, indices: npt.NDArray[np.intp]) -> "FaceDataset":
        """Return the faces at ``indices``, in that order."""
        return replace(
            self,
            ids=tuple(self.ids[i] for i in indices),
            images=tuple(self.images[i] for i in indices),
            targets=self.targets[indices],
            subjects=tuple(self.subjects[i] for i in indices),
            parts=tuple(self.parts[i] for i in indices),
        )

    def with_labels(self, labels: tuple[str, ...]) -> "FaceDataset":
        """Re-index the targets to ``labels`` and drop faces whose label is not among them.

        Raises:
            DataError: If no face has one of these labels.
        """
        if labels == self.labels:
            return self
        keep = np.flatnonzero([self.labels[target] in labels for target in self.targets])
        if not len(keep):
            raise DataError(f"{self.name} has none of the labels {', '.join(labels)}; it has: {', '.join(self.labels)}")
        kept = self.take(keep)
        targets = np.array([labels.index(self.labels[target]) for target in kept.targets], np.int64)
        return replace(kept, labels=labels, targets=targets)


def to_gray_batch(faces: FaceDataset, image_size: int, training_resolution_px: int) -> npt.NDArray[np.uint8]:
    """Return all faces as one grey batch at the network's input size.

    Returns:
        uint8 array (n, image_size, image_size, 1).
    """
    batch = np.empty((len(faces), image_size, image_size, 1), np.uint8)
    for row, image in zip(batch, faces.images, strict=True):
        grey = image if image.ndim == 2 else import_cv2().cvtColor(image, import_cv2().COLOR_RGB2GRAY)
        row[:, :, 0] = preprocess_face(grey, image_size, training_resolution_px)
    return batch
