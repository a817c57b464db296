"""Turn images upright: rotations and mirror images, and the EXIF tag that asks for them."""

import re
import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fer_edge.edge_runtime.jpeg import header_segments

ROTATIONS = (0, 90, 180, 270)
ORIENTATION_TAG = 0x0112
MAX_TAGS = 1000
APP1, EXIF_MARK = 0xE1, b"Exif\0\0"


@dataclass(frozen=True)
class Orientation:
    """A rotation, then a mirror image.

    Attributes:
        rotate: Degrees clockwise, one of ROTATIONS.
        flip: Whether left and right are swapped after the rotation.

    Raises:
        ValueError: If ``rotate`` is not one of ROTATIONS.
    """

    rotate: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        if self.rotate not in ROTATIONS:
            raise ValueError(f"a rotation must be one of {', '.join(map(str, ROTATIONS))} degrees. Received: {self.rotate}")

    def apply(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Return the turned image; the same array if there is nothing to turn.

        Args:
            pixels: Array (height, width) or (height, width, channels).

        Returns:
            A contiguous array: OpenCV rejects most views.
        """
        turned = np.rot90(pixels, -(self.rotate // 90)) if self.rotate else pixels
        return np.ascontiguousarray(turned[:, ::-1] if self.flip else turned)


UPRIGHT = Orientation()
EXIF_ORIENTATIONS = {
    1: UPRIGHT,
    2: Orientation(0, True),
    3: Orientation(180),
    4: Orientation(180, True),
    5: Orientation(90, True),
    6: Orientation(90),
    7: Orientation(270, True),
    8: Orientation(270),
}


def exif_orientation(data: bytes) -> Orientation:
    """Return how a JPEG, PNG or WebP file asks to be turned.

    OpenCV applies the tag of TIFF files itself. That of others it ignores when it keeps transparency and depth.

    Args:
        data: Content of the file.

    Returns:
        The orientation; UPRIGHT if the file has none, or an invalid one.
    """
    try:
        value = _tiff_tag(_exif_block(data), ORIENTATION_TAG)
    except (struct.error, IndexError):  # a truncated block
        value = None
    return EXIF_ORIENTATIONS.get(value or 1, UPRIGHT)


def _exif_block(data: bytes) -> bytes:
    """Return the EXIF data of an image file, which has the form of a TIFF file; empty if it has none."""
    if data.startswith(b"\xff\xd8") and EXIF_MARK in data:
        blocks = (data[start:end] for marker, start, end in header_segments(data) if marker == APP1)
        return next((block.removeprefix(EXIF_MARK) for block in blocks if block.startswith(EXIF_MARK)), b"")
    if data.startswith(b"\x89PNG"):
        return png_chunk(data, b"eXIf")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        block = _chunk(data, 12, "<I", b"EXIF", length_first=False)
        return block.removeprefix(EXIF_MARK)
    return b""


def png_chunk(data: bytes, name: bytes) -> bytes:
    """Return the content of a chunk of a PNG file; empty if it has none.

    Args:
        data: Content of the file.
        name: Name of the chunk, 4 bytes.
    """
    return _chunk(data, 8, ">I", name, length_first=True)


def _chunk(data: bytes, start: int, size_format: str, name: bytes, length_first: bool) -> bytes:
    """Return the content of a chunk of a PNG file (length, name, content, checksum) or WebP file (name, length, content)."""
    position = start
    while position + 8 <= len(data):
        size_at, name_at = (position, position + 4) if length_first else (position + 4, position)
        (size,) = struct.unpack_from(size_format, data, size_at)
        if data[name_at : name_at + 4] == name:
            return data[position + 8 : position + 8 + size]
        position += 8 + size + (4 if length_first else size % 2)
    return b""


def _tiff_tag(block: bytes, wanted: int) -> int | None:
    """Return a tag of the first folder of a TIFF structure, if it holds one 16-bit number."""
    if not re.match(rb"II\*\0|MM\0\*", block):
        return None
    order = "<" if block[:2] == b"II" else ">"
    (position,) = struct.unpack_from(f"{order}I", block, 4)
    (count,) = struct.unpack_from(f"{order}H", block, position)
    for number in range(min(count, MAX_TAGS)):
        tag, kind, _, value = struct.unpack_from(f"{order}HHIH", block, position + 2 + 12 * number)
        if tag == wanted:
            return int(value) if kind == 3 else None
    return None
