"""Raw frames from standard input."""

import select
import sys
from typing import BinaryIO

from fer_edge.edge_runtime.cameras.camera import CameraError
from fer_edge.edge_runtime.cameras.frame import frame_bytes, from_buffer
from fer_edge.edge_runtime.images import Image

POLL_S = 0.2  # how soon read() notices a close() from another thread


class RawInput:
    """Raw frames, one after another, on standard input.

    Args:
        size: Width and height of the frames, pixels.
        pixel_format: One of frame.PIXEL_FORMATS.
        frames_per_second: The frame rate to assume.
        file: Binary file to read; None for standard input.

    Raises:
        ValueError: If the pixel format is unknown, or the size is not valid for it.
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
        """Check that frames are piped in.

        Raises:
            CameraError: If standard input is a terminal.
        """
        self._file = self._file or sys.stdin.buffer
        if self._file.isatty():
            raise CameraError(
                "missing",
                "standard input is a terminal. Pipe raw frames in, for example: ffmpeg -re -i clip.mp4 -f rawvideo -pix_fmt "
                "rgb24 - | fer-edge run - --frame-size 640x480. To label every frame however late, add --every-frame",
            )

    def read(self) -> Image | None:
        """Wait for the next frame, shaped as Frame.pixels; None at the end.

        Raises:
            CameraError: If the input ends within its first frame.
        """
        data = bytearray()
        while not self._closed and self._file is not None and len(data) < self._bytes:
            if not select.select([self._file], [], [], POLL_S)[0]:
                continue
            # The raw file: a buffered read would wait for all bytes.
            chunk = getattr(self._file, "raw", self._file).read(self._bytes - len(data))
            if not chunk:
                break
            data += chunk
        if len(data) == self._bytes:
            self._frames += 1
            return from_buffer(data, *self._size, self.pixel_format)
        if data and not self._frames:
            raise CameraError(
                "failed",
                f"standard input ended after {len(data)} bytes. One frame of {self._size[0]}x{self._size[1]} "
                f"{self.pixel_format} has {self._bytes}. Check --frame-size and --pixel-format",
            )
        return None

    def close(self) -> None:
        """Stop waiting. Standard input stays open."""
        self._closed = True
