"""Frames of a network stream that FFmpeg reads: RTSP, RTMP, UDP, and videos over HTTP."""

import re
import time

from fer_edge.edge_runtime.cameras.camera import CameraError
from fer_edge.edge_runtime.cameras.capture import UprightCapture
from fer_edge.edge_runtime.cameras.read_limit import MAX_LIMIT_S, MIN_LIMIT_S
from fer_edge.edge_runtime.images import Image, import_cv2

SCHEMES = ("rtsp://", "rtsps://", "http://", "https://", "rtmp://", "udp://", "tcp://")
TIMEOUT_MS = 5000
LIMIT_GROWTH = 3.0
FAST_STREAM_FRAMES = 5
MAX_FILE_FRAMES = 1e8  # an endless stream reports 0, a negative number or an even larger one


class NetworkStream:
    """A network stream that FFmpeg inside OpenCV can read. Frames are BGR.

    Args:
        url: Its URL. The user, password and query never appear in output.
    """

    pixel_format = "bgr"

    def __init__(self, url: str) -> None:
        self._url = url
        self.name = public_name(url)
        self.frames_per_second: float | None = None
        self.reconnects = True
        self._capture: UprightCapture | None = None
        self._limit_s = MIN_LIMIT_S
        self._frames = 0

    def open(self) -> None:
        """Connect.

        Raises:
            CameraError: If the server does not answer, or does not send a video.
        """
        cv2 = import_cv2()
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, round(self._limit_s * 1000)]
        self._capture = UprightCapture(self._url, limits)
        self._frames = 0
        if not self._capture.is_open:
            self.close()
            raise CameraError(
                "missing",
                f"no video from {self.name}: the server does not answer, the password is wrong, or the URL is not a video",
            )
        self.frames_per_second = self._capture.frames_per_second
        # A file has an end. If it were opened again, it would start over.
        self.reconnects = not 0 < self._capture.frame_count < MAX_FILE_FRAMES

    def read(self) -> Image | None:
        """Wait for the next frame (height, width, 3), BGR; None if the stream stops."""
        start = time.monotonic()
        pixels = self._capture.read() if self._capture is not None else None
        if pixels is None and self._may_be_slow(time.monotonic() - start):
            # FFmpeg cannot change the limit of an open stream.
            self._limit_s = min(self._limit_s * LIMIT_GROWTH, MAX_LIMIT_S)
            self.close()
            try:
                self.open()
            except CameraError:
                return None
            pixels = self._capture.read() if self._capture is not None else None
        self._frames += pixels is not None
        return pixels

    def close(self) -> None:
        """Disconnect."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _may_be_slow(self, waited_s: float) -> bool:
        """Return whether a read ended because the limit is shorter than the time between two frames."""
        timed_out = waited_s >= self._limit_s * 0.9
        return timed_out and self.reconnects and self._limit_s < MAX_LIMIT_S and self._frames < FAST_STREAM_FRAMES


def public_name(url: str) -> str:
    """Return a URL without user, password and query, for output."""
    return re.sub(r"^(\w+://)[^/?#]*@", r"\1", url).partition("?")[0]
