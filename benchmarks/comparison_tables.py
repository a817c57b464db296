"""Two compared records as text: a table of latencies, a table of accuracies, and notes."""

from collections.abc import Iterator, Sequence

from fer_edge.benchmarks.record_comparison import ComparedFile, RecordComparison, Setting
from fer_edge.benchmarks.tables import NOT_MEASURED, markdown_table, text_table

LATENCY_HEADER = ("file", "OLD ms", "NEW ms", "NEW/OLD", "95 % interval", "result")
ACCURACY_HEADER = ("file", "faces", "OLD", "NEW", "only OLD right", "only NEW right", "p", "result")


def comparison_text(comparison: RecordComparison, markdown: bool) -> str:
    """Return the tables. What is equal in all rows is printed once above them.

    Args:
        comparison: Two compared records.
        markdown: Whether to return markdown tables instead of tables for terminals.
    """
    table, files = markdown_table if markdown else text_table, comparison.files
    names = _names([file.setting for file in files])
    parts = [
        _shared([file.setting for file in files]),
        table(LATENCY_HEADER, [(name, *_latency_cells(file)) for name, file in zip(names, files, strict=True)]),
    ]
    accuracies = [(name, *_accuracy_cells(file)) for name, file in zip(names, files, strict=True) if file.accuracy]
    if accuracies:
        parts.append(table(ACCURACY_HEADER, accuracies))
    return "\n\n".join(parts)


def comparison_notes(comparison: RecordComparison) -> Iterator[str]:
    """Yield what limits the comparison, one line each."""
    for file in comparison.files:
        yield from (f"{file.setting.file}: {text}" for text in file.notes)
    for side, settings in (("OLD", comparison.only_old), ("NEW", comparison.only_new)):
        if settings:
            yield f"only in {side}: {', '.join(dict.fromkeys(setting.file for setting in settings))}"


def _shared(settings: Sequence[Setting]) -> str:
    """Return threads, backend and board where they are equal in all rows."""
    threads, backends, boards = ({getattr(one, name) for one in settings} for name in ("num_threads", "backend", "board"))
    shared = [f"threads {threads.pop()}" if len(threads) == 1 else ""]
    shared += [values.pop() if len(values) == 1 else "" for values in (backends, boards)]
    return ", ".join(filter(None, shared))


def _names(settings: Sequence[Setting]) -> list[str]:
    """Return the names of the files, with threads, backend and board where they differ between the rows."""
    varying = [name for name in ("num_threads", "backend", "board") if len({getattr(one, name) for one in settings}) > 1]
    return [" ".join([one.file, *(str(getattr(one, name)) for name in varying)]) for one in settings]


def _latency_cells(file: ComparedFile) -> tuple[str, ...]:
    old, new = (NOT_MEASURED if value is None else f"{value:.3f}" for value in (file.old_ms, file.new_ms))
    if file.ratio is None:
        return old, new, "-", "-", "does not run" if file.slower else "not compared"
    ratio = file.ratio
    result = "slower" if file.slower else "faster" if ratio.high < 1 else "passed"
    return old, new, f"{ratio.value:.3f}", f"{ratio.low:.3f} to {ratio.high:.3f}", result


def _accuracy_cells(file: ComparedFile) -> tuple[str, ...]:
    change = file.accuracy
    if change is None:
        return ()
    result = "worse" if change.worse else "better" if change.significant and change.new > change.old else "passed"
    counts = (str(change.only_old), str(change.only_new))
    return str(change.faces), f"{change.old:.4f}", f"{change.new:.4f}", *counts, f"{change.p_value:.4f}", result
