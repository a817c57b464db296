"""Rows of one or more record files: boards by name, repeated measurements, and ratios to a baseline."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fer_edge.artifacts.latency_records import LatencyRecord
from fer_edge.artifacts.reporter import SILENT, Reporter
from fer_edge.artifacts.typed_json import to_data
from fer_edge.benchmarks.intervals import Ratio, ratio_of_medians
from fer_edge.benchmarks.latency_tables import BenchmarkRow, derive_row

Key = tuple[object, ...]
Records = Mapping[str, Sequence[LatencyRecord]]
FileRows = dict[str, BenchmarkRow]  # the rows of one file by board


def record_rows(
    sources: Records, baseline: str | None = None, reporter: Reporter = SILENT
) -> list[tuple[BenchmarkRow, LatencyRecord]]:
    """Derive the rows of records, and return each with its record.

    Of several records of the same file on the same board with the same settings, the last counts.

    Args:
        sources: Records by the name of their file.
        baseline: File, network, precision or backend that latencies are divided by; None for no ratio. A precision means the
            row of that precision of the same network, a backend that of the same file.
        reporter: Receives a note about repeated measurements.

    Raises:
        ValueError: If two boards have no file in common, or there is no such baseline.
    """
    titles = board_titles(sources)
    pairs = [(titles[source, _machine(record)], record) for source, records in sources.items() for record in records]
    latest = {(board, measured_key(record)): record for board, record in pairs}
    if len(latest) < len(pairs):
        reporter.note(f"{len(pairs) - len(latest)} records are of files that were measured again; the last record counts")
    _check_common_files(list(latest))
    rows = [replace(derive_row(record), board=board) for (board, _), record in latest.items()]
    counted = list(latest.values())
    return list(zip(_with_ratios(rows, counted, baseline) if baseline else rows, counted, strict=True))


def measured_key(record: LatencyRecord) -> Key:
    """Return what a record is of: file, threads, backend, and the data of its accuracy."""
    accuracy = record.measured_accuracy
    measured_on = (accuracy.data, accuracy.protocol, accuracy.split) if accuracy else None
    return (record.file, record.precision, record.source_digest, record.num_threads, record.backend, measured_on)


def board_titles(sources: Records) -> dict[tuple[str, str], str]:
    """Return a name for each board.

    The records of two files are of two boards of the same name if their environments differ, or both have a record of the same
    file: their names then contain that of the record file.

    Args:
        sources: Records by the name of their file.

    Returns:
        Name by record file and environment, as JSON.
    """
    keys: dict[tuple[str, str], list[Key]] = {}
    names = {}
    for source, records in sources.items():
        for record in records:
            keys.setdefault((source, _machine(record)), []).append(measured_key(record))
            names[source, _machine(record)] = record.environment.title
    titles = {}
    for (source, machine), name in names.items():
        same = [other for other, title in names.items() if title == name]
        measured = [key for other in same for key in set(keys[other])]
        differ = len({environment for _, environment in same}) > 1 or len(measured) > len(set(measured))
        files = {other for other, _ in same}
        titles[source, machine] = f"{name} [{_short_name(source, files)}]" if len(files) > 1 and differ else name
    return titles


def _machine(record: LatencyRecord) -> str:
    return json.dumps(to_data(record.environment), sort_keys=True)


def _short_name(source: str, sources: set[str]) -> str:
    """Return the name of a record file; its whole path if another file has the same name."""
    return source if sum(Path(other).name == Path(source).name for other in sources) > 1 else Path(source).stem


def _check_common_files(keys: Sequence[tuple[str, Key]]) -> None:
    """Check that each board has a file in common with another one."""
    files: dict[str, set[object]] = {}
    for board, key in keys:
        files.setdefault(board, set()).add(key[0])
    for board, names in files.items():
        others = set().union(*(other for name, other in files.items() if name != board))
        if others and not names & others:
            raise ValueError(
                f"the boards have no file in common: {board} has {', '.join(sorted(map(str, names)))}, the others have "
                f"{', '.join(sorted(map(str, others)))}. Measure the same files on each board"
            )


def _with_ratios(rows: Sequence[BenchmarkRow], records: Sequence[LatencyRecord], baseline: str) -> list[BenchmarkRow]:
    """Return the rows with the ratio of their median latency to that of the baseline on the same board, in the same way."""
    timed = [(row, record) for row, record in zip(rows, records, strict=True) if record.samples_ms]
    # The baseline of a row has the same value of these fields.
    if any(row.precision == baseline for row, _ in timed):
        candidates = [(row, record) for row, record in timed if row.precision == baseline]
        same: tuple[str, ...] = ("board", "threads", "backend", "network")
    elif any(row.backend == baseline for row, _ in timed):
        candidates = [(row, record) for row, record in timed if row.backend == baseline]
        same = ("board", "threads", "file")
    else:
        candidates = [(row, record) for row, record in timed if Path(baseline).name in _names(row)]
        same = ("board", "threads", "backend")
        files = dict.fromkeys(row.file for row, _ in candidates)
        if len(files) > 1:
            raise ValueError(f"the baseline '{baseline}' is not one file: {', '.join(files)}")
    if not candidates:
        choices = (
            sorted({value for row in rows if (value := getattr(row, name))}) for name in ("precision", "backend", "file")
        )
        precisions, backends, names = map(", ".join, choices)
        raise ValueError(
            f"no baseline '{baseline}' among the measured files; choose a precision ({precisions}), a backend ({backends}) or "
            f"a file: {names}"
        )
    bases = {tuple(getattr(row, name) for name in same): record for row, record in candidates}
    result = []
    for row, record in zip(rows, records, strict=True):
        base = bases.get(tuple(getattr(row, name) for name in same))
        if base and record.samples_ms:
            ratio = Ratio(1.0, 1.0, 1.0) if base is record else ratio_of_medians(record.samples_ms, base.samples_ms)
            row = replace(row, ratio=ratio.value, ratio_low=ratio.low, ratio_high=ratio.high)
        result.append(row)
    return result


def _names(row: BenchmarkRow) -> tuple[str, ...]:
    return row.file, Path(row.file).stem, row.network


def rows_by_file(rows: Sequence[BenchmarkRow]) -> list[FileRows]:
    """Return the rows of each file with the same threads and backend, by board.

    Accuracy is often measured on one board only, so it does not separate rows, unless a board has several of a file.
    """
    files: dict[Key, FileRows] = {}
    for row in rows:
        key: Key = (row.file, row.threads, row.backend)
        if row.board in files.get(key, {}):
            key = (*key, row.precision, row.data, row.protocol, len(files))
        files.setdefault(key, {})[row.board] = row
    return list(files.values())


def shared_row(of_boards: FileRows) -> BenchmarkRow:
    """Return the row with most facts about a file: one with a measured accuracy, otherwise a stored one."""
    return max(
        of_boards.values(), key=lambda row: (row.accuracy_source == "measured", row.accuracy is not None, not row.problem)
    )
