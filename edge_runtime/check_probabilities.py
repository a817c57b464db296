"""Check that the output of a model is probabilities."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

# Of the probabilities of a face. The int8 output of a network that was hardly trained can saturate, so the sum can be small.
SUMS = (0.5, 1.1)
MIN_PROBABILITY = -0.1


def check_probabilities(values: Sequence[float] | npt.NDArray[np.float64]) -> None:
    """Check one output of a model.

    Args:
        values: Output values (classes,), dequantized.

    Raises:
        ValueError: If they are not probabilities, up to the error of quantization.
    """
    low, high = SUMS
    if not (low <= sum(values) <= high and min(values) >= MIN_PROBABILITY):  # a sum with NaN is in no range
        raise ValueError(f"the model does not output probabilities: {[round(float(value), 4) for value in values]}")
