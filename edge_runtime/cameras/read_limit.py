"""How long to wait for the next frame of a stream before it counts as lost."""

import time
from collections import deque

MIN_LIMIT_S = 5.0
MAX_LIMIT_S = 60.0
UNKNOWN_LIMIT_S = 30.0  # before the rate is known
INTERVALS_PER_LIMIT = 4.0


class ReadLimit:
    """Follows the rate of a stream. A camera that sends a frame every 10 seconds must not count as lost in between.

    Args:
        frames_per_second: Rate that the stream reports; None if it reports none.
    """

    def __init__(self, frames_per_second: float | None = None) -> None:
        self._intervals_s: deque[float] = deque([1 / frames_per_second] if frames_per_second else [], maxlen=10)
        self._last_s: float | None = None

    def count_frame(self) -> None:
        """Take note that a frame has arrived now."""
        now = time.monotonic()
        if self._last_s is not None:
            self._intervals_s.append(now - self._last_s)
        self._last_s = now

    def restart(self) -> None:
        """Forget when the last frame arrived: the stream was opened again."""
        self._last_s = None

    @property
    def seconds(self) -> float:
        """Return the limit: a multiple of the longest of the newest intervals, within MIN_LIMIT_S and MAX_LIMIT_S."""
        if not self._intervals_s:
            return UNKNOWN_LIMIT_S
        return min(max(INTERVALS_PER_LIMIT * max(self._intervals_s), MIN_LIMIT_S), MAX_LIMIT_S)
