"""Frames from elsewhere: a network stream, or raw frames on standard input."""

import re
import select
import sys
from typing import Any, BinaryIO

import numpy as np

from fer_edge.edge_runtime.cameras.camera import CameraError
from fer_edge.edge_runtime.cameras.frame import frame_bytes, from_buffer
from fer_edge.edge_runtime.images import Image, import_cv2, reported_rate

SCHEMES = ("rtsp://", "rtsps://", "http://", "https://", "rtmp://", "udp://", "tcp://")
TIMEOUT_MS = 5000
MOST_FRAMES = 1e8  # of a file; what has no end reports 0, less than that, or nonsense


class NetworkStream:
    """A stream that FFmpeg inside OpenCV can read: RTSP, HTTP (MJPEG, HLS), RTMP, UDP; frames are BGR.

    Args:
        url: Its address; its user, password and query are never shown.
    """

    pixel_format = "bgr"

    def __init__(self, url: str) -> None:
        self._url = url
        self.name = re.sub(r"^(\w+://)[^/?#]*@", r"\1", url).partition("?")[0]
        self.frames_per_second: float | None = None
        self.reconnects = True
        self._capture: Any = None

    def open(self) -> None:
        """Connect.

        Raises:
            CameraError: If nothing answers, or what answers is no video.
        """
        cv2 = import_cv2()
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, TIMEOUT_MS]
        self._capture = cv2.VideoCapture(self._url, cv2.CAP_FFMPEG, limits)
        if not self._capture.isOpened():
            self.close()
            raise CameraError(
                "missing", f"no video from {self.name}: nothing answers there, the password is wrong, or it is no video"
            )
        self.frames_per_second = reported_rate(self._capture)
        # A file has an end; opened again it would start over.
        self.reconnects = not 0 < self._capture.get(cv2.CAP_PROP_FRAME_COUNT) < MOST_FRAMES

    def read(self) -> Image | None:
        """Wait for the next frame (height, width, 3), BGR; None when the stream stops."""
        read, picture = self._capture.read() if self._capture is not None else (False, None)
        return np.asarray(picture, np.uint8) if read else None

    def close(self) -> None:
        """Disconnect."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None


class RawInput:
    """Raw frames, one behind the other, on standard input.

    Args:
        size: Width and height of the frames, pixels.
        pixel_format: Order of their bytes, one of frame.PIXEL_FORMATS.
        frames_per_second: What to take the rate for.
        file: Where to read; standard input where None.

    Raises:
        ValueError: If size and pixel_format do not fit each other.
    """

    name = "standard input"
    reconnects = False

    def __init__(
        self,
        size: tuple[int, int],
        pixel_format: str = "rgb",
        frames_per_second: float | None = None,
        file: BinaryIO | None = None,
    ) -> None:
        self.pixel_format = pixel_format
        self.frames_per_second = frames_per_second
        self._size = size
        self._bytes = frame_bytes(*size, pixel_format)
        self._file = file
        self._closed = False
        self._frames = 0

    def open(self) -> None:
        """Check that somebody writes.

        Raises:
            CameraError: If standard input is a terminal.
        """
        self._file = self._file or sys.stdin.buffer
        if self._file.isatty():
            raise CameraError(
                "missing",
                "nothing is piped in. For example: ffmpeg -re -i clip.mp4 -f rawvideo -pix_fmt rgb24 - | "
                "fer-edge run - --frame-size 640x480. Frames that come too fast are dropped; --every-frame keeps all",
            )

    def read(self) -> Image | None:
        """Wait for the next frame; None at the end.

        Raises:
            CameraError: If the input ends before its first frame does.
        """
        data = bytearray()
        while not self._closed and self._file is not None and len(data) < self._bytes:
            # A wait with a limit, so that close() from another thread is noticed.
            if not select.select([self._file], [], [], 0.2)[0]:
                continue
            part = self._file.raw.read(self._bytes - len(data)) if hasattr(self._file, "raw") else self._file.read(self._bytes)
            if not part:
                break
            data += part
        if len(data) < self._bytes:
            if data and not self._frames:
                size = f"{self._size[0]}x{self._size[1]} {self.pixel_format}"
                raise CameraError(
                    "failed",
                    f"standard input ended after {len(data)} bytes; one frame of {size} has {self._bytes}. "
                    "Check --frame-size and --pixel-format",
                )
            return None
        self._frames += 1
        return from_buffer(data, *self._size, self.pixel_format)

    def close(self) -> None:
        """Stop waiting. Standard input itself stays open."""
        self._closed = True
