"""The report of a comparison: one HTML file that works offline, with plots, a sortable table and a card per file."""

import datetime
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from fer_edge.artifacts.atomic_write import atomic_write
from fer_edge.artifacts.latency_records import LatencyRecord
from fer_edge.artifacts.metrics import ClassificationMetrics
from fer_edge.artifacts.printable import printable
from fer_edge.benchmarks.intervals import accuracy_interval
from fer_edge.benchmarks.latency_tables import BenchmarkRow
from fer_edge.benchmarks.report_entries import FLOAT, FloatChange, ReportEntry, float_change, float_entry, report_entries
from fer_edge.benchmarks.tables import NOT_MEASURED

TEMPLATE = Path(__file__).with_name("report.html")
SHORT_DIGEST = 12


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: Its text.
        value: Value to sort by; None sorts last.
        title: Text that appears when the pointer rests on it.
        share: Fraction that its background shows, 0..1; None for no background.
    """

    text: str
    value: float | str | None = None
    title: str = ""
    share: float | None = None

    @property
    def key(self) -> str:
        """The value as JSON, for the script of the page."""
        return json.dumps(self.value)


@dataclass(frozen=True)
class Table:
    """A table whose first column has names."""

    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Card:
    """The result card of one file.

    Attributes:
        name: Name of the file in the report.
        subtitle: File, board, threads and backend.
        figures: Name and value of each result.
        warnings: What limits the results.
        confusion: Confusion matrix; None where it was not measured.
    """

    name: str
    subtitle: str
    figures: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]
    confusion: Table | None


def write_report(pairs: Sequence[tuple[BenchmarkRow, LatencyRecord]], path: str | Path, packages: Table | None = None) -> None:
    """Write the report.

    Args:
        pairs: Each row with the record it was derived from.
        path: The .html file.
        packages: Other packages, each measured in its own environment; None for a report without them.

    Raises:
        ImportError: If Bokeh or Jinja2 is missing.
        ValueError: If there are no rows.
    """
    try:
        import jinja2
        from bokeh.resources import Resources

        from fer_edge.benchmarks.report_figures import report_plots
    except ImportError as error:
        raise ImportError(f"a part of the report is missing ({error}). Install it: pip install 'fer-edge[bench]'") from error
    if not pairs:
        raise ValueError("there is nothing to report. Name models, or records with --from")
    entries = report_entries([(_printable_row(row), record) for row, record in pairs])
    changes = [(entry, float_change(entry, base)) for entry in entries if (base := float_entry(entry, entries))]
    of_entry = {(entry.name, entry.row.board): change for entry, change in changes}
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        title=_title(entries),
        date=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        facts=_facts(entries),
        plots=report_plots(entries, changes),
        bokeh=Resources(mode="inline", components=["bokeh"], minified=True).js_raw[0],
        results=_results(entries),
        changes=_changes(changes),
        recalls=_recalls(entries),
        packages=packages,
        cards=[_card(entry, of_entry.get((entry.name, entry.row.board))) for entry in entries],
    )
    atomic_write(path, page)


def _printable_row(row: BenchmarkRow) -> BenchmarkRow:
    """Return a row whose texts have no control characters."""
    values: dict[str, Any] = {field.name: getattr(row, field.name) for field in fields(row)}
    texts: dict[str, Any] = {name: printable(text) for name, text in values.items() if isinstance(text, str)}
    return replace(row, **texts)


def _title(entries: Sequence[ReportEntry]) -> str:
    files, boards = len({entry.row.file for entry in entries}), len({entry.row.board for entry in entries})
    return f"{files} model {'file' if files == 1 else 'files'} on {boards} {'board' if boards == 1 else 'boards'}"


def _facts(entries: Sequence[ReportEntry]) -> list[tuple[str, str]]:
    """Return the values that all rows share, and the boards."""
    facts = [("boards", "; ".join(dict.fromkeys(entry.row.board for entry in entries)))]
    for title, name in (("data", "data"), ("protocol", "protocol"), ("threads", "threads"), ("backend", "backend")):
        values = {getattr(entry.row, name) for entry in entries}
        if len(values) == 1 and (value := values.pop()) is not None:
            facts.append((title, str(value)))
    faces = {entry.record.measured_accuracy.count for entry in entries if entry.record.measured_accuracy}
    if len(faces) == 1:
        facts.append(("faces", f"{faces.pop():,}"))
    return facts


def _number(value: float | None, form: str, factor: float = 1) -> Cell:
    return Cell(NOT_MEASURED if value is None else format(factor * value, form), value)


def _milliseconds(value: float | None) -> Cell:
    return Cell(NOT_MEASURED if value is None else f"{value:#.3g}".rstrip("."), value)


def _accuracy(row: BenchmarkRow) -> Cell:
    if row.accuracy is None:
        return Cell(NOT_MEASURED)
    stored = row.accuracy_source == "stored"
    title = "as conversion stored it in the file" if stored else "measured"
    if row.accuracy_low is not None and row.accuracy_high is not None:
        title += f"; 95 % interval {100 * row.accuracy_low:.1f} to {100 * row.accuracy_high:.1f} %"
    return Cell(f"{100 * row.accuracy:.1f} %{'*' if stored else ''}", row.accuracy, title)


def _results(entries: Sequence[ReportEntry]) -> Table:
    header = ("file", "accuracy", "p50 ms", "p90 ms", "p99 ms", "first ms", "MB", "memory MB", "macro F1", "board", "remarks")
    rows = []
    for entry in entries:
        row = entry.row
        remarks = [row.problem] if row.problem else []
        remarks += ["emulated: no times"] if entry.record.environment.emulator else []
        remarks += [f"busy: {', '.join(row.busy)}"] if row.busy else []
        times = (row.p50_ms, row.p90_ms, row.p99_ms, row.first_inference_ms)
        rows.append((
            Cell(entry.name, entry.name, row.file),
            _accuracy(row),
            *map(_milliseconds, times),
            _number(row.file_bytes, ".2f", 1e-6),
            _number(row.peak_memory_bytes, ".0f", 1e-6),
            _number(row.macro_f1, ".3f"),
            Cell(row.board, row.board),
            Cell("; ".join(map(printable, remarks)), "; ".join(remarks)),
        ))  # fmt: skip
    return _without_empty_columns(Table(header, tuple(rows)))


def _without_empty_columns(table: Table) -> Table:
    """Return a table without the columns that have no value, or the board if there is only one."""
    columns = [
        index
        for index, title in enumerate(table.header)
        if any(row[index].value not in (None, "") for row in table.rows)
        and (title != "board" or len({row[index].text for row in table.rows}) > 1)
    ]
    return Table(
        tuple(table.header[index] for index in columns),
        tuple(tuple(row[index] for index in columns) for row in table.rows),
    )


def _changes(changes: Sequence[tuple[ReportEntry, FloatChange]]) -> Table:
    header = ("file", "accuracy, points", "p (McNemar)", "latency / float32", "size / float32", "board")
    rows = []
    for entry, change in changes:
        reach = "" if change.accuracy_reach is None else f" ± {100 * change.accuracy_reach:.2f}"
        speed = change.speed
        rows.append((
            Cell(entry.name, entry.name, entry.row.file),
            Cell(NOT_MEASURED if change.accuracy is None else f"{100 * change.accuracy:+.2f}{reach}", change.accuracy),
            _number(change.p_value, ".3f"),
            Cell(f"{speed.value:.2f} ({speed.low:.2f} to {speed.high:.2f})", speed.value) if speed else Cell(NOT_MEASURED),
            _number(change.size, ".2f"),
            Cell(entry.row.board, entry.row.board),
        ))  # fmt: skip
    return _without_empty_columns(Table(header, tuple(rows)))


def _recalls(entries: Sequence[ReportEntry]) -> Table:
    """Return the recall of each class; a file that was measured on several boards has one row."""
    measured: dict[tuple[str, str | None, str], tuple[ReportEntry, ClassificationMetrics]] = {}
    for entry in entries:
        accuracy = entry.record.measured_accuracy
        if accuracy and accuracy.metrics:
            measured.setdefault((entry.row.file, entry.record.sha256, accuracy.data), (entry, accuracy.metrics))
    labels = list(dict.fromkeys(label for _, metrics in measured.values() for label in metrics.per_class))
    rows = []
    for entry, metrics in measured.values():
        cells = [Cell(entry.name, entry.name, entry.row.file)]
        for label in labels:
            scores = metrics.per_class.get(label)
            if scores is None or not scores.support:
                cells.append(Cell("-"))
                continue
            low, high = accuracy_interval(scores.recall, scores.support)
            title = f"{scores.support} faces; 95 % interval {100 * low:.0f} to {100 * high:.0f} %"
            cells.append(Cell(f"{100 * scores.recall:.0f} %", scores.recall, title, scores.recall))
        rows.append(tuple(cells))
    return Table(("file", *map(printable, labels)), tuple(rows))


def _card(entry: ReportEntry, change: FloatChange | None) -> Card:
    row = entry.row
    per_second = 1000 / row.end_to_end_ms if row.end_to_end_ms else None
    figures = [
        ("accuracy", _accuracy(row).text),
        ("change from float32", NOT_MEASURED if change is None or change.accuracy is None
         else f"{100 * change.accuracy:+.2f} points"),
        ("p50 / p90 / p99, ms", " / ".join(_milliseconds(value).text for value in (row.p50_ms, row.p90_ms, row.p99_ms))
         if row.p50_ms is not None else NOT_MEASURED),
        ("first inference", _with_unit(_milliseconds(row.first_inference_ms), "ms")),
        ("load", _with_unit(_milliseconds(row.load_ms), "ms")),
        ("faces per second", _number(1000 / row.p50_ms if row.p50_ms else None, ",.0f").text),
        ("frames per second, with detector", _number(per_second, ",.1f").text),
        ("file", f"{row.file_bytes:,} bytes"),
        ("peak memory of the process", _with_unit(_number(row.peak_memory_bytes, ".0f", 1e-6), "MB")),
        ("memory for activations", _with_unit(_number(row.arena_bytes, ".2f", 1e-6), "MB")),
        ("energy per inference", _with_unit(_number(row.energy_mj, ".2f"), "mJ")),
        ("instructions, emulated", NOT_MEASURED if entry.record.instructions is None
         else f"{entry.record.instructions / 1e6:,.1f} million"),
        ("parameters", NOT_MEASURED if row.parameters is None else f"{row.parameters:,}"),
    ]  # fmt: skip
    if row.precision == FLOAT:
        del figures[1]
    if entry.record.environment.emulator is None:
        figures = [figure for figure in figures if figure[0] != "instructions, emulated"]
    parts = (row.file, row.board, f"threads {row.threads}", row.backend, (entry.record.sha256 or "")[:SHORT_DIGEST])
    warnings = [row.problem] if row.problem else []
    warnings += ["an emulator ran it, so there are no times"] if entry.record.environment.emulator else []
    warnings += [f"busy machine: {reason}" for reason in row.busy]
    measured = entry.record.measured_accuracy
    warnings += [measured.warning] if measured and measured.warning else []
    subtitle = " · ".join(filter(None, parts))
    return Card(entry.name, subtitle, tuple(figures), tuple(map(printable, warnings)), _confusion(entry))


def _with_unit(cell: Cell, unit: str) -> str:
    return cell.text if cell.value is None else f"{cell.text} {unit}"


def _confusion(entry: ReportEntry) -> Table | None:
    accuracy = entry.record.measured_accuracy
    if accuracy is None or accuracy.metrics is None:
        return None
    labels = [printable(label) for label in accuracy.metrics.per_class]
    rows = []
    for label, counts in zip(labels, accuracy.metrics.confusion, strict=True):
        total = max(1, sum(counts))
        cells = [
            Cell(f"{count:,}", count, f"{label}, predicted {predicted}: {100 * count / total:.0f} %", count / total)
            for predicted, count in zip(labels, counts, strict=True)
        ]
        rows.append((Cell(label), *cells))
    return Table(("true \\ predicted", *labels), tuple(rows))
