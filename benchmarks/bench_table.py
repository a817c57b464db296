"""The table of ``fer-edge bench``: constants above it, a latency column per board, at most 100 characters wide."""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fer_edge.artifacts.printable import printable
from fer_edge.benchmarks.latency_tables import BenchmarkRow
from fer_edge.benchmarks.modelled import modelled_ms
from fer_edge.benchmarks.record_rows import FileRows, rows_by_file, shared_row
from fer_edge.benchmarks.tables import NOT_MEASURED, markdown_table, text_table

MAX_WIDTH = 100
MAX_NAME, MIN_NAME = 28, 8  # characters of a network
MAX_LISTED = 3  # busy rows in a footnote
MISSING = "-"


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        title: Its title.
        cell: From a row to its text.
        per_board: Whether boards differ in it.
        constant: Whether it moves above the table if all rows agree.
    """

    title: str
    cell: Callable[[BenchmarkRow], str]
    per_board: bool = False
    constant: bool = False


def _number(name: str, form: str, factor: float = 1) -> Callable[[BenchmarkRow], str]:
    def cell(row: BenchmarkRow) -> str:
        value = getattr(row, name)
        return MISSING if value is None else format(factor * value, form)

    return cell


def _milliseconds(name: str) -> Callable[[BenchmarkRow], str]:
    def cell(row: BenchmarkRow) -> str:
        value = getattr(row, name)
        if value is None:
            if row.npu and name == "p50_ms":
                return NOT_MEASURED
            return MISSING if name != "p50_ms" else "cannot run" if row.problem else "emulated" if row.emulated_cpu else MISSING
        return format_ms(value) + ("!" if name == "p50_ms" and row.busy else "")

    return cell


def _accuracy(row: BenchmarkRow) -> str:
    if row.accuracy is None:
        return MISSING
    text = f"{row.accuracy:.3f}{'*' if row.accuracy_source == 'stored' else ''}"
    if row.accuracy_low is None or row.accuracy_high is None:
        return text
    return f"{text} ({row.accuracy_low:.3f}-{row.accuracy_high:.3f})"


def _ratio(row: BenchmarkRow) -> str:
    if row.ratio is None or row.ratio_low is None or row.ratio_high is None:
        return MISSING
    return f"{row.ratio:.2f} ({row.ratio_low:.2f}-{row.ratio_high:.2f})"


def _modelled(row: BenchmarkRow) -> str:
    found = modelled_ms(row.emulated_cpu, row.precision, row.threads, row.instructions)
    return MISSING if found is None else f"{format_ms(found[0])} ±{found[1]:.0%}"


def _npu(row: BenchmarkRow) -> str:
    if row.npu is None:
        return MISSING
    accuracy = "" if row.npu_accuracy is None else f", {row.npu_accuracy:.3f} simulated"
    return f"{row.npu} {row.npu_operators}/{row.model_operators}{accuracy}"


def _name(row: BenchmarkRow) -> str:
    return _shortened(printable(row.network), MAX_NAME)


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 3]}..."


COLUMNS = {
    "network": Column("network", _name),
    "precision": Column("precision", lambda row: row.precision or MISSING),
    "file": Column("file", lambda row: printable(row.file)),
    "data": Column("data", lambda row: row.data or MISSING, constant=True),
    "protocol": Column("protocol", lambda row: row.protocol or MISSING, constant=True),
    "threads": Column("threads", lambda row: str(row.threads), constant=True),
    "backend": Column("backend", lambda row: row.backend, constant=True),
    "accuracy": Column("accuracy", _accuracy),
    "f1": Column("macro F1", _number("macro_f1", ".3f")),
    "votes": Column("votes", _number("vote_agreement", ".3f")),
    "size": Column("MB", _number("file_bytes", ".2f", 1e-6)),
    "compressed": Column("zipped MB", _number("compressed_bytes", ".2f", 1e-6)),
    "parameters": Column("parameters", _number("parameters", ",")),
    "p50": Column("p50 ms", _milliseconds("p50_ms"), per_board=True),
    "ratio": Column("ratio", _ratio, per_board=True),
    "p90": Column("p90 ms", _milliseconds("p90_ms"), per_board=True),
    "p99": Column("p99 ms", _milliseconds("p99_ms"), per_board=True),
    "end_to_end": Column("end to end ms", _milliseconds("end_to_end_ms"), per_board=True),
    "detect": Column("detect ms", _milliseconds("detect_ms"), per_board=True),
    "preprocess": Column("preprocess ms", _milliseconds("preprocess_ms"), per_board=True),
    "classify": Column("classify ms", _milliseconds("classify_ms"), per_board=True),
    "load": Column("load ms", _milliseconds("load_ms"), per_board=True),
    "first": Column("first ms", _milliseconds("first_inference_ms"), per_board=True),
    "memory": Column("peak MB", _number("peak_memory_bytes", ".0f", 1e-6), per_board=True),
    "arena": Column("arena MB", _number("arena_bytes", ".2f", 1e-6)),
    "energy": Column("mJ", _number("energy_mj", ".2f"), per_board=True),
    "instructions": Column("M instr.", _number("instructions", ",.1f", 1e-6), per_board=True),
    "modelled": Column("modelled ms", _modelled, per_board=True),
    "npu": Column("NPU", _npu),
    "board": Column("board", lambda row: row.board, per_board=True, constant=True),
}
# In the order of the table, and in the order in which columns give way if the table is too wide, the first one last.
ONE_BOARD = (
    *("network", "precision", "data", "protocol", "threads", "backend", "accuracy", "votes", "size", "p50"),
    *("instructions", "ratio", "p90", "p99", "end_to_end", "memory", "arena", "energy", "npu", "board"),
)
SEVERAL_BOARDS = (
    *("network", "precision", "data", "protocol", "threads", "backend", "accuracy", "size", "p50", "instructions"),
    *("ratio", "npu"),
)
EXPENDABLE = ("arena", "p90", "votes", "memory", "end_to_end", "p99", "energy", "size", "accuracy")
ALWAYS = ("accuracy", "p50")  # other columns are left out where no row has a value


def format_ms(value_ms: float) -> str:
    """Return milliseconds with three significant digits, at most two decimals below 10."""
    return f"{value_ms:.2f}" if value_ms < 10 else f"{value_ms:.1f}" if value_ms < 100 else f"{value_ms:.0f}"


def check_columns(names: Sequence[str]) -> None:
    """Check the names of columns.

    Raises:
        ValueError: If one is unknown. The message lists all.
    """
    unknown = [name for name in names if name not in COLUMNS]
    if unknown:
        raise ValueError(f"unknown column '{unknown[0]}'; choose from: {', '.join(COLUMNS)}")


def bench_table(
    rows: Sequence[BenchmarkRow], columns: Sequence[str] = (), modelled: bool = False, markdown: bool = False
) -> str:
    """Return the constant values, the table and its footnotes.

    Args:
        rows: The rows, at least one.
        columns: Names of COLUMNS to show. Default: those that fit in 100 characters.
        modelled: Whether to add the estimated times of emulated boards to the default columns.
        markdown: Whether to write a markdown table.
    """
    check_columns(columns)
    boards = list(dict.fromkeys(row.board for row in rows))
    letters = {board: chr(ord("A") + number) if len(boards) <= 26 else f"#{number + 1}" for number, board in enumerate(boards)}
    files = [{row.board: row} for row in rows] if "board" in columns else rows_by_file(rows)
    draw = markdown_table if markdown else text_table
    above: list[str] = []
    if columns:
        names = list(columns)
        tables = [draw(*_cells(files, names, letters))]
    else:
        above, names = _constants(list(map(shared_row, files)), _default_columns(rows, len(boards), modelled))
        tables, names = _fitting_tables(files, names, letters, draw)
    if len(boards) > 1 and "board" not in columns:
        above += [f"{letter}: {board}" for board, letter in letters.items()]
    lines = above if not markdown else [f"- {line}" for line in above]
    notes = [part for note in _footnotes(rows, names, letters) for part in _wrapped(note, markdown)]
    return "\n\n".join("\n".join(block) for block in (lines, *([table] for table in tables), notes) if block)


def _fitting_tables(
    files: Sequence[FileRows], names: list[str], letters: dict[str, str], draw: Callable[..., str]
) -> tuple[list[str], list[str]]:
    """Return the table and its columns: without columns, in several tables, or with shorter names until it fits."""
    expendable = [name for name in EXPENDABLE if name in names]
    while True:
        titles, cells = _cells(files, names, letters)
        table = draw(titles, cells)
        excess = max(map(len, table.splitlines())) - MAX_WIDTH
        if excess > 0 and expendable:
            names = [name for name in names if name != expendable[0]]
            del expendable[0]
        elif excess > 0 and len(letters) > 1:
            boards = list(letters.items())
            halves = (dict(boards[: len(boards) // 2]), dict(boards[len(boards) // 2 :]))
            return [table for half in halves for table in _fitting_tables(files, names, half, draw)[0]], names
        elif excess > 0:
            length = max(MIN_NAME, max(len(row[0]) for row in cells) - excess)
            return [draw(titles, [(_shortened(row[0], length), *row[1:]) for row in cells])], names
        else:
            return [table], names


def _default_columns(rows: Sequence[BenchmarkRow], boards: int, modelled: bool) -> list[str]:
    names = list(ONE_BOARD if boards == 1 else SEVERAL_BOARDS)
    if modelled:
        names.insert(names.index("instructions") + 1, "modelled")
    return [name for name in names if name in ALWAYS or any(COLUMNS[name].cell(row) != MISSING for row in rows)]


def _constants(rows: Sequence[BenchmarkRow], names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the lines above the table, and the names of the other columns."""
    lines, kept = [], []
    for name in names:
        column = COLUMNS[name]
        # A file that could not run has no data or protocol; it does not make them differ.
        values = {column.cell(row) for row in rows} - ({MISSING} if len(rows) > 1 else set())
        if column.constant and len(values) <= 1:
            lines += [f"{column.title}: {value}" for value in values if value != MISSING]
        else:
            kept.append(name)
    if all(row.energy_mj is None for row in rows):
        lines.append(f"energy: {NOT_MEASURED}")
    return lines, kept


def _cells(files: Sequence[FileRows], names: Sequence[str], letters: dict[str, str]) -> tuple[list[str], list[tuple[str, ...]]]:
    """Return titles and cells. With several boards, each file is one row, with a group of columns per board."""
    if all(len(of_boards) == 1 for of_boards in files) and (len(letters) == 1 or "board" in names):
        rows = [shared_row(of_boards) for of_boards in files]
        return [COLUMNS[name].title for name in names], [tuple(COLUMNS[name].cell(row) for name in names) for row in rows]
    shared = [name for name in names if not COLUMNS[name].per_board]
    repeated = [(board, name) for board in letters for name in names if COLUMNS[name].per_board]
    titles = [COLUMNS[name].title for name in shared] + [f"{letters[board]} {COLUMNS[name].title}" for board, name in repeated]
    cells = [
        (
            *(COLUMNS[name].cell(shared_row(of_boards)) for name in shared),
            *(COLUMNS[name].cell(of_boards[board]) if board in of_boards else MISSING for board, name in repeated),
        )
        for of_boards in files
    ]
    return titles, cells


def _footnotes(rows: Sequence[BenchmarkRow], names: Sequence[str], letters: dict[str, str]) -> list[str]:
    notes = []
    if "accuracy" in names and any(row.accuracy_source == "stored" for row in rows):
        notes.append("* stored in the file when it was converted; not measured now. --data measures it")
    if "ratio" in names:
        notes.append("ratio: median latency divided by that of the baseline, with its 95 % bootstrap interval")
    places = {board: f" on {letter}" if len(letters) > 1 else "" for board, letter in letters.items()}
    busy = [f"{title(row)}{places[row.board]}: {', '.join(row.busy)}" for row in rows if row.busy]
    if busy:
        more = f"; and {len(busy) - MAX_LISTED} more rows (--json has the reasons)" if len(busy) > MAX_LISTED else ""
        notes.append(f"! the machine was busy, so this latency is unreliable. {'; '.join(busy[:MAX_LISTED])}{more}")
    if any(row.emulated_cpu for row in rows):
        notes.append("emulated: run by an emulator, so there is no latency. M instr.: million instructions per inference")
    if "npu" in names:
        notes.append(
            "NPU: operators that it runs of all, and the accuracy in the simulator of its vendor. Its latency: not measured"
        )
    if "modelled" in names:
        notes.append("modelled: estimated from the instructions, not measured. Only int8 on one core of a Raspberry Pi 4")
    notes += dict.fromkeys(f"{printable(row.file)}: {row.problem}" for row in rows if row.problem)
    return [*notes, f"a dash: {NOT_MEASURED}"]


def title(row: BenchmarkRow) -> str:
    """Return the name of a row in a sentence: network and precision, and threads and backend if they are not the default."""
    parts = [printable(row.network), row.precision or ""]
    parts += [f"{row.threads} threads"] if row.threads > 1 else []
    parts += [row.backend] if row.backend != "xnnpack" else []
    return " ".join(filter(None, parts))


def _wrapped(note: str, markdown: bool) -> list[str]:
    first = "- " if markdown else ""
    return textwrap.wrap(note, MAX_WIDTH, initial_indent=first, subsequent_indent="  ", break_on_hyphens=False)
