"""The comparison page: one row per network, as a basis to choose one, and its figure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fer_edge.artifacts.atomic_write import atomic_path
from fer_edge.artifacts.contract import read_contract
from fer_edge.artifacts.latency_records import LatencyRecord
from fer_edge.artifacts.mean_ci import MeanCI
from fer_edge.benchmarks.paper.paper_results import PUBLISHED
from fer_edge.benchmarks.paper.series import COMPARED_DATA, Series
from fer_edge.benchmarks.tables import NOT_MEASURED, markdown_table

TITLES = {name: row.title for name, row in PUBLISHED.items()} | {"cnn_nano": "cnn_nano"}
COMPLETE_RUNS = {"paper": 5, "subject": 10}  # seeds of the paper protocol, folds of the subject protocol
AXIS = (0.85, 1.0)
# Distinct for color-blind readers too (Okabe and Ito).
COLORS = {"published": "#666666", "ours, published protocol": "#0072b2", "ours, new faces": "#d55e00"}

PAGE = """# Which network?

Six networks: the five of a published comparison (Almsari, Miry and Salman, 2024) and our `cnn_nano`. The published
accuracies and ours are on CK+48.

{table}

![Test accuracy per network: published, published protocol, new faces]({figure})

## How to read it

- **Published**: accuracy in the paper.
- **Ours, published protocol**: our accuracy with the random division of the paper. The same people are in training and test,
  so this accuracy is too high for practice. It serves to compare with the paper.
- **Ours, new faces**: 10-fold cross-validation with no person in both training and test. Expect this accuracy on people
  that the model has not seen. Both columns show the mean and its 95 % interval.
- {fine_tuned} results in these two columns started from our FER2013 models, not from ImageNet or random weights.
- **int8 change**: change of the accuracy by conversion to int8, in percentage points, of the model in `models/`, measured on
  {faces} FER2013 test faces. Negative values are losses.
- **MB** and **ms**: size of that int8 file, and its median time per face with one thread on {boards}.
- `{missing}`: there is no record of this value.

[Details]({details}) has the published tables, how the rows were chosen, and further data.
[{csv}]({csv}) has every series of runs with its recipe, origin and intervals.
"""

SELECTION = """## How the rows of the comparison page were chosen

`fer-edge dev report` groups runs that differ only in seed and fold. Of each network and protocol, the page
shows the series that was recorded last among the complete ones: at least 5 seeds with the paper protocol, all 10 folds with
the subject protocol. Without a complete series it shows the one that was recorded last. The test accuracy does not matter for
the choice. The column `on_page` of the CSV file marks the chosen series. Size and int8 change are of the
file in `models/`; the latency is the last record of a file of that name with one thread.
"""


@dataclass(frozen=True)
class ComparedNetwork:
    """One row of the page. None marks values that were not measured.

    Attributes:
        title: Name of the network for readers.
        published: Published test accuracy, 0..1.
        paper: Our series with the paper protocol.
        subject: Our series with the subject protocol.
        int8_change: Accuracy of the int8 file minus that of the Keras model, -1..1.
        int8_faces: Number of faces it was measured on.
        file_bytes: Size of the int8 file, bytes.
        p50_ms: Median latency of the int8 file, milliseconds.
        board: Where the latency was measured.
    """

    title: str
    published: float | None
    paper: Series | None
    subject: Series | None
    int8_change: float | None = None
    int8_faces: int | None = None
    file_bytes: int | None = None
    p50_ms: float | None = None
    board: str | None = None


def compare_networks(
    groups: Sequence[Series], models: Mapping[str, Path], latencies: Sequence[LatencyRecord]
) -> list[ComparedNetwork]:
    """Return the rows of the page.

    Args:
        groups: All series.
        models: The int8 file of each network.
        latencies: Latency records, the latest last.
    """
    rows = []
    for name, title in TITLES.items():
        published = PUBLISHED[name].test_accuracy if name in PUBLISHED else None
        path = models.get(name)
        metrics = read_contract(path).metrics if path else None
        timed = [record for record in latencies if path and record.file == path.name and _is_plain(record)]
        rows.append(
            ComparedNetwork(
                title=title,
                published=published,
                paper=newest_series(groups, name, "paper"),
                subject=newest_series(groups, name, "subject"),
                int8_change=metrics.after.accuracy - metrics.before.accuracy if metrics else None,
                int8_faces=metrics.faces if metrics else None,
                file_bytes=path.stat().st_size if path else None,
                p50_ms=float(np.median(timed[-1].samples_ms)) if timed else None,
                board=timed[-1].environment.title if timed else None,
            )
        )
    return rows


def _is_plain(record: LatencyRecord) -> bool:
    """Return whether a record is of one thread with the default backend, and has samples."""
    return record.num_threads == 1 and record.backend == "xnnpack" and bool(record.samples_ms)


def newest_series(groups: Sequence[Series], network: str, protocol: str) -> Series | None:
    """Return the series of a network that was recorded last; complete ones come first. See SELECTION.

    Args:
        groups: All series.
        network: Name of the network.
        protocol: A key of COMPLETE_RUNS.
    """
    matches = [
        series
        for series in groups
        if (series.record.plan.network, series.record.data, series.record.split.protocol) == (network, COMPARED_DATA, protocol)
    ]
    complete = COMPLETE_RUNS[protocol]
    return max(matches, key=lambda series: (len(series.runs) >= complete, series.last_recorded), default=None)


def comparison_page(rows: Sequence[ComparedNetwork], figure: str, details: str) -> str:
    """Return the page as markdown.

    Args:
        rows: The rows.
        figure: File name of the figure.
        details: File name of the appendix.
    """
    header = (
        "network", "published", "ours, published protocol", "ours, new faces", "int8 change, points", "MB", "ms",
    )  # fmt: skip
    lines = [
        (
            row.title,
            "-" if row.published is None else f"{row.published:.3f}",
            _interval(row.paper, "paper"),
            _interval(row.subject, "subject"),
            NOT_MEASURED if row.int8_change is None else f"{100 * row.int8_change:+.2f}",
            NOT_MEASURED if row.file_bytes is None else f"{row.file_bytes / 1e6:.2f}",
            NOT_MEASURED if row.p50_ms is None else f"{row.p50_ms:.2f}",
        )
        for row in rows
    ]
    series = [series for row in rows for series in (row.paper, row.subject) if series]
    boards = dict.fromkeys(row.board for row in rows if row.board)
    faces = dict.fromkeys(f"{row.int8_faces:,}" for row in rows if row.int8_faces)
    return PAGE.format(
        table=markdown_table(header, lines),
        figure=figure,
        details=details,
        csv=Path(figure).with_suffix(".csv"),
        faces=" or ".join(faces) or "the",
        boards=" or ".join(boards) or "no machine yet",
        missing=NOT_MEASURED,
        fine_tuned=_fine_tuned(series),
    )


def _fine_tuned(shown: Sequence[Series]) -> str:
    """Return how many series started from a FER2013 model, such as "All 10" or "3 of the 10"."""
    count = sum("fer2013" in series.record.results.weights.source for series in shown)
    return f"All {count}" if count == len(shown) else f"{count} of the {len(shown)}"


def _interval(series: Series | None, protocol: str) -> str:
    if series is None:
        return NOT_MEASURED
    mean, runs = series.mean(), len(series.runs)
    text = f"{mean.mean:.3f}" if mean.runs == 1 else f"{mean.mean:.3f} ({mean.low:.3f} to {mean.high:.3f})"
    return text if runs >= COMPLETE_RUNS[protocol] else f"{text}, {runs} of {COMPLETE_RUNS[protocol]} runs"


def plot_networks(rows: Sequence[ComparedNetwork], path: Path) -> None:
    """Write the figure of the page.

    Args:
        rows: The rows.
        path: PNG file to write.
    """
    with atomic_path(path) as temporary:
        draw_networks(rows).savefig(temporary, format="png", dpi=110)


def draw_networks(rows: Sequence[ComparedNetwork]) -> Any:
    """Return a matplotlib figure, a dot plot: three labeled marks per network, with the 95 % intervals of ours."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.9 + 0.95 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for number, row in enumerate(rows):
        published = None if row.published is None else MeanCI(row.published, row.published, row.published, 0.0, 1)
        ours = [series.mean() if series else None for series in (row.paper, row.subject)]
        means = (published, *ours)
        for shift, (name, color), mean in zip((-0.26, 0.0, 0.26), COLORS.items(), means, strict=True):
            if mean is not None:
                _draw_mark(axes, number + shift, mean, name, color)
        if not any(means):
            axes.text(AXIS[0] + 0.002, number, f"{NOT_MEASURED} on CK+48", va="center", fontsize=9, color="#666666")
    axes.set_yticks(range(len(rows)), [row.title for row in rows], fontsize=11)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.hlines([number + 0.5 for number in range(len(rows) - 1)], *AXIS, color="#dddddd", linewidth=0.8)
    axes.set_xlim(AXIS[0], AXIS[1] + 0.001)
    axes.set_xticks([0.85, 0.90, 0.95, 1.00])
    axes.set_xlabel("test accuracy on CK+48; lines are 95 % intervals of the mean")
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure


def _draw_mark(axes: Any, y: float, mean: MeanCI, name: str, color: str) -> None:
    """Draw a mean, its interval and its label. A mean left of the axis becomes an arrow at the edge."""
    inside = mean.mean >= AXIS[0]
    low = max(mean.low, AXIS[0])
    if inside:
        axes.hlines(y, low, mean.high, color=color, linewidth=2)
    marker = ("D" if name == "published" else "o") if inside else "<"
    axes.plot(max(mean.mean, AXIS[0]), y, marker, color=color, markersize=6, clip_on=False)
    runs = "" if name == "published" or mean.runs > 1 else ", 1 run"
    label = f"{name}{runs} {mean.mean:.3f}"
    if low - AXIS[0] > 0.035:  # room for the label
        axes.text(low - 0.0025, y, label, ha="right", va="center", fontsize=8.5, color=color)
    else:
        axes.text((mean.high if inside else AXIS[0]) + 0.0025, y, label, ha="left", va="center", fontsize=8.5, color=color)
