"""Names of the rows of a comparison, for plots and reports."""

from collections import Counter
from collections.abc import Sequence

from fer_edge.benchmarks.latency_tables import BenchmarkRow


def row_names(rows: Sequence[BenchmarkRow]) -> list[str]:
    """Return a name per row, as short as is unique on its board: network and precision, or the file and how it was run."""
    names = [f"{row.network} {row.precision or ''}".strip() for row in rows]
    for longer in (_file, _setting, _data):
        used = Counter((name, row.board) for name, row in zip(names, rows, strict=True))
        names = [longer(row) if used[name, row.board] > 1 else name for name, row in zip(names, rows, strict=True)]
    return names


def _file(row: BenchmarkRow) -> str:
    return row.file.removesuffix(".tflite")


def _setting(row: BenchmarkRow) -> str:
    return f"{_file(row)}, threads {row.threads}, {row.backend}"


def _data(row: BenchmarkRow) -> str:
    return f"{_setting(row)}, {row.data}, {row.protocol}"
