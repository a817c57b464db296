"""Cameras behind one protocol, and the loop that keeps one going for weeks."""

import itertools
import threading
import time
from collections.abc import Callable, Generator
from typing import Literal, Protocol

from fer_edge.edge_runtime.cameras.frame import Frame
from fer_edge.edge_runtime.images import Image

RECONNECT_DELAYS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # between attempts to reopen; the last one repeats

OnMessage = Callable[[str], None]
Reason = Literal["missing", "denied", "busy", "failed"]


class CameraError(OSError):
    """A camera that gives no pictures.

    Attributes:
        reason: missing, denied, busy or failed.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Camera(Protocol):
    """Something that gives frames as time goes by.

    Attributes:
        name: What to call it in lines and errors; holds no password.
        pixel_format: Order of its bytes, one of frame.PIXEL_FORMATS.
        frames_per_second: What it was asked for or says of itself; None where unknown.
        reconnects: Whether it is worth trying again when it stops: no for a pipe that has ended.
    """

    name: str
    pixel_format: str
    frames_per_second: float | None
    reconnects: bool

    def open(self) -> None:
        """Start it.

        Raises:
            CameraError: If it is missing, busy, denied or gives no pictures.
        """

    def read(self) -> Image | None:
        """Wait for the next frame, an array as in Frame.pixels. None when the camera is lost."""

    def close(self) -> None:
        """Let go of it. May be called twice, and on a camera that never opened."""


def frames_with_reconnect(
    camera: Camera, stop: threading.Event, on_message: OnMessage | None = None, pauses_s: tuple[float, ...] = RECONNECT_DELAYS_S
) -> Generator[Frame, None, None]:
    """Yield a camera's frames; when it is lost, reopen it with growing pauses.

    Args:
        camera: The camera, not open yet.
        stop: Set from another thread to end.
        on_message: Called with a line when the camera is lost and when it is back.
        pauses_s: Pauses between attempts, seconds; the last one repeats. A first frame starts them afresh.

    Yields:
        Frames with both clocks read just after the capture.

    Raises:
        CameraError: If the camera cannot be opened the first time.
    """
    tell = on_message or (lambda text: None)
    numbers = itertools.count()
    attempt = 0
    try:
        camera.open()
        while not stop.is_set():
            pixels = camera.read()
            if pixels is not None:
                if attempt:
                    tell(f"{camera.name} is back")
                    attempt = 0
                yield Frame(
                    camera.name,
                    next(numbers),
                    pixels,
                    camera.pixel_format,
                    camera.frames_per_second,
                    time.monotonic(),
                    time.time(),
                )
                continue
            camera.close()
            if not camera.reconnects or stop.is_set():
                return
            attempt = _reopen(camera, stop, tell, pauses_s, attempt)
    finally:
        camera.close()


def _reopen(camera: Camera, stop: threading.Event, tell: OnMessage, pauses_s: tuple[float, ...], attempt: int) -> int:
    """Try until the camera opens or ``stop`` is set; return the number of attempts since the last frame."""
    why = "it gives no more pictures"
    while True:
        pause = pauses_s[min(attempt, len(pauses_s) - 1)]
        tell(f"{camera.name} is lost ({why}); trying again in {pause:g} s")
        attempt += 1
        if stop.wait(pause):
            return attempt
        try:
            camera.open()
        except CameraError as error:
            why = str(error)
            camera.close()
        else:
            return attempt
