"""What a report shows of each measured file: its name, row and record, and its change against float32."""

from collections.abc import Sequence
from dataclasses import dataclass

from fer_edge.artifacts.latency_records import LatencyRecord
from fer_edge.benchmarks.intervals import Z_95, Ratio, ratio_of_medians
from fer_edge.benchmarks.latency_tables import BenchmarkRow
from fer_edge.benchmarks.record_comparison import compare_accuracy
from fer_edge.benchmarks.row_names import row_names

FLOAT = "float32"


@dataclass(frozen=True)
class ReportEntry:
    """One measured file.

    Attributes:
        name: Name in plots and tables, unique on its board.
        row: The statistics.
        record: The record that they were derived from.
    """

    name: str
    row: BenchmarkRow
    record: LatencyRecord


@dataclass(frozen=True)
class FloatChange:
    """What quantization changed, against the float32 file of the same network. None marks values that were not measured.

    Attributes:
        speed: Median latency as a multiple of that of the float32 file.
        accuracy: Change of the accuracy, -1..1.
        accuracy_reach: Half of its 95 % interval on the same faces.
        p_value: McNemar's exact test on the same faces.
        size: File size as a multiple of that of the float32 file.
    """

    speed: Ratio | None
    accuracy: float | None
    accuracy_reach: float | None
    p_value: float | None
    size: float


def report_entries(pairs: Sequence[tuple[BenchmarkRow, LatencyRecord]]) -> list[ReportEntry]:
    """Give each row its name.

    Args:
        pairs: Each row with its record.
    """
    names = row_names([row for row, _ in pairs])
    return [ReportEntry(name, row, record) for name, (row, record) in zip(names, pairs, strict=True)]


def float_entry(entry: ReportEntry, entries: Sequence[ReportEntry]) -> ReportEntry | None:
    """Return the float32 file of the same network, measured in the same way; None for float32 itself, or if there is none.

    Args:
        entry: The entry.
        entries: All entries.
    """
    if entry.row.precision == FLOAT:
        return None
    place = _place(entry)
    return next((other for other in entries if other.row.precision == FLOAT and _place(other) == place), None)


def _place(entry: ReportEntry) -> tuple[object, ...]:
    row = entry.row
    return (row.network, entry.record.source_digest, row.board, row.threads, row.backend, row.data, row.protocol)


def float_change(entry: ReportEntry, base: ReportEntry) -> FloatChange:
    """Return what changed against the float32 file.

    Args:
        entry: The quantized file.
        base: The float32 file, from float_entry.
    """
    new, old = entry.record, base.record
    speed = ratio_of_medians(new.samples_ms, old.samples_ms) if new.samples_ms and old.samples_ms else None
    change = reach = p_value = None
    if entry.row.accuracy is not None and base.row.accuracy is not None:
        if entry.row.accuracy_source == base.row.accuracy_source:
            change = entry.row.accuracy - base.row.accuracy
        if new.measured_accuracy and old.measured_accuracy:
            faces = compare_accuracy(old.measured_accuracy, new.measured_accuracy)
            if faces:
                p_value = faces.p_value
                discordant, difference = faces.only_old + faces.only_new, faces.only_new - faces.only_old
                reach = Z_95 * max(0.0, discordant - difference**2 / faces.faces) ** 0.5 / faces.faces
    return FloatChange(speed, change, reach, p_value, entry.row.file_bytes / base.row.file_bytes)
