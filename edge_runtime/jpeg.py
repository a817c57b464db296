"""The structure of JPEG files, and the damage that libjpeg decodes without an error."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

HUFFMAN_TABLE, START_OF_SCAN, END_OF_IMAGE, PADDING = 0xC4, 0xDA, 0xD9, (0xFF, 0x01)
END_OF_JPEG = bytes((0xFF, END_OF_IMAGE))
CORRUPT = re.compile("premature end of data segment|bad Huffman|bad arithmetic|found marker|Inconsistent prog|Invalid SOS")
MAX_EXTRANEOUS_BYTES = 64  # some cameras pad the compressed data with a few bytes
FILL = 128
STANDARD_CODES = bytes((0, 0, 1, 5, 1, 1, 1, 1, 1, 1))  # start of the first Huffman table of most encoders
GAP_ZEROS = 64


def header_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the segments before the compressed data as (marker, start of the content, end).

    Args:
        data: Content of a JPEG file.
    """
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker in PADDING:
            position += 1
            continue
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        yield marker, position + 4, end
        if marker == START_OF_SCAN:
            return
        position = end


def has_end(data: bytes) -> bool:
    """Return whether the compressed data of a JPEG file ends with the end mark."""
    scan = 0
    for _, _, end in header_segments(data):
        scan = end
    return END_OF_JPEG in data[scan:]


def describe_damage(data: bytes, pixels: npt.NDArray[Any], messages: str, cut_off: bool) -> str | None:
    """Return the damage of a JPEG that was decoded only partly; None if it is complete.

    Args:
        data: Content of the file.
        pixels: The decoded array (height, width) or (height, width, channels).
        messages: What libjpeg wrote; it reports the first fault only.
        cut_off: Whether the file has no end mark. If all pixels are there, this alone is harmless.
    """
    lost = max(_share_after_zeros(data), _share_of_fill(pixels) if cut_off or messages else 0.0)
    extraneous = re.search(r"(\d+) extraneous bytes", messages)
    corrupt = CORRUPT.search(messages) or (extraneous and int(extraneous[1]) > MAX_EXTRANEOUS_BYTES)
    if not (corrupt or lost):
        return None
    reason = "it is cut off" if cut_off else f"its data is corrupt ({messages.strip() or 'a gap of zeros'})"
    share = f"about {max(lost, 0.01):.0%}" if lost else "a part"
    return f"{reason}, {share} of the image is lost"


def _share_of_fill(pixels: npt.NDArray[Any]) -> float:
    """Return the share of rows at the bottom that have only the gray with which libjpeg fills missing data."""
    full = np.flatnonzero((pixels.reshape(len(pixels), -1) != FILL).any(axis=1))
    return 1 - (int(full[-1]) + 1 if len(full) else 0) / len(pixels)


def _share_after_zeros(data: bytes) -> float:
    """Return the share of a JPEG's data after the first gap of zeros, as a lost block of a disk leaves it; 0 without a gap.

    libjpeg decodes some gaps without a message. The standard code tables never produce so many zeros.
    """
    if bytes(GAP_ZEROS) not in data:
        return 0.0
    scan, standard = 0, False
    for marker, start, end in header_segments(data):
        standard = standard or (marker == HUFFMAN_TABLE and data.startswith(STANDARD_CODES, start))
        scan = end
    stop = data.find(END_OF_JPEG, scan)
    stop = len(data) if stop < 0 else stop
    gap = data.find(bytes(GAP_ZEROS), scan, stop) if standard else -1
    return (stop - gap) / (stop - scan) if gap > 0 else 0.0
