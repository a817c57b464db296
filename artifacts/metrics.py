"""How far probabilities are from the shares of right answers; training and conversion both measure it."""

import numpy as np
import numpy.typing as npt

BINS = 15


def expected_calibration_error(
    probabilities: npt.NDArray[np.float32], targets: npt.NDArray[np.int64], bins: int = BINS
) -> float:
    """Compute the expected calibration error (ECE).

    Args:
        probabilities: float32 array (n, classes).
        targets: int64 array (n,).
        bins: Number of equal bins of the highest probability.

    Returns:
        Mean distance between the highest probability and the accuracy, over bins, weighted by their faces; 0..1.

    Source: Guo et al., 2017, https://arxiv.org/abs/1706.04599.
    """
    confidence = np.nan_to_num(probabilities.max(axis=1).astype(np.float64), nan=0.0)  # an answer of nan is none
    right = probabilities.argmax(axis=1) == targets
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    counts = np.bincount(bin_of, minlength=bins)
    gaps = np.bincount(bin_of, weights=confidence - right, minlength=bins)
    return float(np.abs(gaps).sum() / counts.sum())
