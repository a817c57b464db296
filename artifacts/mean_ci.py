"""A mean over runs and how far it can be trusted."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95


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
        return f"{self.mean:.4f} ± {self.deviation:.4f} ({self.low:.4f} to {self.high:.4f}, {self.runs} runs)"


def estimate(values: Sequence[float], highest: float = 1.0) -> Estimate:
    """Return the mean of one figure over runs with Student's 95 % confidence interval.

    Folds share most of their training faces, and several seeds of folds test each face several times, so of both the interval
    is somewhat too narrow.

    Args:
        values: The figure of each run, none below 0.
        highest: What it cannot exceed: 1 for a share, infinity for a loss. The interval ends there, and at 0.

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
    return Estimate(mean, max(0.0, mean - reach), min(highest, mean + reach), deviation, count)
