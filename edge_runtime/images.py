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
