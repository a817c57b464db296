"""What a reader collects from a dataset, and the dataset made of it."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fer_edge.artifacts.contract import CropConvention
from fer_edge.artifacts.training_data import PhotoSummary
from fer_edge.edge_runtime.images import Image
from fer_edge.train.class_names import ordered_labels
from fer_edge.train.dataset import DataError, FaceDataset
from fer_edge.train.official_splits import resolve_splits

MAX_SKIPPED_FRACTION = 0.01


@dataclass
class Rows:
    """What a reader collects: one entry per image.

    Attributes:
        ids: One unique id per image.
        images: uint8 arrays (height, width), gray, or (height, width, 3), RGB.
        labels: Label of each image.
        subjects: Person on each image; None where unknown.
        official_split: Split that the data assigns, from official_splits; None where it assigns none.
        unknown_splits: Names that may mean splits but are not understood.
        skipped: Images that are damaged, one line each. More than a few are an error.
        without_face: Photos without a face, one line each. They are not a fault of the data.
        crop: How faces were cut out of photos; None where the images are face crops.
        photos: What was found in the photos; None likewise.
        notes: What a user should know about how the data was read.
    """

    ids: list[str] = field(default_factory=list)
    images: list[Image] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    subjects: list[str | None] = field(default_factory=list)
    official_split: list[str | None] = field(default_factory=list)
    unknown_splits: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    without_face: list[str] = field(default_factory=list)
    crop: CropConvention | None = None
    photos: PhotoSummary | None = None
    notes: tuple[str, ...] = ()

    def add(self, name: str, image: Image, label: str, subject: str | None, official_split: str | None) -> None:
        """Add an image.

        Args:
            name: Its id.
            image: uint8 array (height, width) or (height, width, 3).
            label: Its label.
            subject: The person on it; None if unknown.
            official_split: The split that the data assigns; None if it assigns none.
        """
        self.ids.append(name)
        self.images.append(image)
        self.labels.append(label)
        self.subjects.append(subject)
        self.official_split.append(official_split)

    def to_dataset(self, path: Path) -> FaceDataset:
        """Return the rows as a dataset.

        Raises:
            DataError: If there are none, or too many images are damaged.
        """
        total = len(self.ids) + len(self.skipped)
        if not self.ids:
            left_out = [*self.skipped, *self.without_face]
            reason = f"; {len(left_out)} could not be used, first: {left_out[0]}" if left_out else ""
            raise DataError(f"{path} has no usable images{reason}")
        if len(self.skipped) > MAX_SKIPPED_FRACTION * total:
            raise DataError(
                f"{len(self.skipped)} of {total} images in {path} cannot be used, more than {MAX_SKIPPED_FRACTION:.0%}. "
                f"First: {'; '.join(self.skipped[:3])}"
            )
        labels = ordered_labels(self.labels)
        official = resolve_splits(self.official_split, self.unknown_splits)
        index = {label: number for number, label in enumerate(labels)}
        return FaceDataset(
            name=re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-") or "data",
            labels=labels,
            ids=tuple(self.ids),
            images=tuple(self.images),
            targets=np.array([index[label] for label in self.labels], np.int64),
            subjects=tuple(self.subjects),
            official_split=official.splits,
            skipped=(*self.skipped, *self.without_face),
            crop=self.crop,
            photos=self.photos,
            notes=(*self.notes, *official.notes),
            split_problem=official.problem,
        )
