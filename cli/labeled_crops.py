"""Face crops of a dataset for the live benchmarks, read as training reads them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fer_edge.benchmarks.synthetic_scenes import LabeledCrop


def read_crops(data: str, split: str | None, labels: tuple[str, ...]) -> "list[LabeledCrop]":
    """Read gray face crops of a dataset.

    Args:
        data: Dataset; see ``fer_edge.train``.
        split: Only crops that the dataset puts in this split; None for all.
        labels: Only crops with these labels.

    Raises:
        FileNotFoundError: If the dataset does not exist.
        ValueError: If it cannot be read or has no such crops.
    """
    from fer_edge.benchmarks.synthetic_scenes import LabeledCrop, to_gray
    from fer_edge.train.read_dataset import read_faces
    from fer_edge.train.read_options import CROPS, ReadOptions

    faces = read_faces(data, ReadOptions(faces=CROPS))
    rows = zip(faces.ids, faces.targets, faces.images, faces.official_split, strict=True)
    crops = [
        LabeledCrop(name, faces.labels[target], to_gray(image))
        for name, target, image, of_split in rows
        if faces.labels[target] in labels and split in (None, of_split)
    ]
    if not crops:
        raise ValueError(f"'{data}' has no faces with the labels {', '.join(labels)} in the split '{split}'")
    return crops
