"""The interactive figures of a report, made with Bokeh: accuracy against latency, and the change against float32."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bokeh.core.properties import value as constant
from bokeh.embed import components
from bokeh.models import ColumnDataSource, CustomJS, FixedTicker, HoverTool, PrintfTickFormatter, Range1d, Span, Whisker
from bokeh.palettes import Colorblind
from bokeh.plotting import figure
from markupsafe import Markup

from fer_edge.benchmarks.latency_tables import BenchmarkRow, pareto_front
from fer_edge.benchmarks.plain_ticks import plain_ticks
from fer_edge.benchmarks.report_entries import FloatChange, ReportEntry

MARKERS = {"float32": "circle", "float16": "square", "dynamic": "diamond", "int8": "triangle"}
OTHER_MARKERS = ("hex", "star", "inverted_triangle", "plus", "x")
SYMBOLS = {"circle": "●", "square": "■", "diamond": "◆", "triangle": "▲", "hex": "⬢", "star": "★", "inverted_triangle": "▼"}
COLORS = Colorblind[8]
MIN_DIAMETER, MAX_DIAMETER = 9, 34  # pixels
LABEL_FONT = "12px"

# Puts each label next to its point where it covers neither a point nor another label; labels without such a place stay hidden
# until the reader zooms in. Runs again when the plot is resized or zoomed.
PLACE_LABELS = """
const width = plot.inner_width, height = plot.inner_height
if (!width || !height) return
const log = Math.log10, d = source.data, count = d.x.length
const left = log(plot.x_range.start), right = log(plot.x_range.end)
const px = i => (log(d.x[i]) - left) / (right - left) * width
const py = i => (plot.y_range.end - d.y[i]) / (plot.y_range.end - plot.y_range.start) * height
const pen = document.createElement("canvas").getContext("2d")
pen.font = font + " sans-serif"
const taken = []
for (let i = 0; i < count; i++) {
  const r = d.diameter[i] / 2
  taken.push([px(i) - r, py(i) - r, px(i) + r, py(i) + r])
}
const free = b => b[0] >= 0 && b[2] <= width && b[1] >= 0 && b[3] <= height &&
  taken.every(t => b[2] <= t[0] || b[0] >= t[2] || b[3] <= t[1] || b[1] >= t[3])
const shown = Array(count).fill(""), dx = Array(count).fill(0), dy = Array(count).fill(0)
const order = [...Array(count).keys()].sort((a, b) => d.front[b] - d.front[a] || d.y[b] - d.y[a])
for (const i of order) {
  const w = pen.measureText(d.name[i]).width, h = 13, r = d.diameter[i] / 2 + 3
  const places = [[r, -h / 2], [-w - r, -h / 2], [-w / 2, -h - r], [-w / 2, r], [r * .7, -h - r * .7], [r * .7, r * .7],
                  [-w - r * .7, -h - r * .7], [-w - r * .7, r * .7], [r, -h - r], [-w - r, r]]
  for (const [x, y] of places) {
    const box = [px(i) + x, py(i) + y, px(i) + x + w, py(i) + y + h]
    if (!free(box)) continue
    taken.push(box)
    shown[i] = d.name[i]
    dx[i] = x
    dy[i] = y + h / 2
    break
  }
}
d.shown = shown
d.dx = dx
d.dy = dy
source.change.emit()
"""


def accuracy_figure(entries: Sequence[ReportEntry], networks: Sequence[str], markers: dict[str, str], limits: Any) -> Any:
    """Return the plot of accuracy against latency of one board; None if no file has both.

    Args:
        entries: The files measured on the board.
        networks: All networks of the report, in the order of their colors.
        markers: Marker by precision.
        limits: From axis_limits, the same for all boards.

    Returns:
        A Bokeh figure. The area of a point is the file size, its bar the 95 % interval, a ring marks the Pareto front.
    """
    shown = [entry for entry in entries if is_plotted(entry.row)]
    if not shown:
        return None
    front = pareto_front([entry.row for entry in shown])
    (left, right), (low, high) = limits
    plot = figure(
        height=440, sizing_mode="stretch_width", x_axis_type="log", x_range=Range1d(left, right), y_range=Range1d(low, high),
        x_axis_label="median latency, ms", y_axis_label="accuracy, %", tools="pan,wheel_zoom,box_zoom,reset,save",
        active_scroll=None, toolbar_location="above",
    )  # fmt: skip
    plot.toolbar.logo = None
    plot.xaxis.ticker = FixedTicker(ticks=plain_ticks(left, right))
    plot.xaxis.formatter = PrintfTickFormatter(format="%g")
    source = ColumnDataSource(_columns(shown, front, networks, markers))
    _draw_front(plot, front)
    plot.add_layout(
        Whisker(base="x", lower="low", upper="high", source=source, line_color="gray", line_alpha=0.5,
                upper_head=None, lower_head=None)
    )  # fmt: skip
    style = {"size": "diameter", "marker": "marker", "fill_color": "color", "fill_alpha": 0.6, "line_width": 2}
    points = plot.scatter("x", "y", source=source, line_color="edge", **style)
    plot.add_tools(HoverTool(renderers=[points], tooltips=TOOLTIPS))
    plot.text("x", "y", "shown", x_offset="dx", y_offset="dy", source=source, text_font_size=LABEL_FONT,
              text_baseline="middle", text_font=constant("sans-serif"))  # fmt: skip
    callback = CustomJS(args={"plot": plot, "source": source, "font": LABEL_FONT}, code=PLACE_LABELS)
    for name in ("inner_width", "inner_height"):
        plot.js_on_change(name, callback)
    for axis in (plot.x_range, plot.y_range):
        axis.js_on_change("end", callback)
    return plot


TOOLTIPS = [
    ("file", "@file"),
    ("accuracy", "@accuracy"),
    ("p50", "@p50"),
    ("size", "@megabytes"),
    ("Pareto front", "@on_front"),
]


def is_plotted(row: BenchmarkRow) -> bool:
    """Return whether a row has an accuracy and a latency."""
    return row.accuracy is not None and row.p50_ms is not None


def axis_limits(rows: Sequence[BenchmarkRow]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the ends of the latency axis, ms, and of the accuracy axis, %: with room for labels.

    Args:
        rows: Rows with an accuracy and a latency.
    """
    times = [row.p50_ms for row in rows if row.p50_ms]
    bounds = [100 * bound for row in rows for bound in (row.accuracy_low, row.accuracy_high) if bound is not None]
    bounds = bounds or [0.0, 100.0]
    margin = 0.06 * (max(bounds) - min(bounds)) + 0.5
    return (min(times) / 1.7, max(times) * 2.2), (max(0.0, min(bounds) - margin), min(101.0, max(bounds) + margin))


def marker_by_precision(rows: Sequence[BenchmarkRow]) -> dict[str, str]:
    """Return a Bokeh marker for each precision of the rows."""
    used = dict.fromkeys(row.precision or "" for row in rows)
    others = zip((name for name in used if name not in MARKERS), itertools.cycle(OTHER_MARKERS), strict=False)
    return {name: marker for name, marker in MARKERS.items() if name in used} | dict(others)


def _columns(
    shown: Sequence[ReportEntry], front: Sequence[BenchmarkRow], networks: Sequence[str], markers: dict[str, str]
) -> dict[str, list[Any]]:
    rows = [entry.row for entry in shown]
    largest = max(row.file_bytes for row in rows)
    accuracies = [row.accuracy or 0.0 for row in rows]
    lows = [
        100 * (value if row.accuracy_low is None else row.accuracy_low) for row, value in zip(rows, accuracies, strict=True)
    ]
    highs = [
        100 * (value if row.accuracy_high is None else row.accuracy_high) for row, value in zip(rows, accuracies, strict=True)
    ]
    sources = ["" if row.accuracy_source == "measured" else ", as stored in the file" for row in rows]
    return {
        "x": [row.p50_ms for row in rows],
        "y": [100 * value for value in accuracies],
        "low": lows,
        "high": highs,
        "name": [entry.name for entry in shown],
        "file": [row.file for row in rows],
        "accuracy": [
            f"{100 * value:.1f} % ({low:.1f} to {high:.1f}){source}"
            for value, low, high, source in zip(accuracies, lows, highs, sources, strict=True)
        ],
        "p50": [f"{row.p50_ms:.3g} ms" for row in rows],
        "megabytes": [f"{row.file_bytes / 1e6:.2f} MB" for row in rows],
        "on_front": ["yes" if row in front else "no" for row in rows],
        "front": [int(row in front) for row in rows],
        "diameter": [
            max(MIN_DIAMETER, MAX_DIAMETER * (row.file_bytes / largest) ** 0.5) for row in rows
        ],
        "marker": [markers[row.precision or ""] for row in rows],
        "color": [COLORS[networks.index(row.network) % len(COLORS)] for row in rows],
        "edge": ["black" if row in front else "rgba(0, 0, 0, 0)" for row in rows],
        "shown": [""] * len(rows),
        "dx": [0.0] * len(rows),
        "dy": [0.0] * len(rows),
    }  # fmt: skip


def _draw_front(plot: Any, front: Sequence[BenchmarkRow]) -> None:
    """Draw steps along the points that no other point beats in accuracy and latency."""
    corners: list[tuple[float, float]] = []
    for row in sorted(front, key=lambda row: (row.p50_ms or 0.0, -(row.accuracy or 0.0))):
        if not corners or (row.accuracy or 0.0) * 100 > corners[-1][1]:
            corners.append((row.p50_ms or 0.0, 100 * (row.accuracy or 0.0)))
    plot.step(
        [x for x, _ in corners], [y for _, y in corners], mode="after", line_color="black", line_dash="dotted", line_alpha=0.5
    )


def change_figure(changes: Sequence[tuple[str, FloatChange]], quantity: str) -> Any:
    """Return the plot of one quantity against float32, with 95 % intervals; None if it was not measured.

    Args:
        changes: Names and changes, from top to bottom.
        quantity: ``speed`` (ratio of the latencies) or ``accuracy`` (change in points).
    """
    rows = []
    for name, change in changes:
        if quantity == "speed" and change.speed:
            rows.append((name, change.speed.value, change.speed.low, change.speed.high))
        elif quantity == "accuracy" and change.accuracy is not None:
            reach = 100 * (change.accuracy_reach or 0.0)
            rows.append((name, 100 * change.accuracy, 100 * change.accuracy - reach, 100 * change.accuracy + reach))
    if not rows:
        return None
    neutral, title = (1, "latency as a multiple of float32") if quantity == "speed" else (0, "change of the accuracy, points")
    names, values, lows, highs = (list(column) for column in zip(*rows, strict=True))
    plot = figure(
        height=90 + 26 * len(rows),
        sizing_mode="stretch_width",
        y_range=names[::-1],
        x_axis_label=title,
        tools="",
        toolbar_location=None,
    )
    plot.add_layout(Span(location=neutral, dimension="height", line_color="gray", line_dash="dashed"))
    source = ColumnDataSource({"name": names, "value": values, "low": lows, "high": highs,
                               "text": [f"{value:.2f} ({low:.2f} to {high:.2f})" for _, value, low, high in rows]})  # fmt: skip
    plot.segment("low", "name", "high", "name", source=source, line_width=3, line_alpha=0.5)
    points = plot.scatter("value", "name", source=source, size=9)
    plot.add_tools(HoverTool(renderers=[points], tooltips=[("file", "@name"), (title, "@text")]))
    return plot


@dataclass(frozen=True)
class Plot:
    """A figure on the page: its title, and the element that Bokeh fills."""

    title: str
    div: Any


@dataclass(frozen=True)
class ReportPlots:
    """All figures of a report.

    Attributes:
        accuracy: One per board that has points.
        changes: Against float32, one per quantity and board.
        marks: What the markers mean.
        script: The script that draws them.
    """

    accuracy: tuple[Plot, ...]
    changes: tuple[Plot, ...]
    marks: str
    script: Any


def report_plots(entries: Sequence[ReportEntry], changes: Sequence[tuple[ReportEntry, FloatChange]]) -> ReportPlots:
    """Make the figures of a report. Boards are facets with equal axes.

    Args:
        entries: All files.
        changes: The quantized files with their change against float32.
    """
    plotted = [entry.row for entry in entries if is_plotted(entry.row)]
    boards = list(dict.fromkeys(entry.row.board for entry in entries))
    networks = list(dict.fromkeys(row.network for row in plotted))
    markers = marker_by_precision(plotted)
    figures: list[tuple[str, str, Any]] = []
    for board in boards:
        of_board = [entry for entry in entries if entry.row.board == board]
        if plotted:
            figures.append(("accuracy", board, accuracy_figure(of_board, networks, markers, axis_limits(plotted))))
        changed = [(entry.name, change) for entry, change in changes if entry.row.board == board]
        suffix = f", {board}" if len(boards) > 1 else ""
        figures += [("change", f"Latency{suffix}", change_figure(changed, "speed"))]
        figures += [("change", f"Accuracy{suffix}", change_figure(changed, "accuracy"))]
    figures = [figure for figure in figures if figure[2] is not None]
    script, divs = components([plot for _, _, plot in figures]) if figures else ("", ())
    plots = [(kind, Plot(title, Markup(div))) for (kind, title, _), div in zip(figures, divs, strict=True)]
    return ReportPlots(
        tuple(plot for kind, plot in plots if kind == "accuracy"),
        tuple(plot for kind, plot in plots if kind == "change"),
        ", ".join(f"{SYMBOLS.get(marker, marker)} {precision}" for precision, marker in markers.items()),
        Markup(script),
    )
