"""One frame of a camera, a video or a folder, in the pixel order in which its source gives it."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from fer_edge.edge_runtime.images import Image, import_cv2

# Bytes of one frame per pixel. Video has a Y of 16..235 (i420, yuyv), a Raspberry Pi camera one of 0..255 (i420-full).
ORDERS: dict[str, float] = {"rgb": 3, "bgr": 3, "grey": 1, "i420": 1.5, "i420-full": 1.5, "yuyv": 2}
PLANAR = ("i420", "i420-full")


@dataclass(frozen=True)
class Frame:
    """One picture, or one frame of a video or a camera.

    Attributes:
        source: The file it comes from, or the name of the camera.
        number: Number of the frame in its video or since the camera was opened, from 0; None for a picture.
        pixels: uint8 array: (height, width, 3) for rgb and bgr, (height, width) for grey, (3/2 height, width) for i420
            and i420-full, (height, width, 2) for yuyv.
        order: What the bytes are, one of ORDERS.
        frames_per_second: Of the video; None where unknown.
        capture_time_s: When it was taken, seconds of the monotonic clock; None for files.
        time: When it was taken, seconds since 1970; None for files.
    """

    source: Path | str
    number: int | None
    pixels: Image
    order: str = "rgb"
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
        return rows * 2 // 3 if self.order in PLANAR else rows

    @cached_property
    def picture(self) -> Image:
        """The frame as uint8 array (height, width, 3), RGB."""
        if self.order == "rgb":
            return self.pixels
        cv2 = import_cv2()
        if self.order == "i420-full":
            return _full_range_rgb(self.pixels, self.height)
        codes = {
            "bgr": cv2.COLOR_BGR2RGB,
            "grey": cv2.COLOR_GRAY2RGB,
            "i420": cv2.COLOR_YUV2RGB_I420,
            "yuyv": cv2.COLOR_YUV2RGB_YUYV,
        }
        return np.asarray(cv2.cvtColor(self.pixels, codes[self.order]), np.uint8)

    @cached_property
    def grey(self) -> Image:
        """The frame as uint8 array (height, width): the Y plane as it is where the source gives YUV."""
        if self.order == "grey":
            return self.pixels
        if self.order in PLANAR:
            return self.pixels[: self.height]
        if self.order == "yuyv":
            return np.ascontiguousarray(self.pixels[:, :, 0])
        cv2 = import_cv2()
        return np.asarray(
            cv2.cvtColor(self.pixels, cv2.COLOR_RGB2GRAY if self.order == "rgb" else cv2.COLOR_BGR2GRAY), np.uint8
        )

    @property
    def crop_source(self) -> Image:
        """What faces are cut from: the Y plane where the source gives YUV, else RGB."""
        return self.picture if self.order in ("rgb", "bgr") else self.grey


def frame_bytes(width: int, height: int, order: str) -> int:
    """Return the number of bytes of one raw frame.

    Raises:
        ValueError: If the order is unknown, or the size does not fit it.
    """
    if order not in ORDERS:
        raise ValueError(f"unknown pixel order '{order}'; choose one of: {', '.join(ORDERS)}")
    if width < 1 or height < 1 or (order in (*PLANAR, "yuyv") and width % 2) or (order in PLANAR and height % 2):
        raise ValueError(f"a frame of {width}x{height} pixels cannot be {order}: sides must be positive, and even for YUV")
    return int(width * height * ORDERS[order])


def unpack(data: bytes | bytearray, width: int, height: int, order: str) -> Image:
    """Return the bytes of one raw frame as the array that Frame holds, without copying.

    Raises:
        ValueError: If the number of bytes does not fit.
    """
    if len(data) != frame_bytes(width, height, order):
        raise ValueError(f"a frame of {width}x{height} {order} has {frame_bytes(width, height, order)} bytes, not {len(data)}")
    pixels = np.frombuffer(data, np.uint8)
    if order in PLANAR:
        return pixels.reshape(height * 3 // 2, width)
    channels = int(ORDERS[order])
    return pixels.reshape((height, width) if channels == 1 else (height, width, channels))


def _full_range_rgb(pixels: Image, height: int) -> Image:
    """Return I420 with a Y of 0..255 as RGB: OpenCV's own I420 codes take 16..235 for granted."""
    cv2 = import_cv2()
    width = pixels.shape[1]
    chroma = pixels[height:].reshape(2, height // 2, width // 2)
    u, v = (cv2.resize(plane, (width, height), interpolation=cv2.INTER_NEAREST) for plane in chroma)
    return np.asarray(cv2.cvtColor(cv2.merge([pixels[:height], v, u]), cv2.COLOR_YCrCb2RGB), np.uint8)
