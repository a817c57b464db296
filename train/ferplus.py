"""FER+: the votes of ten annotators for each face of FER2013.

Source: Barsoum et al., 2016, https://arxiv.org/abs/1608.01041: votes below two are outliers, faces that most annotators mark as
unknown or as not a face are left out, and networks are measured on the faces whose majority is above half of the votes.
"""

import csv
import re
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.contract import CANONICAL_LABELS
from fer_edge.artifacts.reporter import SILENT, Reporter
from fer_edge.train.class_names import SYNONYMS
from fer_edge.train.dataset import DataError, FaceDataset
from fer_edge.train.official_splits import split_of_name

DATA_NAME = "ferplus"
NAME_COLUMN, USAGE_COLUMN = "name", "Usage"
OTHER_COLUMNS = ("unknown", "NF")  # NF: not a face
OUTLIER_VOTES = 1.5  # fewer votes for a class are an outlier. Images with copies have means of votes, which need not be whole
MAJORITY = 0.5
CSV_ROW = re.compile(r"row_(\d+)")  # the id of a face that was read from fer2013.csv
# The majority agrees with FER2013's own label on 63 % of the faces, and in a table of other faces on 18 %.
MIN_AGREEMENT = 0.5

Floats = npt.NDArray[np.float32]


def with_votes(faces: FaceDataset, path: str | Path, reporter: Reporter = SILENT) -> FaceDataset:
    """Return the faces of FER2013 that have votes, labeled by their annotators.

    Args:
        faces: FER2013, read from image files or from its csv.
        path: A FER+ table. For image files it has the column ``name``, an image file per row; for the csv it is
            fer2013new.csv, whose rows are those of the csv.
        reporter: Receives a note with the number of faces that are left out.

    Returns:
        A dataset named ``ferplus`` with the eight classes of FER+. A target is the class with most votes. Faces that most
        annotators mark as unknown or as not a face are left out; ``skipped`` has their number.

    Raises:
        FileNotFoundError: If there is no such file.
        DataError: If it is not a FER+ table, or its rows do not belong to these faces.
    """
    rows = _read_table(Path(path))
    votes = _votes_by_name(rows, faces, path) if NAME_COLUMN in rows[0] else _votes_by_row(rows, faces, path)
    known = _without_outliers(votes)
    kept = np.flatnonzero((known.argmax(axis=1) < len(CANONICAL_LABELS)) & (known.max(axis=1) > 0))
    if not len(kept):
        raise DataError(f"{path} has votes for none of the {len(faces)} faces of {faces.name}. Give the table of these faces")
    targets = known[kept].argmax(axis=1).astype(np.int64)
    subset = faces.subset(kept)
    own = np.array([faces.labels[target] for target in subset.targets])
    agreement = float((own == np.array(CANONICAL_LABELS)[targets]).mean())
    if agreement < MIN_AGREEMENT:
        raise DataError(
            f"the votes in {path} agree with the labels of only {agreement:.0%} of the faces of {faces.name}, so its rows are "
            "those of other faces. Give the table of this data, in its original order"
        )
    left_out = f"left out {len(faces) - len(kept)} of {len(faces)} faces: annotators mark them as unknown or as not a face"
    if len(kept) < len(faces):
        reporter.note(left_out)
    return replace(
        subset,
        name=DATA_NAME,
        labels=CANONICAL_LABELS,
        targets=targets,
        votes=votes[kept],
        skipped=(*faces.skipped, left_out) if len(kept) < len(faces) else faces.skipped,
    )


def soft_labels(votes: Floats) -> Floats:
    """Return the distribution of the votes over the classes, without outliers.

    Args:
        votes: FaceDataset.votes, of faces with votes for a class.

    Returns:
        float32 array (n, classes), 0..1, with sum 1.
    """
    classes = _without_outliers(votes)[:, :-1]
    return classes / classes.sum(axis=1, keepdims=True)


def majority(votes: Floats) -> npt.NDArray[np.bool_]:
    """Return whether the class of each face has more than half of the votes that are not outliers, boolean array (n,)."""
    known = _without_outliers(votes)
    return known[:, :-1].max(axis=1) > MAJORITY * known.sum(axis=1)


def vote_shares(votes: Floats) -> Floats:
    """Return the fraction of all annotators who voted for each class, float32 array (n, classes), 0..1."""
    return votes[:, :-1] / votes.sum(axis=1, keepdims=True)


def _without_outliers(votes: Floats) -> Floats:
    return np.where(votes < OUTLIER_VOTES, np.float32(0), votes)


def check_table(path: str | Path) -> None:
    """Check a FER+ table before the faces are read.

    Raises:
        FileNotFoundError: If there is no such file.
        DataError: If it is not a FER+ table.
    """
    _read_table(Path(path))


def names_of_faces(path: str | Path) -> frozenset[str]:
    """Return the images that no annotator calls "not a face", as class folder and file name.

    Args:
        path: A FER+ table with the column ``name``.

    Raises:
        FileNotFoundError: If there is no such file.
        DataError: If it is not such a table.
    """
    rows = _read_table(Path(path))
    if NAME_COLUMN not in rows[0]:
        raise DataError(f"{path} has no column '{NAME_COLUMN}', so its rows cannot be matched to image files")
    return frozenset(path_in_split(row[NAME_COLUMN]) for row in rows if not float(row[OTHER_COLUMNS[1]] or 0) >= 1)


def _read_table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a FER+ table, with the columns of the votes named by class."""
    if not path.is_file():
        raise FileNotFoundError(f"no FER+ table '{path}'. Get fer2013new.csv from https://github.com/microsoft/FERPlus")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            rows = [{SYNONYMS.get(key, key): value for key, value in row.items() if key} for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a FER+ table ({error}). Give fer2013new.csv") from error
    columns = set(rows[0]) if rows else set()
    missing = {*CANONICAL_LABELS, *OTHER_COLUMNS} - columns
    if missing or not columns & {NAME_COLUMN, USAGE_COLUMN}:
        lacks = sorted(missing) or [f"{NAME_COLUMN} or {USAGE_COLUMN}"]
        found = ", ".join(sorted(columns)) or "no rows"
        raise DataError(f"{path} is not a FER+ table: it lacks {', '.join(lacks)}; it has: {found}")
    return rows


def _parse_votes(row: dict[str, str], number: int, path: str | Path) -> list[float]:
    """Return the votes of one row: per class, then for unknown and not a face together."""
    texts = [row[column] for column in (*CANONICAL_LABELS, *OTHER_COLUMNS)]
    if not all(texts):
        raise DataError(f"row {number} of {path} lacks votes. Get the table again")
    try:
        values = [float(text) for text in texts]
    except ValueError as error:
        raise DataError(f"row {number} of {path} has votes that are not numbers ({error}). Get the table again") from error
    if not all(0 <= value < float("inf") for value in values):
        raise DataError(f"row {number} of {path} has votes below 0 or infinite. Get the table again")
    classes = len(CANONICAL_LABELS)
    return [*values[:classes], sum(values[classes:])]


def _votes_by_name(rows: list[dict[str, str]], faces: FaceDataset, path: str | Path) -> Floats:
    """Match rows to image files. A face without a row is not a face: it gets no votes."""
    names: dict[str, list[float]] = {}
    for number, row in enumerate(rows, start=1):
        name = path_in_split(row[NAME_COLUMN])
        if name in names:
            raise DataError(f"{path} has two rows for '{name}'. Get the table again")
        names[name] = _parse_votes(row, number, path)
    nobody = [0.0] * (len(CANONICAL_LABELS) + 1)
    return np.array([names.get(path_in_split(face), nobody) for face in faces.ids], np.float32)


def path_in_split(name: str) -> str:
    """Return class folder and file name of an image: copies of an image in two classes have the same file name."""
    return "/".join(PurePosixPath(name).parts[-2:])


def _votes_by_row(rows: list[dict[str, str]], faces: FaceDataset, path: str | Path) -> Floats:
    """Match rows to the rows of fer2013.csv. The numbers in the column "Image name" are not row numbers."""
    matches = [CSV_ROW.fullmatch(face) for face in faces.ids]
    indices = [int(match[1]) for match in matches if match]
    if len(indices) < len(faces):
        raise DataError(
            f"{path} has one row per row of fer2013.csv, so it needs --data fer2013.csv. For image files, use a table with the "
            f"column '{NAME_COLUMN}'. Received: face '{faces.ids[matches.index(None)]}'"
        )
    remedy = "Rows were filtered or shuffled: use both files as downloaded"
    last = max(indices)
    # Rows at the end may be damaged, or their class may be left out.
    if last >= len(rows) or (last + 1 + len(faces.skipped) < len(rows) and not faces.label_map):
        raise DataError(f"{path} has {len(rows)} rows, {faces.name} has {last + 1}. {remedy}")
    for index, split in zip(indices, faces.official_split, strict=True):
        usage = rows[index][USAGE_COLUMN]
        if split_of_name(usage) != split:
            raise DataError(f"row {index + 1} of {path} is '{usage}', {faces.name} has it in split '{split}'. {remedy}")
    return np.array([_parse_votes(rows[index], index + 1, path) for index in indices], np.float32)
