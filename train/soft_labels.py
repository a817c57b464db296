"""The label distribution of each training face: its class, the votes of FER+, the teachers' probabilities, or a mixture."""

import csv
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.training_plan import Plan
from fer_edge.train.dataset import DataError, FaceDataset
from fer_edge.train.distill import check_teachers, teacher_labels
from fer_edge.train.read_dataset import SYNONYMS
from fer_edge.train.splits import Split

# FER+ has one row per row of fer2013.csv. Image files that were made from it (Training_*.jpg) are numbered differently.
CSV_ROW = re.compile(r"row_(\d+)")

Floats = npt.NDArray[np.float32]


def training_labels(plan: Plan, faces: FaceDataset, split: Split, cache: Path) -> Floats:
    """Return the label distribution of each training face.

    Args:
        plan: It names the teachers, their weight and the FER+ table.
        faces: The dataset.
        split: Its division.
        cache: Folder for the teachers' probabilities.

    Returns:
        float32 array (len(split.train), classes), 0..1.

    Raises:
        FileNotFoundError: If a teacher or the table does not exist.
        ValueError: If a teacher cannot teach this data, or the table is not a FER+ table.
    """
    check_teachers(plan.teachers, faces, split)
    labels = np.eye(len(faces.labels), dtype=np.float32)[faces.targets]
    if plan.ferplus:
        labels = ferplus_labels(Path(plan.ferplus), faces)
    labels = labels[split.train]
    if plan.teachers:
        weight = plan.recipe.distillation_weight
        soft = teacher_labels(plan.teachers, faces, split.train, plan.recipe.teacher_temperature, cache)
        labels = (1 - weight) * labels + weight * soft
    return labels


def ferplus_labels(path: Path, faces: FaceDataset) -> Floats:
    """Return the votes of ten people for each face of FER2013.

    Args:
        path: fer2013new.csv of FER+: Usage, Image name, one column of votes per class, unknown, NF.
        faces: FER2013, read from its csv.

    Returns:
        float32 array (n, classes), 0..1: fractions of the votes for the classes of the data. A face without such votes (unknown
        or not a face) keeps the label of the data.

    Raises:
        FileNotFoundError: If there is no such file.
        DataError: If it is not a FER+ table, or the faces are not those of FER2013.

    Source: Barsoum et al., 2016, https://arxiv.org/abs/1608.01041.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no FER+ table '{path}'. Get fer2013new.csv from https://github.com/microsoft/FERPlus")
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        table = list(reader)
    columns = {SYNONYMS.get(name.lower(), name.lower()): name for name in reader.fieldnames or () if name}
    missing = set(faces.labels) - set(columns)
    if missing:
        raise DataError(f"{path} has no votes for {', '.join(sorted(missing))}; its columns: {', '.join(columns) or 'none'}")
    rows = [_row_of(name) for name in faces.ids]
    if max(rows) >= len(table):
        raise DataError(f"{path} has {len(table)} rows, the faces need {max(rows) + 1}. Fetch it again")
    votes = np.array([[float(table[row][columns[label]] or 0) for label in faces.labels] for row in rows], np.float32)
    known = votes.sum(axis=1, keepdims=True)
    one_hot = np.eye(len(faces.labels), dtype=np.float32)[faces.targets]
    return np.where(known > 0, votes / np.maximum(known, 1), one_hot)


def _row_of(name: str) -> int:
    match = CSV_ROW.fullmatch(name)
    if not match:
        raise DataError(
            f"FER+ is ordered like the rows of fer2013.csv, so train on that file: --data fer2013.csv. Received: face '{name}'"
        )
    return int(match[1])
