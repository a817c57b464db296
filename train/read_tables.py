"""Read tables of faces, such as FER2013's csv: a class (emotion), pixels (48 x 48 numbers) and a split (Usage) per row.

Source: Goodfellow et al., 2013, Kaggle challenge.
"""

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from fer_edge.artifacts.reporter import Progress
from fer_edge.edge_runtime.images import Image
from fer_edge.train.class_names import assign_labels, count_labels, list_names
from fer_edge.train.dataset import DataError
from fer_edge.train.dataset_files import archive_kind
from fer_edge.train.dataset_rows import Rows
from fer_edge.train.official_splits import split_of_name
from fer_edge.train.read_options import ReadOptions

# 0 to 6 are FER2013's. The extended CK+ in the same form adds contempt.
CODES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "contempt")
COLUMNS = {
    **dict.fromkeys(("emotion", "emotions", "label", "labels", "class", "expression"), "class"),
    **dict.fromkeys(("pixels", "pixel", "pixel values"), "pixels"),
    **dict.fromkeys(("usage", "split", "subset", "partition"), "split"),
}
EXCEL_SEPARATOR = re.compile(r"sep=.\r?\n")  # the first line by which Excel states the separator
MIN_SIDE = 16  # pixels of a face
SEPARATORS = str.maketrans(dict.fromkeys("[](),;", " "))
MAX_SHOWN = 40  # characters of the data in a message


@dataclass(frozen=True)
class Table:
    """A table of faces.

    Attributes:
        name: Its path in the dataset.
        rows: By column: class, pixels and split, as text. A column that the table lacks is missing.
        columns: Which of these columns the table has.
        titles: The titles of its columns, as in the file.
    """

    name: str
    rows: tuple[dict[str, str], ...]
    columns: frozenset[str]
    titles: tuple[str, ...]

    @property
    def has_faces(self) -> bool:
        """Whether it has classes and pixels."""
        return {"class", "pixels"} <= self.columns

    def split_of_row(self, row: Mapping[str, str]) -> str | None:
        """Return the official split of a row: by its column, otherwise by the path of the table."""
        if "split" in self.columns:
            return split_of_name(row["split"])
        path = PurePosixPath(self.name)
        return next((split for name in (path.stem, *reversed(path.parent.parts)) if (split := split_of_name(name))), None)


def read_tables(contents: Mapping[str, bytes], source: str, options: ReadOptions, progress: Progress | None = None) -> Rows:
    """Read all tables of a dataset together.

    Args:
        contents: Content of each table by name.
        source: The dataset, for errors.
        options: Renamed classes, and the check of the number of rows per class.
        progress: Called with (rows read, number of rows).

    Raises:
        DataError: If no table has faces, or a class cannot be used.
    """
    tables, notes = _choose_tables([_parse_table(name, data) for name, data in contents.items()], source)
    counts = Counter(name for table in tables for row in table.rows if (name := _known_class(row)))
    label_of_class = assign_labels(counts, options.parsed_label_map(), source)
    options.report_counts(count_labels(counts, label_of_class))
    rows, total = Rows(notes=notes), sum(len(table.rows) for table in tables)
    for table in tables:
        prefix = "" if len(tables) == 1 else f"{PurePosixPath(table.name).with_suffix('')}/"
        before = len(rows.ids) + len(rows.skipped)
        for number, row in enumerate(table.rows):
            try:
                label = label_of_class[_class_of(row)]
                image = _pixels_of(row)
            except ValueError as error:
                rows.skipped.append(f"cannot read row {number} of {PurePosixPath(table.name).name} ({error})")
            else:
                if label:
                    rows.add(f"{prefix}row_{number:05d}", image, label, None, table.split_of_row(row))
            if progress:
                progress(before + number + 1, total)
    rows.unknown_splits = _unknown_splits(tables)
    return rows


def _choose_tables(tables: Sequence[Table], source: str) -> tuple[list[Table], tuple[str, ...]]:
    """Return the tables to read, and notes on the others. Kaggle's zip has FER2013 whole and, without splits, in parts."""
    chosen = [table for table in tables if table.has_faces]
    if not chosen:
        first, more = tables[0], f" (and {len(tables) - 1} more tables likewise)" if len(tables) > 1 else ""
        lacks = ", ".join(title for title in ("emotion", "pixels") if COLUMNS[title] not in first.columns)
        has = list_names([title[:MAX_SHOWN] for title in first.titles]) or "none"
        raise DataError(f"{first.name} of {source} lacks the columns {lacks}; it has: {has}{more}. Give FER2013's csv")
    with_splits = [table for table in chosen if "split" in table.columns]
    chosen = with_splits or chosen
    others = [table.name for table in tables if table not in chosen]
    notes = (f"read {list_names([table.name for table in chosen])}; left out {list_names(others)}",) if others else ()
    return chosen, notes


def _unknown_splits(tables: Sequence[Table]) -> list[str]:
    """Return words for splits that are not understood, and the names of several tables that name no split."""
    words = {row["split"].strip()[:MAX_SHOWN] for table in tables if "split" in table.columns for row in table.rows}
    unknown = {word for word in words if word and not split_of_name(word)}
    if len(tables) > 1:
        unknown |= {table.name for table in tables if "split" not in table.columns and not table.split_of_row({})}
    return sorted(unknown)


def _parse_table(name: str, data: bytes) -> Table:
    """Parse a csv in any common form: comma, semicolon or tab; UTF-8 or UTF-16."""
    if archive := archive_kind(data[:400]) or ("zip" if data.startswith(b"PK\x03\x04") else None):
        raise DataError(f"{name} is a {archive} archive, not a csv. Unpack it")
    csv.field_size_limit(1 << 20)
    text = _decode(data)
    if "\0" in text[:MAX_SHOWN]:
        raise DataError(f"{name} is not a text file. Give a csv, a folder or a zip")
    text = EXCEL_SEPARATOR.sub("", text.lstrip())
    header = text.partition("\n")[0]
    delimiter = max(",;\t|", key=header.count)
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise DataError(f"{name} cannot be read as a csv ({error})") from error
    titles = [title.strip() for title in lines[0]] if lines else []
    columns = [COLUMNS.get(title.lower()) for title in titles]
    if "split" not in columns:
        columns = _with_split_column(columns, lines[1:])
    rows = tuple(
        {column: (row[index] if index < len(row) else "") for index, column in enumerate(columns) if column}
        for row in lines[1:]
        if any(row)
    )
    return Table(name, rows, frozenset(column for column in columns if column), tuple(filter(None, titles)))


def _with_split_column(columns: Sequence[str | None], lines: Sequence[Sequence[str]]) -> list[str | None]:
    """Return the columns with the split column by its content: every value of it names a split, and there are several."""
    for index, column in enumerate(columns):
        values = {line[index] if index < len(line) else "" for line in lines if any(line)} if column is None else set()
        if len(values) > 1 and all(len(value) <= MAX_SHOWN and split_of_name(value) for value in values):
            return [*columns[:index], "split", *columns[index + 1 :]]
    return list(columns)


def _decode(data: bytes) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace")
    if b"\0" in data[:2]:  # UTF-16 without a byte order mark
        return data.decode("utf-16-be" if data[0] == 0 else "utf-16-le", errors="replace")
    return data.decode("utf-8-sig", errors="replace")


def _class_of(row: Mapping[str, str]) -> str:
    """Return the class name of a row: a word, or the name of a code such as 3, 3.0 or 3,0.

    Raises:
        ValueError: If there is none.
    """
    text = row["class"].strip()
    try:
        code = float(text.replace(",", "."))
    except ValueError:
        if text:
            return text
        raise ValueError("it has no class") from None
    if not (code.is_integer() and 0 <= code < len(CODES)):
        raise ValueError(f"no emotion code 0..{len(CODES) - 1}: {text[:MAX_SHOWN]!r}")
    return CODES[int(code)]


def _known_class(row: Mapping[str, str]) -> str | None:
    try:
        return _class_of(row)
    except ValueError:
        return None


def _pixels_of(row: Mapping[str, str]) -> Image:
    """Return the face of a row, uint8 (side, side).

    Raises:
        ValueError: If the pixels are not side x side numbers 0..255.
    """
    try:
        pixels = np.array(row["pixels"].translate(SEPARATORS).split(), np.float64)
    except ValueError as error:
        raise ValueError(f"its pixels are not numbers: {str(error)[-MAX_SHOWN:]}") from None
    side = math.isqrt(len(pixels))
    if side * side != len(pixels) or side < MIN_SIDE:
        raise ValueError(f"it has {len(pixels)} pixels, not those of a square, such as 48 x 48")
    if pixels.min() < 0 or pixels.max() > 255 or (pixels % 1).any():
        raise ValueError("its pixels are not whole numbers 0..255")
    return pixels.reshape(side, side).astype(np.uint8)
