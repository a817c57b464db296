"""Notice a stage of the pipeline that hangs."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

POLL_S = 5.0


class Heartbeat:
    """Knows since when each stage of a pipeline has worked on the same frame. A stage that waits for a frame is not busy.

    Args:
        clock_s: Returns the time, seconds. A clock that is set by hand or over the network would report hangs that are none.
    """

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._since_s: dict[str, float] = {}

    def beat(self, stage: str) -> None:
        """Note that a stage that is busy makes progress."""
        if stage in self._since_s:
            self._since_s[stage] = self._clock_s()

    @contextmanager
    def busy(self, stage: str) -> Iterator[None]:
        """Count a stage as busy while the block runs."""
        self._since_s[stage] = self._clock_s()
        try:
            yield
        finally:
            self._since_s.pop(stage, None)

    def slowest(self) -> tuple[str, float]:
        """Return the stage that has been busy for the longest time without progress, and that time, seconds.

        Returns:
            The name, empty if no stage is busy, and the time.
        """
        now = self._clock_s()
        times = {stage: now - since for stage, since in list(self._since_s.items())}
        stage = max(times, key=times.__getitem__, default="")
        return stage, times.get(stage, 0.0)


class PolledEvent(threading.Event):
    """An event that reports whenever a loop checks it or waits for it. A loop that hangs checks nothing.

    Args:
        on_poll: Called at each check, and every few seconds while the loop waits.
    """

    def __init__(self, on_poll: Callable[[], None]) -> None:
        super().__init__()
        self._on_poll = on_poll

    def is_set(self) -> bool:
        """Return whether the event is set."""
        self._on_poll()
        return super().is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the event is set, or ``timeout`` seconds. Returns whether it is set."""
        end_s = None if timeout is None else time.monotonic() + timeout
        while True:
            self._on_poll()
            left_s = POLL_S if end_s is None else min(POLL_S, end_s - time.monotonic())
            if super().wait(max(left_s, 0.0)):
                return True
            if end_s is not None and time.monotonic() >= end_s:
                return False
