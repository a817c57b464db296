"""The duration that an .mp4 or .mov file states. OpenCV reports only a number of frames, some of which may be hidden."""

import struct
from pathlib import Path
from typing import BinaryIO

HEADER_BYTES = 32  # of the box mvhd: enough for its duration
MAX_BOXES = 1000
MAX_FILE_BYTES = 1 << 50  # larger sizes are damage


def mp4_duration_s(path: Path) -> float | None:
    """Return the duration of an MP4 or QuickTime file, seconds; None if it states none, or is of another format.

    Args:
        path: The file.

    Raises:
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        movie = _find_box(file, b"moov", 0)
        start = None if movie is None else _find_box(file, b"mvhd", movie)
        if start is None:
            return None
        file.seek(start)
        header = file.read(HEADER_BYTES)
    try:
        # version and flags, creation and modification time, time scale, duration
        scale, duration = struct.unpack_from(">IQ", header, 20) if header[0] == 1 else struct.unpack_from(">II", header, 12)
    except (struct.error, IndexError):
        return None
    unknown = 2**64 - 1 if header[0] == 1 else 2**32 - 1
    return duration / scale if scale and 0 < duration < unknown else None


def _find_box(file: BinaryIO, name: bytes, start: int) -> int | None:
    """Return where the content of a box starts, searching the boxes of one level from ``start``; None if there is none."""
    for _ in range(MAX_BOXES):
        file.seek(start)
        head = file.read(16)
        if len(head) < 8:
            return None
        size, content = struct.unpack_from(">I", head)[0], start + 8
        if size == 1 and len(head) == 16:  # a box of more than 4 GB
            size, content = struct.unpack_from(">Q", head, 8)[0], start + 16
        if head[4:8] == name:
            return content
        if size < 8 or start + size > MAX_FILE_BYTES:
            return None
        start += size
    return None
