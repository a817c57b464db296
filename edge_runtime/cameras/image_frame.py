"""One image as a frame: from a path, a URL, an array, a PIL image or bytes."""

import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from fer_edge.edge_runtime.cameras.camera import CameraError
from fer_edge.edge_runtime.cameras.frame import Frame
from fer_edge.edge_runtime.cameras.network import SCHEMES
from fer_edge.edge_runtime.images import Image, check_image, decode_image, read_image
from fer_edge.edge_runtime.pixels import to_rgb

if TYPE_CHECKING:
    import PIL.Image

ImageInput = Union[str, Path, Image, bytes, bytearray, memoryview, "PIL.Image.Image"]

INPUTS = "a path, a URL, a uint8 array, a PIL image, the bytes of an image file, or a list of these"
WIDE_MODES = ("I", "F")  # PIL's modes with more than 8 bits per channel start with these letters
BGRA = [2, 1, 0, 3]  # OpenCV's order of channels, from PIL's RGBA


def to_frame(image: ImageInput, bgr: bool = False, name: str = "image") -> Frame:
    """Return an image as a frame.

    Args:
        image: A path, a URL, a uint8 array (height, width, 3) or (height, width), a PIL image, or the bytes of an image file.
        bgr: Whether an array is BGR, not RGB.
        name: Name of the image for errors, and the source of the frame unless it is a path or URL.

    Raises:
        TypeError: If it is of another type.
        ValueError: If an array is not an image, or the image cannot be decoded.
        FileNotFoundError: If the path does not exist.
        OSError: If the file or URL cannot be read.
    """
    if isinstance(image, str) and image.lower().startswith(SCHEMES):
        return _first_frame(image)
    if isinstance(image, (str, os.PathLike)):
        path = _checked_path(image, name)
        return Frame(path, None, read_image(path))
    if isinstance(image, (bytes, bytearray, memoryview)):
        return Frame(name, None, decode_image(bytes(image), name))
    if _is_pil_image(image):
        return Frame(name, None, _from_pil(image, name))
    if image is not None and not isinstance(image, np.ndarray):
        hint = ". Pass its content: file.read()" if hasattr(image, "read") else ""
        raise TypeError(f"{name} must be {INPUTS}. Received: {type(image).__name__}{hint}")
    check_image(image, name)
    pixels = np.ascontiguousarray(image)
    return Frame(name, None, pixels, "gray" if pixels.ndim == 2 else "bgr" if bgr else "rgb")


def _checked_path(text: str | os.PathLike[str], name: str) -> Path:
    path = Path(text)
    try:
        exists, is_file = path.exists(), path.is_file()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise ValueError(
            f"{name} is a text of {len(str(text))} characters, too long for a path. If it is base64, decode it first: "
            "base64.b64decode(text)"
        ) from error
    if not exists:
        raise FileNotFoundError(f"no image at '{path}'")
    if not is_file:
        raise ValueError(f"'{path}' is not an image file. To label a folder, a video or a camera, use fer_edge.stream")
    return path


def _first_frame(url: str) -> Frame:
    from fer_edge.edge_runtime.cameras.http_camera import network_camera  # here, because it imports http and ssl

    camera = network_camera(url)
    try:
        camera.open()
        pixels = camera.read()
    finally:
        camera.close()
    if pixels is None:
        raise CameraError("failed", f"no image from {camera.name}: the server sends no frame")
    return Frame(camera.name, None, pixels, camera.pixel_format)


def _is_pil_image(image: object) -> bool:
    # Whoever passes a PIL image has imported PIL. Everyone else need not have it.
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(image, module.Image)


def _from_pil(image: Any, name: str) -> Image:
    """Return a PIL image as uint8 array (height, width, 3), RGB, upright, as its file would be decoded."""
    import PIL.ImageOps

    try:
        upright = PIL.ImageOps.exif_transpose(image)
        if upright.mode.startswith(WIDE_MODES):
            pixels = to_rgb(np.asarray(upright))
        elif "A" in upright.getbands() or "transparency" in upright.info:
            pixels = to_rgb(np.asarray(upright.convert("RGBA"))[:, :, BGRA])
        else:
            pixels = np.asarray(upright.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise ValueError(f"cannot decode {name}, a PIL image ({error})") from error
    check_image(pixels, name)
    return pixels
