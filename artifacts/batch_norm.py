"""The algebra of batch normalization: at inference it is a scale and an offset per channel."""

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def scale_and_offset(
    mean: Any, variance: Any, epsilon: float, gamma: Any | None = None, beta: Any | None = None
) -> tuple[Floats, Floats]:
    """Return scale and offset of a batch normalization: norm(x) = scale * x + offset.

    Args:
        mean: Moving mean, array (channels,).
        variance: Moving variance, array (channels,).
        epsilon: Constant added to the variance.
        gamma: Learned scale, array (channels,); None for 1.
        beta: Learned offset, array (channels,); None for 0.

    Returns:
        Two float64 arrays (channels,).

    Source: Ioffe and Szegedy, 2015, https://arxiv.org/abs/1502.03167.
    """
    scale = 1 / np.sqrt(np.asarray(variance, np.float64) + epsilon)
    if gamma is not None:
        scale = scale * np.asarray(gamma, np.float64)
    offset = -np.asarray(mean, np.float64) * scale
    return scale, offset if beta is None else offset + np.asarray(beta, np.float64)
