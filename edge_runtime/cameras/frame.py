"""One frame of a camera or video, or one image, in the pixel format of its source."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from fer_edge.edge_runtime.images import Image, import_cv2

# Bytes per pixel. Y is 16..235 in video (i420, yuyv), and 0..255 in frames of a Raspberry Pi camera (i420-full).
PIXEL_FORMATS: dict[str, float] = {"rgb": 3, "bgr": 3, "gray": 1, "i420": 1.5, "i420-full": 1.5, "yuyv": 2}
PLANAR = ("i420", "i420-full")


@dataclass(frozen=True)
class Frame:
    """One image, or one frame of a video or a camera.

    Attributes:
        source: The file, or the name of the camera.
        number: Index of the frame in its video or since the camera was opened, from 0; None for an image.
        pixels: uint8 array: (height, width, 3) for rgb and bgr, (height, width) for gray, (3/2 height, width) for i420
            and i420-full, (height, width, 2) for yuyv.
        pixel_format: One of PIXEL_FORMATS.
        frames_per_second: Frame rate of the source; None if unknown.
        capture_time_s: Capture time, seconds of the monotonic clock; None for files.
        time: Capture time, seconds since 1970; None for files.
        frame_count: Number of frames of the video; None if unknown.
    """

    source: Path | str
    number: int | None
    pixels: Image
    pixel_format: str = "rgb"
    frames_per_second: float | None = None
    capture_time_s: float | None = None
    time: float | None = None
    frame_count: int | None = None

    @property
    def width(self) -> int:
        """Return the width in pixels."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Return the height in pixels."""
        rows = int(self.pixels.shape[0])
        return rows * 2 // 3 if self.pixel_format in PLANAR else rows

    @cached_property
    def image(self) -> Image:
        """The frame as uint8 array (height, width, 3), RGB."""
        if self.pixel_format == "rgb":
            return self.pixels
        cv2 = import_cv2()
        if self.pixel_format == "i420-full":
            return _full_range_rgb(self.pixels, self.height)
        codes = {
            "bgr": cv2.COLOR_BGR2RGB,
            "gray": cv2.COLOR_GRAY2RGB,
            "i420": cv2.COLOR_YUV2RGB_I420,
            "yuyv": cv2.COLOR_YUV2RGB_YUYV,
        }
        return np.asarray(cv2.cvtColor(self.pixels, codes[self.pixel_format]), np.uint8)

    @cached_property
    def gray(self) -> Image:
        """The frame as uint8 array (height, width). For YUV formats this is the unchanged Y plane."""
        if self.pixel_format == "gray":
            return self.pixels
        if self.pixel_format in PLANAR:
            return self.pixels[: self.height]
        if self.pixel_format == "yuyv":
            return np.ascontiguousarray(self.pixels[:, :, 0])
        cv2 = import_cv2()
        code = cv2.COLOR_RGB2GRAY if self.pixel_format == "rgb" else cv2.COLOR_BGR2GRAY
        return np.asarray(cv2.cvtColor(self.pixels, code), np.uint8)

    @property
    def crop_source(self) -> Image:
        """The array from which faces are cropped: RGB for rgb and bgr, else the gray frame."""
        return self.image if self.pixel_format in ("rgb", "bgr") else self.gray


def frame_bytes(width: int, height: int, pixel_format: str) -> int:
    """Return the number of bytes of one raw frame.

    Args:
        width: Width in pixels; even for YUV formats.
        height: Height in pixels; even for i420 and i420-full.
        pixel_format: One of PIXEL_FORMATS.

    Raises:
        ValueError: If the format is unknown, or the size is not valid for it.
    """
    if pixel_format not in PIXEL_FORMATS:
        raise ValueError(f"unknown pixel format '{pixel_format}'; choose one of: {', '.join(PIXEL_FORMATS)}")
    odd_width = pixel_format in (*PLANAR, "yuyv") and width % 2
    odd_height = pixel_format in PLANAR and height % 2
    if width < 1 or height < 1 or odd_width or odd_height:
        raise ValueError(
            f"the frame size must be positive, and even for YUV formats. Received: {width}x{height} pixels, {pixel_format}"
        )
    return int(width * height * PIXEL_FORMATS[pixel_format])


def from_buffer(data: bytes | bytearray, width: int, height: int, pixel_format: str) -> Image:
    """Return the bytes of one raw frame as an array, without copying.

    Args:
        data: The bytes.
        width: Width in pixels.
        height: Height in pixels.
        pixel_format: One of PIXEL_FORMATS.

    Returns:
        uint8 array, shaped as Frame.pixels.

    Raises:
        ValueError: If the number of bytes does not match.
    """
    expected = frame_bytes(width, height, pixel_format)
    if len(data) != expected:
        raise ValueError(f"a frame of {width}x{height} {pixel_format} has {expected} bytes. Received: {len(data)}")
    pixels = np.frombuffer(data, np.uint8)
    if pixel_format in PLANAR:
        return pixels.reshape(height * 3 // 2, width)
    channels = int(PIXEL_FORMATS[pixel_format])
    return pixels.reshape((height, width) if channels == 1 else (height, width, channels))


def _full_range_rgb(pixels: Image, height: int) -> Image:
    """Convert I420 with a Y of 0..255 to RGB. OpenCV's I420 codes assume 16..235."""
    cv2 = import_cv2()
    width = pixels.shape[1]
    chroma = pixels[height:].reshape(2, height // 2, width // 2)
    u, v = (cv2.resize(plane, (width, height), interpolation=cv2.INTER_NEAREST) for plane in chroma)
    return np.asarray(cv2.cvtColor(cv2.merge([pixels[:height], v, u]), cv2.COLOR_YCrCb2RGB), np.uint8)
