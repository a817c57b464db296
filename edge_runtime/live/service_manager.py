"""Report the state of a run to the service manager: systemd's notifications and watchdog.

Source: sd_notify(3), https://www.freedesktop.org/software/systemd/man/sd_notify.html.
"""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from fer_edge.edge_runtime.cameras.camera import OnMessage
from fer_edge.edge_runtime.live.heartbeat import Heartbeat
from fer_edge.edge_runtime.live.stats import PipelineStats

SOCKET_VARIABLE = "NOTIFY_SOCKET"
WATCHDOG_VARIABLES = ("WATCHDOG_USEC", "WATCHDOG_PID")
FIRST_FRAME = "first frame labeled"  # `fer-edge deploy` looks for this text in the journal
# A stream that delivers a frame per minute is healthy, see docs/run.md.
MAX_BUSY_S = 75.0
FIRST_FRAME_POLL_S = 0.2
MAX_INTERVAL_S = 10.0


def notify(state: str) -> bool:
    """Send lines such as ``READY=1`` to the service manager.

    Returns:
        Whether there is a service manager that takes them. It is not an error if it is gone.
    """
    address = os.environ.get(SOCKET_VARIABLE)
    if not address:
        return False
    if address.startswith("@"):  # a socket without a file
        address = f"\0{address[1:]}"
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.settimeout(1.0)
        sender.sendto(state.encode(), address)
        return True
    return False


def watchdog_s() -> float | None:
    """Return within which time the service manager expects a sign of life, seconds; None if it expects none."""
    time_us, process = (os.environ.get(name, "") for name in WATCHDOG_VARIABLES)
    if not time_us.isdigit() or process not in ("", str(os.getpid())):
        return None
    return int(time_us) / 1e6 or None


@contextmanager
def report_to_service_manager(
    stats: PipelineStats, heartbeat: Heartbeat, on_message: OnMessage, max_busy_s: float = MAX_BUSY_S
) -> Iterator[None]:
    """Report that a run is ready, works and ends, while the block runs. Does nothing if no service manager started the run.

    A stage that hangs gets no sign of life, so that the service manager ends the process and starts it again.

    Args:
        stats: Counters of the pipeline.
        heartbeat: The pipeline's heartbeat.
        on_message: Called after the first labeled frame, and with the name of a stage that hangs.
        max_busy_s: A stage that is busy for longer hangs, seconds.
    """
    if not notify("READY=1"):
        yield
        return
    ended = threading.Event()
    reporter = threading.Thread(
        target=_report, args=(stats, heartbeat, on_message, max_busy_s, ended), name="fer-edge service", daemon=True
    )
    reporter.start()
    try:
        yield
    finally:
        ended.set()
        reporter.join()
        notify("STOPPING=1")


def _report(
    stats: PipelineStats, heartbeat: Heartbeat, on_message: OnMessage, max_busy_s: float, ended: threading.Event
) -> None:
    start_s = reported_s = time.monotonic()
    interval_s = min((watchdog_s() or MAX_INTERVAL_S) / 3, MAX_INTERVAL_S)
    has_frame = hangs = False
    while not ended.wait(interval_s if has_frame else min(FIRST_FRAME_POLL_S, interval_s)):
        if not has_frame and stats.processed:
            has_frame = True
            on_message(f"{FIRST_FRAME} {time.monotonic() - start_s:.1f} s after the start")
        elif not has_frame and time.monotonic() - reported_s < interval_s:
            continue
        reported_s = time.monotonic()
        stage, busy_s = heartbeat.slowest()
        if busy_s <= max_busy_s:
            hangs = False
            notify(f"WATCHDOG=1\nSTATUS={stats.processed} frames labeled, {stats.dropped} dropped")
        elif not hangs:
            hangs = True
            notify(f"STATUS=hangs in {stage}")
            on_message(f"the stage '{stage}' hangs since {busy_s:.0f} s; the service manager restarts the program")
