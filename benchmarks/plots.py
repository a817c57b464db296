"""The plot of a comparison as an image file, for papers: accuracy, latency, size."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fer_edge.artifacts.atomic_write import atomic_path, check_writable
from fer_edge.benchmarks.latency_tables import BenchmarkRow, pareto_front
from fer_edge.benchmarks.plain_ticks import plain_ticks
from fer_edge.benchmarks.row_names import row_names

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKERS = "os^DvPX<>*hp"
LABEL_POINTS = 8  # size of the names
MAX_AREA = 700  # of a mark, square points
Box = tuple[float, float, float, float]


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
    """Plot accuracy against latency, with names and 95 % intervals.

    The marker is the board, the color is the network, the area is the file size, and rings mark the Pareto front of each board.

    Args:
        rows: The rows. Those without an accuracy or a latency are left out.
        path: Image file to write: .png, .svg or .pdf.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If no row has both.
    """
    figure_type = _figure_type()
    shown = [row for row in rows if row.accuracy is not None and row.p50_ms]
    if not shown:
        raise ValueError("no row has a measured accuracy and a latency to plot. Pass --data")
    figure = figure_type(figsize=(9, 5.5), layout="constrained")
    axes = figure.subplots()
    _draw_points(axes, shown)
    _draw_axes(axes, shown)
    figure.legend(loc="outside right upper", fontsize=LABEL_POINTS + 1)
    _draw_names(figure, axes, shown)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)


def board_markers(rows: Sequence[BenchmarkRow]) -> dict[str, str]:
    """Return a different matplotlib marker for each board of the rows, up to twelve."""
    return dict(zip(dict.fromkeys(row.board for row in rows), itertools.cycle(MARKERS), strict=False))


def _draw_points(axes: Any, rows: Sequence[BenchmarkRow]) -> None:
    networks, markers = list(dict.fromkeys(row.network for row in rows)), board_markers(rows)
    front = [row for board in markers for row in pareto_front([row for row in rows if row.board == board])]
    for row in rows:
        color, accuracy = f"C{networks.index(row.network) % 10}", row.accuracy or 0.0
        if row.accuracy_low is not None and row.accuracy_high is not None:
            axes.vlines(row.p50_ms, row.accuracy_low, row.accuracy_high, colors=color, alpha=0.35, linewidth=1)
        style: dict[str, Any] = {"marker": markers[row.board], "color": color, "alpha": 0.7, "linewidths": 1.5}
        style |= {"s": _area(row), "edgecolors": "black" if row in front else "none"}
        axes.scatter(row.p50_ms, accuracy, **style)
    for number, network in enumerate(networks):
        axes.scatter([], [], color=f"C{number % 10}", label=network)
    for board, marker in markers.items():
        axes.scatter([], [], marker=marker, color="gray", label=board)
    axes.scatter([], [], facecolors="none", edgecolors="black", linewidths=1.5, label="Pareto front")


def _draw_axes(axes: Any, rows: Sequence[BenchmarkRow]) -> None:
    times = [row.p50_ms for row in rows if row.p50_ms]
    left, right = min(times) / 1.6, max(times) * 1.9
    ticks = plain_ticks(left, right)
    axes.set_xscale("log")
    axes.set_xlim(left, right)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel(f"{rows[0].stage}, median ms")
    axes.set_ylabel("accuracy")
    axes.set_title("Accuracy with 95 % interval, latency and size (area of the mark)")
    axes.grid(alpha=0.3)


def _draw_names(figure: Any, axes: Any, rows: Sequence[BenchmarkRow]) -> None:
    """Write each name where it covers neither a point nor another name; leave it out if there is no such place."""
    figure.draw_without_rendering()  # places the axes, so that pixels are known
    pixels = [tuple(axes.transData.transform((row.p50_ms, row.accuracy))) for row in rows]
    points_per_pixel = 72 / figure.dpi
    radii = [0.5 * _area(row) ** 0.5 / points_per_pixel for row in rows]
    taken: list[Box] = [(x - r, y - r, x + r, y + r) for (x, y), r in zip(pixels, radii, strict=True)]
    frame = axes.get_window_extent().extents
    for row, name, (x, y), radius in zip(rows, row_names(rows), pixels, radii, strict=True):
        text = axes.annotate(name, (row.p50_ms, row.accuracy), (0, 0), textcoords="offset points", fontsize=LABEL_POINTS)
        extent = text.get_window_extent()
        place = free_place((x, y), (extent.width, extent.height), radius + 3, taken, frame)
        if place is None:
            text.remove()
            continue
        taken.append(place)
        text.set_position(((place[0] - x) * points_per_pixel, (place[1] - y) * points_per_pixel))


def _area(row: BenchmarkRow) -> float:
    """Return the area of a mark, square points."""
    return min(25 + 12 * row.file_bytes / 1e6, MAX_AREA)


def free_place(
    point: tuple[float, float], size: tuple[float, float], gap: float, taken: Sequence[Box], frame: Box
) -> Box | None:
    """Return a box for a name next to its point that overlaps no other box, or None.

    Args:
        point: x and y of the point, pixels.
        size: Width and height of the name, pixels.
        gap: Distance of the name from the point, pixels.
        taken: Boxes of points and of other names: left, bottom, right, top.
        frame: The box that the name must be in.
    """
    (x, y), (width, height) = point, size
    sides = (x + gap, x - gap - width, x - width / 2)
    for left, bottom in itertools.product(sides, (y - height / 2, y + gap, y - gap - height)):
        box = (left, bottom, left + width, bottom + height)
        inside = frame[0] <= box[0] and box[2] <= frame[2] and frame[1] <= box[1] and box[3] <= frame[3]
        if inside and all(box[2] <= b[0] or box[0] >= b[2] or box[3] <= b[1] or box[1] >= b[3] for b in taken):
            return box
    return None
