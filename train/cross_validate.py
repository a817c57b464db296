"""Several folds and seeds of one network: which runs they are."""

from collections.abc import Sequence

from fer_edge.train.dataset import DataError, FaceDataset
from fer_edge.train.splits import AUTO, Split, make_split


def make_splits(
    faces: FaceDataset, name: str, seeds: Sequence[int], folds: int | None, fold: int | None
) -> list[tuple[int, Split]]:
    """Return the seed and the split of each run of a series: every seed, and with ``folds`` but no ``fold`` every fold.

    Raises:
        ValueError: If the name or the fold is unknown, or a seed comes twice.
        DataError: If the data cannot be split so, or has one class only.
    """
    if len(faces.labels) < 2:
        raise DataError(f"training needs faces of at least 2 classes; {faces.name} has '{faces.labels[0]}' only")
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"each seed must come once. Received: seeds={','.join(map(str, seeds))}")
    chosen: Sequence[int | None] = range(folds) if folds and fold is None and name in (AUTO, "subject") else [fold]
    return [(seed, make_split(faces, name, seed, one, folds)) for seed in seeds for one in chosen]
