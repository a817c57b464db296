"""Plots of a training run: curves and confusion matrix."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fer_edge.artifacts.atomic_write import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MIN_CELL_INCHES = 0.4  # side of a cell of the confusion matrix: room for a number of four digits


def plot_curves(history: Mapping[str, Sequence[float]], path: Path) -> None:
    """Draw accuracy and loss over the epochs.

    Args:
        history: Metrics per epoch: accuracy, loss, val_accuracy and val_loss.
        path: PNG file to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), ("accuracy", "loss"), strict=True):
        for key, title in ((name, "training (augmented)"), (f"val_{name}", "validation")):
            if key in history:
                axes.plot(range(1, len(history[key]) + 1), history[key], label=title)
        axes.set_xlabel("epoch")
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
        axes.legend()
    _save(figure, path)


def plot_confusion(confusion: Sequence[Sequence[int]], labels: tuple[str, ...], path: Path) -> None:
    """Draw a confusion matrix, colored by the fraction of each true class.

    Args:
        confusion: Counts; rows are true classes, columns are predictions.
        labels: Names of the classes.
        path: PNG file to write.
    """
    from matplotlib.figure import Figure

    counts = np.array(confusion)
    fractions = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = max(5.0, MIN_CELL_INCHES * len(labels))
    figure = Figure(figsize=(side + 0.5, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    names = [_drawn(label, number) for number, label in enumerate(labels, 1)]
    axes.set_xticks(range(len(labels)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(labels)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    for row, column in np.ndindex(counts.shape):
        color = "white" if fractions[row, column] > 0.5 else "black"
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=color)
    _save(figure, path)


def _drawn(label: str, number: int) -> str:
    """Return a label, or ``#3`` for the third label if matplotlib's font lacks one of its characters."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    characters = get_font(findfont(FontProperties())).get_charmap()
    return label if all(ord(character) in characters for character in label) else f"#{number}"


def _save(figure: "Figure", path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)
