"""End a run in good order when a signal arrives."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def stop_on_signals(stop: Callable[[], None]) -> Iterator[threading.Event]:
    """Call ``stop`` at the first SIGINT, SIGTERM or SIGHUP. A second signal has its usual effect.

    Yields:
        An event that is set when a signal arrives.
    """
    interrupted = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        signal.signal(number, previous[number])
        interrupted.set()
        # In another thread: the main thread may hold a lock that stop() needs.
        threading.Thread(target=stop).start()

    previous: dict[int, Any] = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # SIGHUP: an SSH session ends
            previous[number] = signal.signal(number, handle)
    except ValueError:  # only the main thread can set handlers
        pass
    try:
        yield interrupted
    finally:
        for caught, handler in previous.items():
            signal.signal(caught, handler)
