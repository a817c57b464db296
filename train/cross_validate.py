"""Several folds and seeds of one network: which runs they are, and their mean with its interval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fer_edge.train.faces import Faces
from fer_edge.train.splits import AUTO, Split, make_split

CONFIDENCE = 0.95


def make_splits(faces: Faces, name: str, seeds: Sequence[int], folds: int | None, fold: int | None) -> list[tuple[int, Split]]:
    """Return the seed and the split of each run of a series: every seed, and with ``folds`` but no ``fold`` every fold.

    Raises:
        ValueError: If the name or the fold is unknown, or a seed comes twice.
        DataError: If the data cannot be split so.
    """
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"each seed must come once. Received: seeds={','.join(map(str, seeds))}")
    chosen: Sequence[int | None] = range(folds) if folds and fold is None and name in (AUTO, "subject") else [fold]
    return [(seed, make_split(faces, name, seed, one, folds)) for seed in seeds for one in chosen]


@dataclass(frozen=True)
class Estimate:
    """A mean over runs.

    Attributes:
        mean: Mean.
        low: Lower end of its interval; the mean itself of a single run.
        high: Upper end.
        deviation: Standard deviation between runs; 0 of a single one.
        runs: Number of runs.
    """

    mean: float
    low: float
    high: float
    deviation: float
    runs: int

    def __str__(self) -> str:
        if self.runs == 1:
            return f"{self.mean:.4f}"
        return f"{self.mean:.4f} ({self.low:.4f} to {self.high:.4f}, {self.runs} runs)"


def estimate(values: Sequence[float]) -> Estimate:
    """Return the mean of one figure over runs with Student's 95 % confidence interval.

    Folds share most of their training faces, so between folds the interval is somewhat too narrow.

    Raises:
        ValueError: If there are no values.
    """
    from scipy.stats import t

    if not len(values):
        raise ValueError("there are no runs to summarise")
    mean, count = float(np.mean(values)), len(values)
    if count == 1:
        return Estimate(mean, mean, mean, 0.0, 1)
    deviation = float(np.std(values, ddof=1))
    reach = float(t.ppf((1 + CONFIDENCE) / 2, count - 1)) * deviation / count**0.5
    return Estimate(mean, mean - reach, mean + reach, deviation, count)


def summarise(runs: Sequence[Mapping[str, Any]]) -> dict[str, Estimate]:
    """Summarise the test figures of runs that differ in seed or fold only.

    Args:
        runs: Contents of run.json.

    Returns:
        Estimates of ``accuracy``, ``macro_f1``, ``loss`` and ``ece``.
    """
    tests = [run["metrics"]["test"] for run in runs]
    return {
        "accuracy": estimate([test["accuracy"] for test in tests]),
        "macro_f1": estimate([test["macro"]["f1"] for test in tests]),
        "loss": estimate([test["loss"] for test in tests]),
        "ece": estimate([test["ece"] for test in tests]),
    }
