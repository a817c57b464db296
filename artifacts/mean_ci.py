"""The mean of a figure over runs, with its confidence interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fer_edge.artifacts.metrics import ClassificationMetrics

CONFIDENCE = 0.95


@dataclass(frozen=True)
class MeanCI:
    """A mean over runs.

    Attributes:
        mean: Mean.
        low: Lower end of its 95 % interval; the mean itself for a single run.
        high: Upper end.
        deviation: Standard deviation between runs; 0 for a single run.
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
        return f"{self.mean:.4f} ± {self.deviation:.4f} ({self.low:.4f} to {self.high:.4f}, {self.runs} runs)"


def mean_ci(values: Sequence[float], upper_bound: float = 1.0) -> MeanCI:
    """Return the mean of one figure over runs with its 95 % confidence interval (Student's t).

    The interval is slightly too narrow over folds, which share most of their training faces, and over several seeds of the
    same folds, which test each face several times.

    Args:
        values: The figure of each run, at least 0.
        upper_bound: Largest possible value: 1 for a fraction, infinity for a loss. The interval is clipped to 0..upper_bound.

    Raises:
        ValueError: If there are no values.
    """
    from scipy.stats import t

    if not len(values):
        raise ValueError("no runs to summarize")
    mean, count = float(np.mean(values)), len(values)
    if count == 1:
        return MeanCI(mean, mean, mean, 0.0, 1)
    deviation = float(np.std(values, ddof=1))
    reach = float(t.ppf((1 + CONFIDENCE) / 2, count - 1)) * deviation / count**0.5
    return MeanCI(mean, max(0.0, mean - reach), min(upper_bound, mean + reach), deviation, count)


def summarize(tests: Sequence[ClassificationMetrics]) -> dict[str, MeanCI]:
    """Summarize the test metrics of runs that differ only in seed or fold.

    Args:
        tests: The test metrics of each run.

    Returns:
        Means with intervals: ``accuracy``, ``macro_f1``, ``loss`` (nats) and ``ece``.
    """
    return {
        "accuracy": mean_ci([test.accuracy for test in tests]),
        "macro_f1": mean_ci([test.macro.f1 for test in tests]),
        "loss": mean_ci([test.loss for test in tests], upper_bound=math.inf),
        "ece": mean_ci([test.ece for test in tests]),
    }
