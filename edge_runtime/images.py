"""Read and write image files as RGB arrays."""

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.atomic_write import atomic_write

Image = npt.NDArray[np.uint8]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm")
MAX_FRAMES_PER_SECOND = 240.0


def decode_image(data: bytes, name: str) -> Image:
    """Decode an image file from memory.

    Args:
        data: Content of a PNG, JPEG, BMP, TIFF, WebP or PGM file.
        name: Name of the image for error messages.

    Returns:
        uint8 array (height, width, 3), RGB. A gray image has three equal channels.

    Raises:
        ValueError: If the bytes cannot be decoded.
    """
    cv2 = import_cv2()
    image = None
    if data:
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        except cv2.error:
            image = None
    if image is None:
        raise ValueError(f"cannot decode the image '{name}' ({len(data)} bytes): it is damaged or in an unknown format")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def reported_rate(capture: Any) -> float | None:
    """Return the frames per second that a cv2.VideoCapture reports, None if the value is implausible.

    Streams often report their clock rate (90000) or NaN.
    """
    rate = float(capture.get(import_cv2().CAP_PROP_FPS))
    return rate if 1 <= rate <= MAX_FRAMES_PER_SECOND else None


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
        path: File to write; its suffix is one of IMAGE_SUFFIXES.
        image: uint8 array (height, width, 3), RGB, or (height, width), gray.

    Raises:
        ValueError: If the suffix is unknown or OpenCV cannot encode the image.
        OSError: If the file cannot be written.
    """
    cv2 = import_cv2()
    suffix = Path(path).suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        raise ValueError(f"cannot write an image as '{suffix}'; choose one of: {', '.join(IMAGE_SUFFIXES)}")
    pixels = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(suffix, pixels)
    if not done:
        raise ValueError(f"OpenCV could not encode an image of shape {image.shape} as {suffix}")
    atomic_write(path, data.tobytes())


def import_cv2() -> ModuleType:
    """Import OpenCV where it is used.

    Raises:
        ImportError: If OpenCV is not installed. The message contains the install command.
    """
    try:
        import cv2
    except ImportError as error:
        raise ImportError(f"OpenCV cannot be imported ({error}). Install it: pip install 'fer-edge[edge]'") from error
    return cv2
