"""Ticks of a logarithmic axis that read as plain numbers: 0.1, 0.2, 0.5, 1, 2, 5, 10."""

import math

MAX_RANGE = 5000  # of an axis with 2 and 5 between the powers of ten


def plain_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times the powers of ten within a range; over many decades, the powers of ten only.

    Args:
        low: Lower end, > 0.
        high: Upper end, > low.
    """
    steps = (1, 2, 5) if high / low <= MAX_RANGE else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [float(f"{step}e{power}") for power in powers for step in steps]  # the text has no rounding errors
    return [tick for tick in ticks if low <= tick <= high]
