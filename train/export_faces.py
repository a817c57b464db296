"""Export the faces of a dataset, see artifacts/exported_faces.py."""

from collections.abc import Sequence

import numpy as np

from fer_edge.artifacts.exported_faces import SPLITS, ExportedFaces
from fer_edge.train.dataset import FaceDataset, to_gray_batch
from fer_edge.train.ferplus import majority, vote_shares
from fer_edge.train.splits import Split, leakage, make_splits

ALL = "all"


def export_faces(
    faces: FaceDataset, protocol: str, seeds: Sequence[int] = (0,), folds: int | None = None, image_size: int = 48
) -> ExportedFaces:
    """Return the faces of a dataset as one gray batch, with the division of each run.

    Args:
        faces: The dataset.
        protocol: ``paper``, ``subject``, ``official`` or ``auto``, see make_split; ``all`` puts every face in the split test.
        seeds: One division per seed.
        folds: Number of folds of the protocol ``subject``: one division per fold and seed.
        image_size: Side of the exported faces, pixels.

    Raises:
        ValueError: If the protocol, the seeds or the folds cannot be used.
        DataError: If the data cannot be divided in this way.
    """
    if image_size < 1:
        raise ValueError(f"the size of the exported faces must be at least 1 pixel. Received: {image_size}")
    divided = [] if protocol == ALL else make_splits(faces, protocol, seeds, folds, None)
    rows = [_division(faces, split) for _, split in divided] or [np.full(len(faces), SPLITS.index("test"), np.int8)]
    return ExportedFaces(
        data=faces.name,
        fingerprint=faces.fingerprint,
        labels=faces.labels,
        ids=faces.ids,
        images=to_gray_batch(faces, image_size, faces.resolution_px)[..., 0],
        targets=faces.targets,
        protocol=divided[0][1].protocol if divided else ALL,
        leaky=any(leakage(faces, split).leaky for _, split in divided),
        runs=tuple(_title(split) for _, split in divided) or (ALL,),
        divisions=np.stack(rows),
        vote_shares=None if faces.votes is None else vote_shares(faces.votes),
        majority=None if faces.votes is None else majority(faces.votes),
    )


def _division(faces: FaceDataset, split: Split) -> "np.ndarray[tuple[int], np.dtype[np.int8]]":
    row = np.zeros(len(faces), np.int8)
    for name in SPLITS[1:]:
        row[getattr(split, name)] = SPLITS.index(name)
    return row


def _title(split: Split) -> str:
    return f"seed {split.seed}" if split.fold is None else f"seed {split.seed}, fold {split.fold}/{split.folds}"
