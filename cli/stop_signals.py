"""End a command in good order when a signal arrives."""

import signal
import sys
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

    def handle(number: int) -> None:
        interrupted.set()
        # In another thread: the main thread may hold a lock that stop() needs.
        threading.Thread(target=stop).start()

    with _handler(handle, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # SIGHUP: an SSH session ends
        yield interrupted


@contextmanager
def unwind_on_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP leave the block as an exception does, and then end the process.

    So child processes end too, and temporary files are removed.
    """
    arrived: list[int] = []

    def handle(number: int) -> None:
        arrived.append(number)
        sys.exit(128 + number)

    try:
        with _handler(handle, signal.SIGTERM, signal.SIGHUP):
            yield
    finally:
        if arrived:
            signal.raise_signal(arrived[0])  # whoever started this process sees that a signal ended it


@contextmanager
def _handler(handle: Callable[[int], None], *numbers: int) -> Iterator[None]:
    """Call ``handle`` at the first of some signals; a second one has its usual effect. Ignored ones, as by nohup, stay so."""
    previous: dict[int, Any] = {}

    def once(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        handle(number)

    try:
        for number in numbers:
            if signal.getsignal(number) != signal.SIG_IGN:
                previous[number] = signal.signal(number, once)
    except ValueError:  # only the main thread can set handlers
        pass
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)
