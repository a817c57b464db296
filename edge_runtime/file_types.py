"""Recognize images and videos by their first bytes: a name can be wrong, and a decoder must not see unknown formats."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

HEAD_BYTES = 400  # an MPEG transport stream repeats its mark every 188 or 192 bytes

# Suffixes by which users and other tools name the formats below. A folder is searched by content, not by suffix.
IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".bmp", ".tif", ".tiff", ".webp"),
    *(".pgm", ".ppm", ".pnm", ".pbm"),
)
VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".3gp", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"),
    *(".wmv", ".flv", ".mjpg", ".mjpeg", ".h264"),
)
RAW_JPEG_VIDEO = (".mjpg", ".mjpeg")  # images one after another, without a container


@dataclass(frozen=True)
class FileType:
    """What a file contains.

    Attributes:
        name: Name of the format, such as ``JPEG``.
        kind: image or video if fer-edge reads the format, otherwise other.
    """

    name: str
    kind: Literal["image", "video", "other"]


# The first pattern that matches the start of a file decides.
_TYPES: tuple[tuple[bytes, FileType], ...] = (
    (rb"\xff\xd8\xff", FileType("JPEG", "image")),
    (rb"\x89PNG\r\n\x1a\n", FileType("PNG", "image")),
    (rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", FileType("BMP", "image")),
    (rb"II\*\0.{4}CR", FileType("a camera's raw image (CR2)", "other")),
    (rb"II[*+]\0|MM\0[*+]", FileType("TIFF", "image")),
    (rb"RIFF.{4}WEBP", FileType("WebP", "image")),
    (rb"P[1-6][\s#]", FileType("PNM", "image")),
    (rb".{4}ftyp(avif|avis)", FileType("AVIF", "other")),
    (rb".{4}ftyp(hei[cmsx]|hev[cmsx]|mif1|msf1)", FileType("HEIC", "other")),
    (rb".{4}ftypcrx ", FileType("a camera's raw image (CR3)", "other")),
    (rb".{4}ftyp(M4A|M4B)", FileType("an audio file", "other")),
    (rb".{4}(ftyp|moov|mdat|wide|pnot|free|skip)", FileType("MP4", "video")),
    (rb"RIFF.{4}AVI ", FileType("AVI", "video")),
    (rb"\x1aE\xdf\xa3", FileType("Matroska", "video")),
    (rb"\0\0\x01\xba|\0\0\x01\xb3", FileType("MPEG", "video")),
    (rb"(\x47.{187}){2}\x47|.{4}\x47(.{191}\x47){2}", FileType("MPEG transport stream", "video")),
    (rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", FileType("WMV", "video")),
    (rb"FLV\x01", FileType("FLV", "video")),
    (rb"OggS", FileType("an Ogg file", "other")),
    (rb"\0\0\0?\x01[\x06\x09\x27\x40\x42\x46\x67]", FileType("H.264 or H.265", "video")),
    (rb"GIF8", FileType("GIF", "other")),
    (rb"\0\0\0\x0cjP  |\xffO\xffQ", FileType("JPEG 2000", "other")),
    (rb"\0\0\0\x0cJXL |\xff\x0a", FileType("JPEG XL", "other")),
    (rb"8BPS", FileType("a Photoshop file", "other")),
    (rb"v/1\x01|#\?RADIANCE|#\?RGBE", FileType("an HDR image", "other")),
    (rb"%PDF", FileType("PDF", "other")),
    (rb"PK\x03\x04", FileType("a zip", "other")),
    (rb"\s*(\xef\xbb\xbf)?(#EXTM3U|ffconcat version|\[playlist\]|v=0\r?\n)", FileType("a playlist", "other")),
    (rb"\s*(\xef\xbb\xbf)?<(!doctype html|html|head|body)", FileType("a web page", "other")),
    (rb"\s*(\xef\xbb\xbf)?<(\?xml|svg)", FileType("XML or SVG", "other")),
)


@cache
def _patterns() -> tuple[tuple[re.Pattern[bytes], FileType], ...]:
    """Return _TYPES with compiled patterns. They would take a part of the time of an import."""
    return tuple((re.compile(pattern, re.DOTALL | re.IGNORECASE), found) for pattern, found in _TYPES)


def file_type(head: bytes) -> FileType | None:
    """Return what a file contains by its first HEAD_BYTES bytes. None if the format is unknown."""
    return next((found for pattern, found in _patterns() if pattern.match(head[:HEAD_BYTES])), None)


def type_of_file(path: Path) -> FileType | None:
    """Return what a file contains. None if it is of an unknown format.

    Raises:
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        found = file_type(file.read(HEAD_BYTES))
    if found is not None and found.name == "JPEG" and path.suffix.lower() in RAW_JPEG_VIDEO:
        return FileType("MJPEG", "video")
    return found
