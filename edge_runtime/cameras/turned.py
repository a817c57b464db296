"""Turn the frames of a camera or of files, for a camera that hangs upside down or on its side."""

import threading
from collections.abc import Generator
from dataclasses import replace

import numpy as np

from fer_edge.edge_runtime.cameras.camera import Camera, OnMessage
from fer_edge.edge_runtime.cameras.files import FileSource
from fer_edge.edge_runtime.cameras.frame import PLANAR, Frame
from fer_edge.edge_runtime.images import Image
from fer_edge.edge_runtime.orientation import UPRIGHT, Orientation


class TurnedCamera:
    """A camera whose frames are turned.

    Args:
        camera: The camera, not open yet.
        orientation: How to turn its frames.
    """

    def __init__(self, camera: Camera, orientation: Orientation) -> None:
        self._camera = camera
        self._orientation = orientation
        self._copy_attributes()

    def open(self) -> None:
        """Start the camera.

        Raises:
            CameraError: If it is missing, busy, denied or delivers no frames.
        """
        self._camera.open()
        self._copy_attributes()

    def read(self) -> Image | None:
        """Wait for the next frame and return its pixels as in Frame.pixels, turned; None if the camera is lost."""
        pixels = self._camera.read()
        self._copy_attributes()
        return None if pixels is None else turn_pixels(pixels, self._camera.pixel_format, self._orientation)

    def close(self) -> None:
        """Release the camera."""
        self._camera.close()

    def _copy_attributes(self) -> None:
        camera = self._camera
        self.name, self.frames_per_second, self.reconnects = camera.name, camera.frames_per_second, camera.reconnects
        # The pixels of yuyv share their color in pairs, which only a planar format can keep when it is turned.
        self.pixel_format = "i420" if camera.pixel_format == "yuyv" else camera.pixel_format


class TurnedFiles:
    """Files whose frames are turned, after their own orientation tags have been applied.

    Args:
        files: The files.
        orientation: How to turn the frames.
    """

    live = False

    def __init__(self, files: FileSource, orientation: Orientation) -> None:
        self._files = files
        self._orientation = orientation
        self.name = files.name

    def frames(self, stop: threading.Event, on_message: OnMessage | None = None) -> Generator[Frame, None, None]:
        """Yield the turned frames.

        Args:
            stop: As in Source.frames.
            on_message: As in Source.frames.
        """
        for frame in self._files.frames(stop, on_message):
            yield replace(frame, pixels=turn_pixels(frame.pixels, frame.pixel_format, self._orientation))


def turned(camera: Camera, orientation: Orientation) -> Camera:
    """Return a camera whose frames are turned; the camera itself if there is nothing to turn.

    Args:
        camera: The camera, not open yet.
        orientation: How to turn its frames.
    """
    return camera if orientation == UPRIGHT else TurnedCamera(camera, orientation)


def turn_pixels(pixels: Image, pixel_format: str, orientation: Orientation) -> Image:
    """Turn a frame. The Y plane of a YUV frame keeps its values.

    Args:
        pixels: uint8 array as in Frame.pixels.
        pixel_format: One of PIXEL_FORMATS. The result is i420 for yuyv.
        orientation: How to turn it.

    Returns:
        A contiguous uint8 array as in Frame.pixels.
    """
    if pixel_format == "yuyv":
        pixels = _yuyv_to_i420(pixels)
    elif pixel_format not in PLANAR:
        return orientation.apply(pixels)
    height, width = len(pixels) * 2 // 3, pixels.shape[1]
    y = orientation.apply(pixels[:height])
    u, v = (orientation.apply(plane) for plane in pixels[height:].reshape(2, height // 2, width // 2))
    return np.concatenate([y.reshape(-1), u.reshape(-1), v.reshape(-1)]).reshape(-1, y.shape[1])


def _yuyv_to_i420(pixels: Image) -> Image:
    """Convert YUYV (height, width, 2) to I420. The color of every other row is used; the last row of an odd height is lost."""
    pixels = pixels[: len(pixels) & ~1]
    u, v = pixels[::2, ::2, 1], pixels[::2, 1::2, 1]
    return np.concatenate([pixels[:, :, 0].reshape(-1), u.reshape(-1), v.reshape(-1)]).reshape(-1, pixels.shape[1])
