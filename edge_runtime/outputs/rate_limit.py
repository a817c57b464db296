"""Limits on work that strangers can cause: lines in the terminal or the journal, and readings of a sensor."""

import time
from collections.abc import Callable
from typing import Generic, TypeVar

from fer_edge.edge_runtime.cameras.camera import OnMessage

MIN_INTERVAL_S = 60.0
READING_INTERVAL_S = 5.0

Value = TypeVar("Value")


class RateLimitedMessages:
    """Passes on the first message at once, and at most one per minute after it. The next one counts those left out.

    Args:
        on_message: Called with a line of text.
        now_s: Clock, seconds, monotonic.
    """

    def __init__(self, on_message: OnMessage, now_s: Callable[[], float] = time.monotonic) -> None:
        self._on_message = on_message
        self._now_s = now_s
        self._sent_s = float("-inf")
        self._left_out = 0

    def __call__(self, text: str) -> None:
        """Report a problem, or only count it."""
        now_s = self._now_s()
        if now_s - self._sent_s < MIN_INTERVAL_S:
            self._left_out += 1
            return
        more = f" ({self._left_out} more messages since the last one)" if self._left_out else ""
        self._sent_s, self._left_out = now_s, 0
        self._on_message(text + more)


class Reading(Generic[Value]):
    """A value that is read at most every 5 seconds, such as the temperature of the board.

    Args:
        read: Reads the value.
        now_s: Clock, seconds, monotonic.
    """

    def __init__(self, read: Callable[[], Value], now_s: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._now_s = now_s
        self._newest: tuple[float, Value] | None = None

    def __call__(self) -> Value:
        """Return the newest value."""
        now_s = self._now_s()
        if self._newest is None or now_s - self._newest[0] >= READING_INTERVAL_S:
            self._newest = now_s, self._read()
        return self._newest[1]
