"""One frame of a camera, a video or a folder, in the pixel format in which its source gives it."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from fer_edge.edge_runtime.images import Image, import_cv2

# Bytes of one frame per pixel. Video has a Y of 16..235 (i420, yuyv), a Raspberry Pi camera one of 0..255 (i420-full).
PIXEL_FORMATS: dict[str, float] = {"rgb": 3, "bgr": 3, "gray": 1, "i420": 1.5, "i420-full": 1.5, "yuyv": 2}
PLANAR = ("i420", "i420-full")


@dataclass(frozen=True)
class Frame:
    """One picture, or one frame of a video or a camera.

    Attributes:
        source: The file it comes from, or the name of the camera.
        number: Number of the frame in its video or since the camera was opened, from 0; None for a picture.
        pixels: uint8 array: (height, width, 3) for rgb and bgr, (height, width) for gray, (3/2 height, width) for i420
            and i420-full, (height, width, 2) for yuyv.
        pixel_format: What the bytes are, one of PIXEL_FORMATS.
        frames_per_second: Of the video; None where unknown.
        capture_time_s: When it was taken, seconds of the monotonic clock; None for files.
        time: When it was taken, seconds since 1970; None for files.
    """

    source: Path | str
    number: int | None
    pixels: Image
    pixel_format: str = "rgb"
    frames_per_second: float | None = None
    capture_time_s: float | None = None
    time: float | None = None

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
        """The frame as uint8 array (height, width): the Y plane as it is where the source gives YUV."""
        if self.pixel_format == "gray":
            return self.pixels
        if self.pixel_format in PLANAR:
            return self.pixels[: self.height]
        if self.pixel_format == "yuyv":
            return np.ascontiguousarray(self.pixels[:, :, 0])
        cv2 = import_cv2()
        return np.asarray(
            cv2.cvtColor(self.pixels, cv2.COLOR_RGB2GRAY if self.pixel_format == "rgb" else cv2.COLOR_BGR2GRAY), np.uint8
        )

    @property
    def crop_source(self) -> Image:
        """What faces are cut from: the Y plane where the source gives YUV, else RGB."""
        return self.image if self.pixel_format in ("rgb", "bgr") else self.gray


def frame_bytes(width: int, height: int, pixel_format: str) -> int:
    """Return the number of bytes of one raw frame.

    Raises:
        ValueError: If the pixel_format is unknown, or the size does not fit it.
    """
    if pixel_format not in PIXEL_FORMATS:
        raise ValueError(f"unknown pixel format '{pixel_format}'; choose one of: {', '.join(PIXEL_FORMATS)}")
    if width < 1 or height < 1 or (pixel_format in (*PLANAR, "yuyv") and width % 2) or (pixel_format in PLANAR and height % 2):
        raise ValueError(f"a frame of {width}x{height} pixels cannot be {pixel_format}: use positive sides, even for YUV")
    return int(width * height * PIXEL_FORMATS[pixel_format])


def from_buffer(data: bytes | bytearray, width: int, height: int, pixel_format: str) -> Image:
    """Return the bytes of one raw frame as the array that Frame holds, without copying.

    Raises:
        ValueError: If the number of bytes does not fit.
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
    """Return I420 with a Y of 0..255 as RGB: OpenCV's own I420 codes take 16..235 for granted."""
    cv2 = import_cv2()
    width = pixels.shape[1]
    chroma = pixels[height:].reshape(2, height // 2, width // 2)
    u, v = (cv2.resize(plane, (width, height), interpolation=cv2.INTER_NEAREST) for plane in chroma)
    return np.asarray(cv2.cvtColor(cv2.merge([pixels[:height], v, u]), cv2.COLOR_YCrCb2RGB), np.uint8)
