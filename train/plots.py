"""Plots of a training run: curves and confusion matrix."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fer_edge.artifacts.atomic_write import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
    figure = Figure(figsize=(5.5, 5), layout="constrained")
    axes = figure.subplots()
    axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right")
    axes.set_yticks(range(len(labels)), labels)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    for row, column in np.ndindex(counts.shape):
        color = "white" if fractions[row, column] > 0.5 else "black"
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=color)
    _save(figure, path)


def _save(figure: "Figure", path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)
