"""A dataset of faces in memory: images, labels, subjects and official splits."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.contract import CropConvention
from fer_edge.artifacts.training_data import DataSummary, PhotoSummary
from fer_edge.edge_runtime.crop import preprocess_face
from fer_edge.edge_runtime.images import Image, import_cv2

OFFICIAL_SPLITS = ("train", "validation", "test", "private_test")


class DataError(ValueError):
    """A dataset that cannot be used as it is."""


@dataclass(frozen=True)
class FaceDataset:
    """A dataset of labeled face images.

    Attributes:
        name: Short name, used in file names.
        labels: Label names in canonical order; ``targets`` are indices into them.
        ids: One unique id per image: its path inside the dataset without the folders that all images share.
        images: uint8 arrays (height, width), gray, or (height, width, 3), RGB.
        targets: int64 array (n,).
        subjects: The person on each image; None where unknown.
        official_split: The split to which the dataset itself assigns each image, one of OFFICIAL_SPLITS; None where it
            assigns none.
        skipped: Images that were left out, one line each with the reason.
        label_map: Renamed classes, CLASS=LABEL each.
        crop: How the faces were cut out of whole photos; None where the images were face crops.
        photos: What was found in the photos; None likewise.
        notes: What a user should know about how the data was read.
        split_problem: Why the splits that the data seems to have cannot be used; None where they can, or there are none.
        votes: float32 array (n, classes + 1): number of annotators per class, then of those who chose no class; None where
            each image has one label only.
    """

    name: str
    labels: tuple[str, ...]
    ids: tuple[str, ...]
    images: tuple[Image, ...]
    targets: npt.NDArray[np.int64]
    subjects: tuple[str | None, ...]
    official_split: tuple[str | None, ...]
    skipped: tuple[str, ...] = ()
    label_map: tuple[str, ...] = ()
    crop: CropConvention | None = None
    photos: PhotoSummary | None = None
    notes: tuple[str, ...] = ()
    split_problem: str | None = None
    votes: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def digests(self) -> tuple[str, ...]:
        """Digest of the pixels of each image: equal for images that are equal pixel for pixel."""
        return tuple(
            hashlib.blake2b(repr(image.shape).encode() + image.tobytes(), digest_size=16).hexdigest() for image in self.images
        )

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the sorted labels and contents: equal for the same images, whatever their names are."""
        rows = sorted(zip((self.labels[target] for target in self.targets), self.digests, strict=True))
        return hashlib.sha256("\n".join("\t".join(row) for row in rows).encode()).hexdigest()

    @cached_property
    def resolution_px(self) -> int:
        """Median of the shorter sides, pixels: the resolution that training sees. Of photos, that of the crop."""
        if self.crop:
            return self.crop.training_resolution_px
        return int(np.median([min(image.shape[:2]) for image in self.images]))

    def summary(self) -> DataSummary:
        """Return the summary for run folders."""
        return DataSummary(
            self.name, self.fingerprint, len(self), self.resolution_px, self.skipped, self.label_map, self.photos
        )

    def mirrored(self) -> "FaceDataset":
        """Return the faces with left and right exchanged."""
        return replace(self, images=tuple(np.ascontiguousarray(image[:, ::-1]) for image in self.images))

    def subset(self, indices: npt.NDArray[np.intp]) -> "FaceDataset":
        """Return the faces at ``indices``, in that order."""
        return replace(
            self,
            ids=tuple(self.ids[i] for i in indices),
            images=tuple(self.images[i] for i in indices),
            targets=self.targets[indices],
            subjects=tuple(self.subjects[i] for i in indices),
            official_split=tuple(self.official_split[i] for i in indices),
            votes=None if self.votes is None else self.votes[indices],
        )

    def with_labels(self, labels: tuple[str, ...]) -> "FaceDataset":
        """Re-index the targets to ``labels`` and drop faces with any other label.

        Raises:
            DataError: If no face has one of these labels.
        """
        if labels == self.labels:
            return self
        keep = np.flatnonzero([self.labels[target] in labels for target in self.targets])
        if not len(keep):
            raise DataError(f"{self.name} has none of the labels {', '.join(labels)}; it has: {', '.join(self.labels)}")
        kept = self.subset(keep)
        targets = np.array([labels.index(self.labels[target]) for target in kept.targets], np.int64)
        votes = kept.votes
        if votes is not None:
            columns = [self.labels.index(label) for label in labels]
            other = votes.sum(axis=1) - votes[:, columns].sum(axis=1)
            votes = np.column_stack([votes[:, columns], other])
        return replace(kept, labels=labels, targets=targets, votes=votes)


def to_gray_batch(faces: FaceDataset, image_size: int, training_resolution_px: int) -> npt.NDArray[np.uint8]:
    """Return all faces as one gray batch at the network's input size.

    Args:
        faces: The faces.
        image_size: Side of the input, pixels.
        training_resolution_px: Resolution of the training faces; larger faces are first downscaled to it.

    Returns:
        uint8 array (n, image_size, image_size, 1).
    """
    batch = np.empty((len(faces), image_size, image_size, 1), np.uint8)
    for row, image in zip(batch, faces.images, strict=True):
        gray = image if image.ndim == 2 else import_cv2().cvtColor(image, import_cv2().COLOR_RGB2GRAY)
        row[:, :, 0] = preprocess_face(gray, image_size, training_resolution_px)
    return batch
