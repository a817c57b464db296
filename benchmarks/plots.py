"""The plot of a comparison as an image file: accuracy, latency, size."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fer_edge.artifacts.atomic_write import atomic_path, check_writable
from fer_edge.benchmarks.latency_tables import BenchmarkRow, pareto_front

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKERS = {"float32": "o", "float16": "s", "dynamic": "D", "int8": "^"}
OTHER_MARKERS = "PXv<>*hp"


def precision_markers(rows: Sequence[BenchmarkRow]) -> dict[str, str]:
    """Return a different matplotlib marker for each precision of the rows (the usual four and up to eight others)."""
    used = dict.fromkeys(row.precision or "-" for row in rows)
    others = [precision for precision in used if precision not in MARKERS]
    return {name: marker for name, marker in MARKERS.items() if name in used} | dict(
        zip(others, itertools.cycle(OTHER_MARKERS), strict=False)
    )


def check_plot(path: Path) -> None:
    """Check before long measurements that plot_rows can write an image file.

    Raises:
        ImportError: If matplotlib is missing.
        OSError: If the file cannot be written.
        ValueError: If matplotlib cannot write files of this type.
    """
    check_writable(path)
    types = _figure_type()().canvas.get_supported_filetypes()
    if path.suffix.lower().removeprefix(".") not in types:
        raise ValueError(f"a plot cannot be saved as '{path}'. Use one of: {', '.join('.' + kind for kind in types)}")


def _figure_type() -> "type[Figure]":
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f"matplotlib is missing ({error}). Install it: pip install 'fer-edge[bench]'") from error
    return Figure


def plot_rows(rows: Sequence[BenchmarkRow], path: Path) -> None:
    """Plot accuracy against latency. The area of a mark is the file size; rings mark the Pareto front.

    Args:
        rows: The rows. Those without a measured accuracy are left out.
        path: Image file to write.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If no row has an accuracy.
    """
    figure_type = _figure_type()
    measured = [row for row in rows if row.accuracy is not None and row.p50_ms is not None]
    if not measured:
        raise ValueError("no row has a measured accuracy to plot. Pass --data")
    front = pareto_front(measured)
    networks = list(dict.fromkeys(row.network for row in measured))
    markers = precision_markers(measured)
    figure = figure_type(figsize=(9, 5.5), layout="constrained")
    axes = figure.subplots()
    for row in measured:
        style: dict[str, Any] = {"marker": markers[row.precision or "-"], "color": f"C{networks.index(row.network)}"}
        style |= {"s": 20 + 12 * row.file_bytes / 1e6, "edgecolors": "black" if row in front else "none"}
        axes.scatter(row.p50_ms or 0.0, row.accuracy or 0.0, alpha=0.6, linewidths=2, **style)
    for network in networks:
        axes.scatter([], [], color=f"C{networks.index(network)}", label=network)
    for precision, marker in markers.items():
        axes.scatter([], [], marker=marker, color="gray", label=precision)
    axes.scatter([], [], facecolors="none", edgecolors="black", linewidths=2, label="Pareto front")
    axes.set_xscale("log")
    axes.set_xlabel(f"{measured[0].stage}, median ms ({', '.join(dict.fromkeys(row.board for row in measured))})")
    axes.set_ylabel("accuracy")
    axes.set_title("Accuracy, latency and size (area of the mark)")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)
