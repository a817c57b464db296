"""Tables and a plot out of rows: text, markdown, CSV, JSON; accuracy against latency against size."""

import csv
import io
import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from fer_edge.artifacts.atomic_write import atomic_path
from fer_edge.benchmarks.latency_records import BenchmarkRow

NOT_MEASURED = "not measured"
MARKERS = {"float32": "o", "float16": "s", "dynamic": "D", "int8": "^"}
OTHER_MARKERS = "PXv<>*hp"
HEADER = (
    "network", "precision", "data", "split", "accuracy", "macro F1", "MB", "parameters", "threads",
    "p50 ms", "p90 ms", "p99 ms", "load ms", "first ms", "peak MB", "board",
)  # fmt: skip


CONVERSION_HEADER = (
    "network", "precision", "data", "split", "accuracy in Keras", "here", "agreement", "worst recall, points", "gate", "MB",
    "compressed MB", "p50 ms", "conversion s",
)  # fmt: skip


def conversion_cells(row: BenchmarkRow) -> tuple[str, ...]:
    """Return what conversion cost as texts in the order of CONVERSION_HEADER, measured on the run's own test faces."""

    def told(value: float | None, form: str, factor: float = 1.0) -> str:
        return NOT_MEASURED if value is None else format(factor * value, form)

    return (
        row.network,
        row.precision,
        row.data,
        row.split,
        told(row.accuracy_before, ".4f"),
        told(row.accuracy_after, ".4f"),
        told(row.agreement, ".4f"),
        told(row.worst_recall_change, "+.1f", 100),
        NOT_MEASURED if row.refused is None else ("refused" if row.refused else "passed"),
        f"{row.file_bytes / 1e6:.2f}",
        told(row.compressed_bytes, ".2f", 1e-6),
        f"{row.p50_ms:.2f}",
        told(row.conversion_s, ".1f"),
    )


def cells(row: BenchmarkRow) -> tuple[str, ...]:
    """Return a row as texts in the order of HEADER."""

    def share(value: float | None) -> str:
        return NOT_MEASURED if value is None else f"{value:.4f}"

    return (
        row.network,
        row.precision,
        row.data,
        row.split,
        share(row.accuracy),
        share(row.macro_f1),
        f"{row.file_bytes / 1e6:.2f}",
        f"{row.parameters:,}",
        str(row.threads),
        f"{row.p50_ms:.2f}",
        f"{row.p90_ms:.2f}",
        f"{row.p99_ms:.2f}",
        f"{row.load_ms:.1f}",
        f"{row.first_inference_ms:.1f}",
        NOT_MEASURED if row.peak_memory_bytes is None else f"{row.peak_memory_bytes / 1e6:.0f}",
        row.board,
    )


def as_markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a markdown table; the first four columns, ``gate`` and ``board`` are words, the others numbers."""
    align = ["---" if k < 4 or title in ("gate", "board") else "---:" for k, title in enumerate(header)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, align, *lines])


def as_csv(rows: Sequence[BenchmarkRow]) -> str:
    """Return all fields as CSV; what was not measured is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(BenchmarkRow)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()


def as_json(rows: Sequence[BenchmarkRow]) -> str:
    """Return all fields as a JSON list; what was not measured is null."""
    return json.dumps([asdict(row) for row in rows], indent=1)


def pareto_front(rows: Sequence[BenchmarkRow]) -> list[BenchmarkRow]:
    """Return the rows that no other row beats: none is at least as accurate, as fast and as small, and better in one.

    Rows without a measured accuracy are left out.
    """
    measured = [(row, (-row.accuracy, row.p50_ms, row.file_bytes)) for row in rows if row.accuracy is not None]

    def beaten(own: tuple[float, ...]) -> bool:
        return any(
            all(theirs <= mine for theirs, mine in zip(other, own, strict=True)) and other != own for _, other in measured
        )

    return [row for row, costs in measured if not beaten(costs)]


def precision_markers(rows: Sequence[BenchmarkRow]) -> dict[str, str]:
    """Return a matplotlib marker for each precision of the rows: the usual four keep theirs, eight others have their own."""
    used = dict.fromkeys(row.precision for row in rows)
    others = [precision for precision in used if precision not in MARKERS]
    return {name: marker for name, marker in MARKERS.items() if name in used} | dict(
        zip(others, itertools.cycle(OTHER_MARKERS), strict=False)
    )


def plot_rows(rows: Sequence[BenchmarkRow], path: Path) -> None:
    """Draw accuracy against latency; the area of a mark is the file size, and the Pareto front is ringed.

    Args:
        rows: Rows with measured accuracy; others are left out.
        path: Image file to write.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If no row has an accuracy.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f"matplotlib is missing ({error}). Install it: pip install 'fer-edge[bench]'") from error
    measured = [row for row in rows if row.accuracy is not None]
    if not measured:
        raise ValueError("no row has a measured accuracy to plot. Pass --data")
    front = pareto_front(measured)
    networks = list(dict.fromkeys(row.network for row in measured))
    markers = precision_markers(measured)
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.subplots()
    for row in measured:
        accuracy = float(row.accuracy or 0.0)
        style: dict[str, Any] = {"marker": markers[row.precision], "color": f"C{networks.index(row.network)}"}
        area = 20 + 12 * row.file_bytes / 1e6
        axes.scatter(
            row.p50_ms, accuracy, s=area, alpha=0.6, edgecolors="black" if row in front else "none", linewidths=2, **style
        )
    for network in networks:
        axes.scatter([], [], color=f"C{networks.index(network)}", label=network)
    for precision, marker in markers.items():
        axes.scatter([], [], marker=marker, color="grey", label=precision)
    axes.scatter([], [], facecolors="none", edgecolors="black", linewidths=2, label="Pareto front")
    axes.set_xscale("log")
    axes.set_xlabel(f"{measured[0].stage}, median ms ({', '.join(dict.fromkeys(row.board for row in measured))})")
    axes.set_ylabel("accuracy")
    axes.set_title("Accuracy, latency and size (area of the mark)")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)
