"""The Source protocol, and open_source(): one name or path for every camera, stream and file."""

import math
import os
import threading
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fer_edge.edge_runtime.cameras.camera import Camera, CameraError, OnMessage, frames_with_reconnect
from fer_edge.edge_runtime.cameras.devices import video_devices
from fer_edge.edge_runtime.cameras.files import FileSource
from fer_edge.edge_runtime.cameras.find_files import find_files
from fer_edge.edge_runtime.cameras.frame import Frame
from fer_edge.edge_runtime.cameras.network import SCHEMES
from fer_edge.edge_runtime.cameras.raspberry_pi import (
    PiCamera,
    import_picamera2,
    pi_cameras,
    turns_by_mirrors,
)
from fer_edge.edge_runtime.cameras.raw_input import RawInput
from fer_edge.edge_runtime.cameras.rpicam_vid import RpicamVid, find_rpicam, list_cameras
from fer_edge.edge_runtime.cameras.turned import TurnedFiles, turned
from fer_edge.edge_runtime.cameras.usb import UsbCamera
from fer_edge.edge_runtime.images import Image
from fer_edge.edge_runtime.orientation import UPRIGHT, Orientation


class Source(Protocol):
    """A source of frames.

    Attributes:
        name: Name in output and errors, without a password.
        live: True for a source in real time, of which only the newest frame counts. False for files: their frames are read
            on demand, in order and without gaps.
    """

    name: str
    live: bool

    def frames(self, stop: threading.Event, on_message: OnMessage | None = None) -> Generator[Frame, None, None]:
        """Yield frames until the source ends.

        Args:
            stop: Ends the frames when another thread sets it.
            on_message: Called with a line of text when a file is skipped, or a camera is lost or back.

        Raises:
            OSError: If the source cannot be opened.
            ValueError: If a file cannot be read.
        """


@dataclass(frozen=True)
class _Request:
    """What to request from a camera.

    Attributes:
        frame_size: Width and height, pixels.
        fps: Frame rate.
        orientation: How to turn the frames. A Raspberry Pi camera does a part of this itself.
    """

    frame_size: tuple[int, int]
    fps: float
    orientation: Orientation

    def picamera2(self) -> Camera:
        if turns_by_mirrors(self.orientation):
            return PiCamera(self.frame_size, self.fps, self.orientation)
        return turned(PiCamera(self.frame_size, self.fps), self.orientation)

    def rpicam(self, program: str | None = None) -> Camera:
        if turns_by_mirrors(self.orientation):
            return RpicamVid(self.frame_size, self.fps, program, self.orientation)
        return turned(RpicamVid(self.frame_size, self.fps, program), self.orientation)

    def usb(self, device: Path) -> Camera:
        return turned(UsbCamera(device, self.frame_size, self.fps), self.orientation)

    def first_camera(self) -> Camera:
        """Choose a camera. The Raspberry Pi camera comes first: its owner connected it to the board on purpose.

        Raises:
            CameraError: If there is none.
        """
        reasons = []
        try:
            if pi_cameras(import_picamera2()):
                return self.picamera2()
            reasons.append("picamera2 finds none")
        except ImportError as error:
            reasons.append("picamera2 is not installed" if "No module named 'picamera2'" in str(error) else str(error))
            program = find_rpicam()
            try:
                if program and list_cameras(program):
                    return self.rpicam(program)
                reasons.append("rpicam-vid finds none" if program else "rpicam-vid is not installed")
            except CameraError as timeout:
                reasons.append(str(timeout))
        except RuntimeError as error:
            reasons.append(f"picamera2 fails: {error}")
        usable = [device for device in video_devices() if device.is_capture_device is not False]
        if usable:
            return self.usb(usable[0].path)
        reasons.append("no camera at /dev/video*")
        raise CameraError(
            "missing",
            f"no camera found ({'; '.join(reasons)}). Connect one, or name a source: a file, a folder, /dev/videoN, "
            f"rtsp://..., -{'. To read the path auto that exists here, pass ./auto' if Path('auto').exists() else ''}",
        )


class LiveSource:
    """A camera that is reopened whenever it is lost.

    Args:
        camera: The camera, not open yet.
        wait: Whether to wait for a camera that is not available at the start, instead of an error.
    """

    live = True

    def __init__(self, camera: Camera, wait: bool = False) -> None:
        self.camera = camera
        self.name = camera.name
        self._wait = wait

    def frames(self, stop: threading.Event, on_message: OnMessage | None = None) -> Generator[Frame, None, None]:
        """Yield the camera's frames.

        Args:
            stop: As in Source.frames.
            on_message: As in Source.frames.
        """
        return frames_with_reconnect(self.camera, stop, on_message, wait=self._wait)


def open_source(
    name: str | Path = "auto",
    frame_size: tuple[int, int] = (640, 480),
    fps: float = 30.0,
    pixel_format: str = "rgb",
    orientation: Orientation = UPRIGHT,
    wait: bool = False,
) -> Source:
    """Return the source of a name or path. A camera is opened when its first frame is requested.

    Args:
        name: ``auto`` (the Raspberry Pi camera, else the first USB camera); ``picamera2``; ``rpicam``; ``/dev/videoN`` or N;
            a URL such as ``rtsp://...``; ``-`` for raw frames on standard input; or the path of an image, a video or a folder.
        frame_size: Width and height to request from a camera, or of the frames on standard input, pixels.
        fps: Frame rate to request from a camera, > 0.
        pixel_format: Pixel format of standard input, one of frame.PIXEL_FORMATS.
        orientation: How to turn all frames.
        wait: Whether to wait for a camera or stream that is not available at the start, instead of an error.

    Raises:
        CameraError: If ``auto`` finds no camera, unless ``wait`` is True.
        FileNotFoundError: If a path does not exist.
        TypeError: If ``name`` is an image in memory.
        ValueError: If a path contains no readable file, the frame size is not valid for the pixel format, or the rate is not
            above 0.
    """
    if not 0 < fps < math.inf:
        raise ValueError(f"fps must be above 0. Received: {fps}")
    if not isinstance(name, (str, os.PathLike, int)):
        raise TypeError(
            f"a source is the name of a camera, a URL or a path. Received: {type(name).__name__}. "
            "To label an image in memory, use fer_edge.analyze(image)"
        )
    text = str(name)
    request = _Request(frame_size, fps, orientation)
    if text in ("picamera2", "rpicam") and Path(text).exists():
        raise ValueError(f"'{text}' is the name of a camera and of a path here. To read the path, pass ./{text}")
    if text == "auto":
        return LiveSource(AutoCamera(request) if wait else request.first_camera(), wait)
    if text == "picamera2":
        return LiveSource(request.picamera2(), wait)
    if text == "rpicam":
        return LiveSource(request.rpicam(), wait)
    if text == "-":
        return LiveSource(turned(RawInput(frame_size, pixel_format, fps), orientation))
    if text.lower().startswith(SCHEMES):
        from fer_edge.edge_runtime.cameras.http_camera import network_camera  # here, because it imports http and ssl

        return LiveSource(turned(network_camera(text, fps), orientation), wait)
    path = Path(text)
    if text.isdecimal() and not path.exists():
        path = Path(f"/dev/video{text}")
    if path.is_char_device() or (path.is_relative_to("/dev") and not path.exists()):  # also /dev/v4l/by-id/...
        return LiveSource(request.usb(path), wait)
    if wait:
        raise ValueError(f"only a camera or a stream can be waited for. Received: '{text}'")
    find_files(path)  # reports a wrong path now
    return FileSource(path) if orientation == UPRIGHT else TurnedFiles(FileSource(path), orientation)


class AutoCamera:
    """The first camera that is found when it is opened.

    Args:
        request: The settings of the camera.
    """

    name = "a camera"
    pixel_format = "bgr"
    frames_per_second: float | None = None
    reconnects = True

    def __init__(self, request: "_Request") -> None:
        self._request = request
        self._camera: Camera | None = None

    def open(self) -> None:
        """Find a camera and start it. Later calls start the same one.

        Raises:
            CameraError: If there is none, or it is busy, denied or delivers no frames.
        """
        camera = self._camera or self._request.first_camera()
        camera.open()
        self._camera = camera
        self.name, self.pixel_format, self.frames_per_second = camera.name, camera.pixel_format, camera.frames_per_second

    def read(self) -> Image | None:
        """Wait for the next frame and return its pixels as in Frame.pixels; None if the camera is lost."""
        if self._camera is None:
            return None
        pixels = self._camera.read()
        self.reconnects = self._camera.reconnects
        return pixels

    def close(self) -> None:
        """Release the camera."""
        if self._camera:
            self._camera.close()
