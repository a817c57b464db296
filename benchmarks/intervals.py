"""95 % intervals of an accuracy and of a ratio of latencies, with numpy alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Z_95 = 1.959964  # the 97.5th percentile of the normal distribution
BLOCKS = 25
RESAMPLES = 2000
PERCENTILES = (2.5, 97.5)

Rounds = Sequence[Sequence[float] | npt.NDArray[np.float64]]


@dataclass(frozen=True)
class Ratio:
    """A ratio of median latencies, with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def accuracy_interval(accuracy: float, count: int) -> tuple[float, float]:
    """Return the ends of the 95 % interval of an accuracy, by Wilson's formula.

    Args:
        accuracy: Fraction of faces with the right label, 0..1.
        count: Number of faces, > 0.

    Source: Wilson, 1927. Unlike the normal approximation it is right near 0 and 1, and stays within them.
    """
    center = accuracy + Z_95**2 / (2 * count)
    reach = Z_95 * (accuracy * (1 - accuracy) / count + Z_95**2 / (4 * count**2)) ** 0.5
    scale = 1 + Z_95**2 / count
    return (center - reach) / scale, (center + reach) / scale


def ratio_of_medians(samples_ms: Sequence[float], baseline_ms: Sequence[float], seed: int = 0) -> Ratio:
    """Return the ratio of two median latencies with its 95 % bootstrap interval.

    Neighboring samples are not independent: the clock frequency and other processes change them together. So the interval
    comes from resampled blocks of consecutive samples (their medians), not from single samples. It covers the noise within
    both measurements, but not what changes from one process to the next.

    Args:
        samples_ms: Samples in the order of measurement, milliseconds, > 0.
        baseline_ms: Those of the baseline.
        seed: Seed of the resampling.

    Returns:
        The median of ``samples_ms`` as a multiple of that of ``baseline_ms``.
    """
    rng = np.random.default_rng(seed)
    value = float(np.median(samples_ms) / np.median(baseline_ms))
    resampled = _resampled_medians(samples_ms, rng) / _resampled_medians(baseline_ms, rng)
    low, high = map(float, np.percentile(resampled, PERCENTILES))
    return Ratio(value, min(low, value), max(high, value))


def ratio_of_rounds(rounds_ms: Rounds, baseline_rounds_ms: Rounds, seed: int = 0) -> Ratio:
    """Return the ratio of median latencies over several rounds with its 95 % bootstrap interval.

    What changes the speed of a machine changes both sides of a round alike if they were measured in turn. So the ratio is
    taken within each round, and the interval comes from resampled rounds.

    Args:
        rounds_ms: Samples of each round, milliseconds, > 0.
        baseline_rounds_ms: Those of the baseline, from the same rounds.
        seed: Seed of the resampling.

    Returns:
        The median over the rounds of the ratio of the medians.
    """
    ratios = [np.median(samples) / np.median(base) for samples, base in zip(rounds_ms, baseline_rounds_ms, strict=True)]
    resampled = np.median(np.random.default_rng(seed).choice(ratios, (RESAMPLES, len(ratios))), axis=1)
    low, high = map(float, np.percentile(resampled, PERCENTILES))
    return Ratio(float(np.median(ratios)), low, high)


def _resampled_medians(samples_ms: Sequence[float], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    blocks = np.array_split(np.asarray(samples_ms, np.float64), min(BLOCKS, len(samples_ms)))
    medians = np.array([np.median(block) for block in blocks])
    return np.asarray(np.median(rng.choice(medians, (RESAMPLES, len(medians))), axis=1), np.float64)
