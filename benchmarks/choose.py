"""Choose the smallest file that meets conditions such as ``accuracy >= 0.66, p50 <= 1 ms``."""

import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass

from fer_edge.benchmarks.bench_table import title
from fer_edge.benchmarks.latency_tables import BenchmarkRow
from fer_edge.benchmarks.record_rows import rows_by_file, shared_row
from fer_edge.benchmarks.tables import NOT_MEASURED

OPERATORS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
FAILED = {">=": "below", "<=": "above", ">": "not above", "<": "not below"}
MS = {"ms": 1.0, "s": 1000.0, "us": 0.001}
BYTES = {"MB": 1e6, "KB": 1e3, "GB": 1e9, "B": 1.0}
SHARE = {"": 1.0, "%": 0.01}
# Name, field of the row, and units with their factor. The first unit is the default, and the one that is printed.
QUANTITIES = {
    "accuracy": ("accuracy", SHARE),
    "f1": ("macro_f1", SHARE),
    "votes": ("vote_agreement", SHARE),
    "p50": ("p50_ms", MS),
    "p90": ("p90_ms", MS),
    "p99": ("p99_ms", MS),
    "load": ("load_ms", MS),
    "first": ("first_inference_ms", MS),
    "end_to_end": ("end_to_end_ms", MS),
    "size": ("file_bytes", BYTES),
    "memory": ("peak_memory_bytes", BYTES),
    "arena": ("arena_bytes", BYTES),
    "energy": ("energy_mj", {"mJ": 1.0, "J": 1000.0}),
    "parameters": ("parameters", {"": 1.0}),
}
PER_BOARD = ("p50", "p90", "p99", "load", "first", "end_to_end", "memory", "energy")
CONDITION = re.compile(r"\s*(\w+)\s*(>=|<=|>|<)\s*([0-9.]+(?:e-?\d+)?)\s*([a-zA-Z%]*)\s*")
EXAMPLE = "accuracy >= 0.66, p50 <= 1 ms"


@dataclass(frozen=True)
class Condition:
    """A limit on one quantity.

    Attributes:
        name: One of QUANTITIES.
        comparison: One of OPERATORS.
        limit: The limit, in the unit of the field of the row.
    """

    name: str
    comparison: str
    limit: float

    def violation(self, row: BenchmarkRow) -> str | None:
        """Return why a row does not meet the condition, None if it does."""
        field, units = QUANTITIES[self.name]
        value = getattr(row, field)
        if value is None:
            return f"{self.name} {NOT_MEASURED}"
        if OPERATORS[self.comparison](value, self.limit):
            return None
        unit, factor = next(iter(units.items()))
        numbers = (f"{number / factor:.4g} {unit}".strip() for number in (value, self.limit))
        return f"{self.name} {next(numbers)} is {FAILED[self.comparison]} {next(numbers)}"


def parse_conditions(text: str) -> list[Condition]:
    """Parse conditions that are separated by commas.

    Raises:
        ValueError: If a condition cannot be read, or its quantity or unit is unknown.
    """
    conditions = []
    for part in text.split(","):
        match = CONDITION.fullmatch(part)
        if not match:
            raise ValueError(f"--choose cannot read '{part.strip()}'. Write conditions like: {EXAMPLE}")
        name, comparison, number, unit = match.groups()
        if name not in QUANTITIES:
            raise ValueError(f"--choose does not know '{name}'; choose from: {', '.join(QUANTITIES)}")
        units = QUANTITIES[name][1]
        if unit and unit not in units:
            expected = ", ".join(filter(None, units)) or "no unit"
            raise ValueError(f"--choose does not know the unit '{unit}' of {name}; it takes: {expected}")
        try:
            limit = float(number)
        except ValueError as error:
            raise ValueError(f"--choose cannot read the number '{number}'. Write conditions like: {EXAMPLE}") from error
        conditions.append(Condition(name, comparison, limit * (units[unit] if unit else next(iter(units.values())))))
    return conditions


def choose_smallest(rows: Sequence[BenchmarkRow], conditions: Sequence[Condition]) -> tuple[str | None, list[str]]:
    """Choose the smallest file that meets all conditions on every board; the fastest of equally small ones.

    Args:
        rows: The rows. A file with several numbers of threads or backends is a candidate with each.
        conditions: The conditions.

    Returns:
        The chosen file as text, None if none fits; and one line per other candidate with the reason.
    """
    boards = dict.fromkeys(row.board for row in rows)
    fitting, lines = [], []
    for of_boards in rows_by_file(rows):
        row = shared_row(of_boards)
        reasons = [condition.violation(row) for condition in conditions if condition.name not in PER_BOARD]
        for board in boards:
            there = f" on {board}" if len(boards) > 1 else ""
            reasons += [f"{reason}{there}" for reason in _reasons_on(of_boards.get(board), conditions)]
        found = list(filter(None, reasons))
        if row.problem and row.p50_ms is None:
            found = [row.problem]
        if found:
            lines.append(f"{describe(row)}: {'; '.join(found)}")
        else:
            fitting.append((row, max(other.p50_ms or 0.0 for other in of_boards.values())))
    if not fitting:
        return None, lines
    fitting.sort(key=lambda pair: (pair[0].file_bytes, pair[1]))
    chosen, *others = (row for row, _ in fitting)
    for other in others:
        lines.append(f"{describe(other)}: fits, but is {'not faster' if other.file_bytes == chosen.file_bytes else 'larger'}")
    return describe(chosen), lines


def _reasons_on(row: BenchmarkRow | None, conditions: Sequence[Condition]) -> list[str]:
    """Return why a file does not meet the conditions on one board; None if it was not measured there."""
    if row is None:
        return [NOT_MEASURED]
    found = (condition.violation(row) for condition in conditions if condition.name in PER_BOARD)
    return [reason for reason in found if reason]


def describe(row: BenchmarkRow) -> str:
    """Return the name of a candidate with its file and size."""
    stored = ", accuracy as stored in the file" if row.accuracy_source == "stored" else ""
    busy = ", measured on a busy machine" if row.busy else ""
    return f"{title(row)} ({row.file}, {row.file_bytes / 1e6:.2f} MB{stored}{busy})"
