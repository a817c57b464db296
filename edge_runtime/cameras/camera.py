"""The Camera protocol, and a loop that reopens a camera whenever it is lost."""

import itertools
import threading
import time
from collections.abc import Callable, Generator
from typing import Literal, Protocol

from fer_edge.edge_runtime.cameras.frame import Frame
from fer_edge.edge_runtime.images import Image

RECONNECT_DELAYS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # between attempts to reopen; the last one repeats
WAIT_DELAYS_S = (1.0, 2.0, 5.0)  # a service must start soon after its camera does
REPEAT_MESSAGE_S = 300.0

OnMessage = Callable[[str], None]
Reason = Literal["missing", "denied", "busy", "failed"]


class CameraError(OSError):
    """A camera cannot be opened or delivers no frames.

    Args:
        reason: missing, denied (no permission), busy (used by another program) or failed.
        message: The problem and the remedy.

    Attributes:
        reason: As above.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Camera(Protocol):
    """A source of frames in real time.

    Attributes:
        name: Name in output and errors, without a password.
        pixel_format: One of frame.PIXEL_FORMATS.
        frames_per_second: Requested or reported rate; None if unknown.
        reconnects: Whether to reopen the camera after it is lost; False for example for a pipe that has ended.
    """

    name: str
    pixel_format: str
    frames_per_second: float | None
    reconnects: bool

    def open(self) -> None:
        """Start the camera.

        Raises:
            CameraError: If it is missing, busy, denied or delivers no frames.
        """

    def read(self) -> Image | None:
        """Wait for the next frame and return its pixels as in Frame.pixels; None if the camera is lost."""

    def close(self) -> None:
        """Release the camera. May be called twice, and on a camera that never opened."""


class FirstFrameMixin:
    """Returns the frame with which open() tested the camera from the first read()."""

    _first_frame: Image | None = None

    def read(self) -> Image | None:
        """Wait for the next frame and return its pixels as in Frame.pixels; None if the camera is lost."""
        if self._first_frame is not None:
            first, self._first_frame = self._first_frame, None
            return first
        return self._read_frame()

    def _read_frame(self) -> Image | None:
        raise NotImplementedError


def frames_with_reconnect(
    camera: Camera,
    stop: threading.Event,
    on_message: OnMessage | None = None,
    delays_s: tuple[float, ...] = RECONNECT_DELAYS_S,
    wait: bool = False,
) -> Generator[Frame, None, None]:
    """Yield a camera's frames. Reopen the camera with growing delays when it is lost.

    Args:
        camera: The camera, not open yet.
        stop: Ends the loop when another thread sets it.
        on_message: Called with a line of text when the camera is lost and when it is back.
        delays_s: Delays between attempts, seconds; the last one repeats. The first frame after a loss resets them.
        wait: Whether to wait for a camera that cannot be opened the first time, instead of an error.

    Yields:
        Frames with capture_time_s and time read just after the capture.

    Raises:
        CameraError: If the camera cannot be opened the first time, unless ``wait`` is True.
    """
    report = DistinctMessages(on_message or (lambda text: None))
    numbers = itertools.count()
    attempts = 0
    try:
        if wait:
            _wait_for(camera, stop, report)
        else:
            camera.open()
        while not stop.is_set():
            pixels = camera.read()
            if pixels is not None:
                if attempts:
                    report(f"{camera.name} is back", "back")
                    attempts = 0
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
            attempts = _reopen(camera, stop, report, delays_s, attempts)
    finally:
        camera.close()


class DistinctMessages:
    """Passes messages on. One with the topic of the message before it is dropped if it follows within 5 minutes.

    Args:
        on_message: Called with the messages that pass.
    """

    def __init__(self, on_message: OnMessage) -> None:
        self._on_message = on_message
        self._topic: str | None = None
        self._passed_s = 0.0

    def __call__(self, text: str, topic: str) -> None:
        """Pass a message on, or drop it.

        Args:
            text: The message.
            topic: The part of it that matters, such as the cause.
        """
        now = time.monotonic()
        if topic != self._topic or now - self._passed_s >= REPEAT_MESSAGE_S:
            self._topic, self._passed_s = topic, now
            self._on_message(text)


def _wait_for(camera: Camera, stop: threading.Event, report: DistinctMessages) -> None:
    """Try until the camera opens or ``stop`` is set."""
    waited = False
    for delay in itertools.chain(WAIT_DELAYS_S, itertools.repeat(WAIT_DELAYS_S[-1])):
        if stop.is_set():
            return
        try:
            camera.open()
        except CameraError as error:
            camera.close()
            report(f"waiting for {camera.name}: {error}", str(error))
            waited = True
        else:
            if waited:
                report(f"{camera.name} is available", "available")
            return
        stop.wait(delay)


def _reopen(camera: Camera, stop: threading.Event, report: DistinctMessages, delays_s: tuple[float, ...], attempts: int) -> int:
    """Try until the camera opens or ``stop`` is set; return the number of attempts since the last frame."""
    cause = "it delivers no more frames"
    while True:
        delay = delays_s[min(attempts, len(delays_s) - 1)]
        report(f"{camera.name} is lost ({cause}); trying again in {delay:g} s", cause)
        attempts += 1
        if stop.wait(delay):
            return attempts
        try:
            camera.open()
        except CameraError as error:
            cause = str(error)
            camera.close()
        else:
            return attempts
