"""The duration that an .mp4 or .mov file states. OpenCV reports only a number of frames, some of which may be hidden."""

import struct
from pathlib import Path
from typing import BinaryIO

HEADER_BYTES = 32  # of the box mvhd: enough for its duration
MAX_BOXES = 1000


def mp4_duration_s(path: Path) -> float | None:
    """Return the duration of an MP4 or QuickTime file, seconds; None if it states none, or is of another format.

    Args:
        path: The file.

    Raises:
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        if not _enter(file, b"moov", path.stat().st_size) or not _enter(file, b"mvhd", path.stat().st_size):
            return None
        header = file.read(HEADER_BYTES)
    try:
        # version and flags, creation and modification time, time scale, duration
        scale, duration = struct.unpack_from(">IQ", header, 20) if header[0] == 1 else struct.unpack_from(">II", header, 12)
    except (struct.error, IndexError):
        return None
    unknown = 2**64 - 1 if header[0] == 1 else 2**32 - 1
    return duration / scale if scale and 0 < duration < unknown else None


def _enter(file: BinaryIO, name: bytes, file_bytes: int) -> bool:
    """Move to the content of the next box of a name at this level; return whether there is one."""
    for _ in range(MAX_BOXES):
        start = file.tell()
        head = file.read(16)
        if len(head) < 8:
            return False
        size = struct.unpack_from(">I", head)[0]
        content = start + 8
        if size == 1 and len(head) == 16:  # a box of more than 4 GB
            size, content = struct.unpack_from(">Q", head, 8)[0], start + 16
        if head[4:8] == name:
            file.seek(content)
            return True
        if size < 8 or start + size >= file_bytes:
            return False
        file.seek(start + size)
    return False
