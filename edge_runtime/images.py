"""Read and write image files as RGB arrays."""

import os
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.atomic_write import atomic_write
from fer_edge.artifacts.debug import is_debugging
from fer_edge.edge_runtime.file_types import file_type
from fer_edge.edge_runtime.jpeg import END_OF_JPEG, describe_damage, has_end
from fer_edge.edge_runtime.native_stderr import capture_stderr
from fer_edge.edge_runtime.orientation import exif_orientation, png_chunk
from fer_edge.edge_runtime.pixels import WHITE, to_rgb

Image = npt.NDArray[np.uint8]

FORMATS = "JPEG, PNG, BMP, TIFF, WebP, PNM"
WRITABLE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
# 400 MB as RGB. OpenCV's limit is eight times as high: a file of 700 bytes could occupy 1.5 GB.
MAX_PIXELS_VARIABLE = "OPENCV_IO_MAX_IMAGE_PIXELS"
MAX_PIXELS = 1 << 27
MAX_16_BIT = 65535


def decode_image(data: bytes, name: str) -> Image:
    """Decode an image file from memory, upright, on white where it is transparent.

    Only the formats below reach a decoder: the first bytes decide, not the name.

    Args:
        data: Content of a JPEG, PNG, BMP, TIFF, WebP or PNM (PGM, PPM, PBM) file, of any number of bits per sample.
        name: Name of the image for error messages.

    Returns:
        uint8 array (height, width, 3), RGB. A gray image has three equal channels.

    Raises:
        ValueError: If the bytes are another format, are damaged, or have too many pixels.
    """
    found = file_type(data)
    if found is None or found.kind != "image":
        content = f"it contains {found.name}" if found else "it is damaged or in an unknown format" if data else "it is empty"
        raise ValueError(f"cannot decode the image '{name}' ({len(data)} bytes): {content}. Supported formats: {FORMATS}")
    if found.name == "JPEG":
        pixels = _decode_jpeg(data, name)
    else:
        # The decoder of text PNM files needs a character after the last number.
        pixels, _ = _decode(data + b"\n" if found.name == "PNM" else data, name)
    if pixels is None:
        raise ValueError(f"cannot decode the image '{name}' ({len(data)} bytes): the {found.name} file is damaged or cut off")
    if found.name == "BMP" and pixels.ndim == 3 and pixels.shape[2] == 4 and not pixels[:, :, 3].any():
        pixels = pixels[:, :, :3]  # most programs leave the fourth byte 0
    if found.name == "PNG" and pixels.ndim == 2:
        pixels = _with_transparent_gray(data, pixels)
    return exif_orientation(data).apply(to_rgb(pixels, _pnm_max_value(data) if found.name == "PNM" else None))


def _decode(data: bytes, name: str) -> tuple[npt.NDArray[Any] | None, str]:
    """Return the pixels as the file has them, None if it is damaged; and the messages of the decoder."""
    cv2 = import_cv2()
    pixels, reason = None, ""
    with capture_stderr() as messages:
        try:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        except cv2.error as error:
            reason = str(error)
    if "CV_IO_MAX_IMAGE" in reason:
        limit = os.environ.get(MAX_PIXELS_VARIABLE, "")
        raise ValueError(
            f"the image '{name}' ({len(data)} bytes) has more than {limit} pixels. To decode it, set {MAX_PIXELS_VARIABLE}"
        )
    return pixels, messages.text


def _decode_jpeg(data: bytes, name: str) -> npt.NDArray[Any] | None:
    """Decode a JPEG.

    Raises:
        ValueError: If only a part of it can be decoded. libjpeg fills the rest with gray and reports success.
    """
    # Without an end mark, OpenCV 4.10 returns pixels of another image, and later versions nothing.
    cut_off = not has_end(data)
    pixels, messages = _decode(data + END_OF_JPEG if cut_off else data, name)
    damage = pixels is not None and describe_damage(data, pixels, messages, cut_off)
    if damage:
        raise ValueError(f"the JPEG '{name}' ({len(data)} bytes) is damaged: {damage}. Copy it again")
    return pixels


def _with_transparent_gray(data: bytes, pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Add the alpha channel of a gray PNG file in which one value is transparent. OpenCV ignores it."""
    value = png_chunk(data, b"tRNS")
    bits = data[24]
    if len(value) != 2 or not 1 <= bits <= 16:
        return pixels
    full = np.iinfo(pixels.dtype).max
    transparent = int.from_bytes(value, "big") * full // (2**bits - 1)  # OpenCV scales 1, 2 and 4 bits to 8
    return np.dstack([pixels, np.where(pixels == transparent, 0, full).astype(pixels.dtype)])


def _pnm_max_value(data: bytes) -> int | None:
    """Return the value of white that a PGM or PPM file states; None for a bitmap, and where OpenCV scales by it.

    65535 may only be the size of a sample, so that the values decide as in other files of 16 bits.
    """
    header = re.match(rb"P([2356])" + rb"(?:\s|#[^\n]*\n)+(\d+)" * 3, data)
    if header is None or (header[1] in b"23" and int(header[4]) <= WHITE):
        return None
    return int(header[4]) if int(header[4]) < MAX_16_BIT else None


def read_image(path: str | Path) -> Image:
    """Read an image file as a uint8 array (height, width, 3), RGB.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it cannot be decoded.
    """
    return decode_image(Path(path).read_bytes(), str(path))


def write_image(path: str | Path, image: Image) -> None:
    """Write an image file. The suffix of ``path`` selects the format.

    Args:
        path: File to write; its suffix is one of WRITABLE_SUFFIXES.
        image: uint8 array (height, width, 3), RGB, or (height, width), gray.

    Raises:
        ValueError: If the suffix is unknown or OpenCV cannot encode the image.
        OSError: If the file cannot be written.
    """
    cv2 = import_cv2()
    suffix = Path(path).suffix.lower()
    if suffix not in WRITABLE_SUFFIXES:
        raise ValueError(f"cannot write an image as '{suffix}'; choose one of: {', '.join(WRITABLE_SUFFIXES)}")
    pixels = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(suffix, pixels)
    if not done:
        raise ValueError(f"OpenCV could not encode an image of shape {image.shape} as {suffix}")
    atomic_write(path, data.tobytes())


def check_image(image: Any, name: str) -> None:
    """Check that an array is an image.

    Args:
        image: Any value.
        name: What the value is, for the error.

    Raises:
        ValueError: If it is not a uint8 array of shape (height, width) or (height, width, 3), or is empty.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        raise ValueError(f"{name} must be a uint8 array of pixels 0..255. Received: {_describe_values(image)}")
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3) or 0 in image.shape:
        raise ValueError(
            f"{name} must have shape (height, width) or (height, width, 3). Received: {image.shape}{_shape_remedy(image.shape)}"
        )


def _describe_values(image: Any) -> str:
    """Return the type and the range of values, and how to convert them."""
    if image is None:
        return "NoneType; cv2.imread returns None for a file that it cannot read"
    if not isinstance(image, np.ndarray):
        return type(image).__name__
    if image.dtype.kind not in "fiub" or not image.size:
        return str(image.dtype)
    low, high = float(image.min()), float(image.max())
    received = f"{image.dtype} with values {low:.5g} to {high:.5g}"
    if image.dtype.kind == "b":
        return f"{received}. Convert them: image.astype(numpy.uint8) * 255"
    if image.dtype.kind == "f" and low >= 0 and high <= 1:
        return f"{received}. Scale them to 0..255: (image * 255).astype(numpy.uint8)"
    if image.dtype.kind == "f" and low >= -1 and high <= 1:
        return f"{received}. Scale them to 0..255: ((image + 1) * 127.5).astype(numpy.uint8)"
    if low >= 0 and high <= 255:
        return f"{received}. Convert them: image.astype(numpy.uint8)"
    return f"{received}. Scale them to 0..255 and convert them to uint8"


def _shape_remedy(shape: tuple[int, ...]) -> str:
    if 0 in shape:
        return ", an empty array"
    if len(shape) == 4:
        return ", a batch. Pass a list of images: list(images)"
    if len(shape) == 3 and shape[2] == 4:
        return ". Leave out the transparency: image[:, :, :3]"
    if len(shape) == 3 and shape[2] == 1:
        return ". Leave out the last axis: image[:, :, 0]"
    if len(shape) == 3 and shape[0] in (1, 3):
        return ". Move the channels to the end: image.transpose(1, 2, 0)"
    return ""


def is_utf8(path: Path) -> bool:
    """Return whether a path is valid UTF-8. With any other one, OpenCV fails or ends the process."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def import_cv2() -> ModuleType:
    """Import OpenCV where it is used, with a limit of the size of images, and without the log lines of it and of FFmpeg.

    FER_EDGE_DEBUG keeps the log lines. If other code has imported OpenCV before, these settings have no effect.

    Raises:
        ImportError: If OpenCV is not installed. The message contains the install command.
    """
    if "cv2" not in sys.modules:
        os.environ.setdefault(MAX_PIXELS_VARIABLE, str(MAX_PIXELS))
    if "cv2" not in sys.modules and not is_debugging():
        os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    try:
        import cv2
    except ImportError as error:
        raise ImportError(f"OpenCV cannot be imported ({error}). Install it: pip install 'fer-edge[edge]'") from error
    return cv2
