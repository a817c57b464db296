"""Read FER2013's original table: emotion (0..6), pixels (48 x 48 numbers), Usage.

Source: Goodfellow et al., 2013, Kaggle challenge.
"""

import csv
import io
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from fer_edge.artifacts.reporter import Progress
from fer_edge.edge_runtime.images import Image
from fer_edge.train.class_names import assign_labels, count_labels
from fer_edge.train.dataset import DataError
from fer_edge.train.dataset_rows import Rows
from fer_edge.train.official_splits import SPLIT_NAMES
from fer_edge.train.read_options import ReadOptions

FER2013_CODES = {0: "angry", 1: "disgust", 2: "fear", 3: "happy", 4: "sad", 5: "surprise", 6: "neutral"}
FER2013_SIDE = 48


def read_fer2013_csv(data: bytes, source: str, options: ReadOptions, progress: Progress | None = None) -> Rows:
    """Read FER2013's table.

    Args:
        data: Content of the csv.
        source: Its name, for errors.
        options: Renamed classes, and the check of the number of rows per class.
        progress: Called with (rows read, number of rows).

    Raises:
        DataError: If it is not such a table, or a class cannot be used.
    """
    table = _read_table(data)
    counts = Counter(name for row in table if (name := _known_class(row)))
    label_of_class = assign_labels(counts, options.parsed_label_map(), source)
    options.report_counts(count_labels(counts, label_of_class))
    rows = Rows()
    for number, row in enumerate(table):
        try:
            label = label_of_class[_class_of(row)]
            image = _pixels_of(row)
        except (ValueError, AttributeError) as error:
            rows.skipped.append(f"cannot read csv row {number} ({error})")
        else:
            if label:
                split = SPLIT_NAMES.get(str(row.get("Usage") or "").strip().lower())
                rows.add(f"row_{number:05d}", image, label, None, split)
        if progress:
            progress(number + 1, len(table))
    return rows


def _pixels_of(row: Mapping[str, Any]) -> Image:
    pixels = np.array(row["pixels"].split(), np.int64)
    if len(pixels) != FER2013_SIDE**2 or pixels.min() < 0 or pixels.max() > 255:
        raise ValueError(f"{len(pixels)} numbers, not {FER2013_SIDE**2} in 0..255")
    return pixels.reshape(FER2013_SIDE, FER2013_SIDE).astype(np.uint8)


def _read_table(data: bytes) -> list[dict[str, Any]]:
    csv.field_size_limit(1 << 20)
    try:
        reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig", errors="replace")))
        table = [{(key or "").strip(): value for key, value in row.items()} for row in reader]
    except csv.Error as error:
        raise DataError(f"the csv cannot be read ({error})") from error
    columns = {name.strip() for name in reader.fieldnames or ()}
    missing = {"emotion", "pixels"} - columns
    if missing:
        raise DataError(
            f"the csv lacks the columns {', '.join(sorted(missing))}; it has: {', '.join(sorted(columns)) or 'none'}"
        )
    return table


def _class_of(row: Mapping[str, Any]) -> str:
    """Return the class name of a row.

    Raises:
        ValueError: If its code is not one of FER2013's.
    """
    code = str(row["emotion"])
    if not code.strip().isdigit() or int(code) not in FER2013_CODES:
        raise ValueError(f"no emotion code 0..6: {code[:20]!r}")
    return FER2013_CODES[int(code)]


def _known_class(row: Mapping[str, Any]) -> str | None:
    try:
        return _class_of(row)
    except ValueError:
        return None
