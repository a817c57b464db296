"""The Source protocol, and open_source(): one name or path for every camera, stream and file."""

import math
import os
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Protocol

from fer_edge.edge_runtime.cameras.camera import Camera, CameraError, OnMessage, frames_with_reconnect
from fer_edge.edge_runtime.cameras.files import FileSource
from fer_edge.edge_runtime.cameras.find_files import find_files
from fer_edge.edge_runtime.cameras.frame import Frame
from fer_edge.edge_runtime.cameras.network import SCHEMES, NetworkStream
from fer_edge.edge_runtime.cameras.raspberry_pi import (
    PiCamera,
    RpicamVid,
    find_rpicam,
    import_picamera2,
    pi_cameras,
    rpicam_lists_a_camera,
)
from fer_edge.edge_runtime.cameras.raw_input import RawInput
from fer_edge.edge_runtime.cameras.usb import UsbCamera, video_devices


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


class LiveSource:
    """A camera that is reopened whenever it is lost.

    Args:
        camera: The camera, not open yet.
    """

    live = True

    def __init__(self, camera: Camera) -> None:
        self.camera = camera
        self.name = camera.name

    def frames(self, stop: threading.Event, on_message: OnMessage | None = None) -> Generator[Frame, None, None]:
        """Yield the camera's frames.

        Args:
            stop: As in Source.frames.
            on_message: As in Source.frames.
        """
        return frames_with_reconnect(self.camera, stop, on_message)


def open_source(
    name: str | Path = "auto",
    frame_size: tuple[int, int] = (640, 480),
    fps: float = 30.0,
    pixel_format: str = "rgb",
) -> Source:
    """Return the source of a name or path. A camera is opened when its first frame is requested.

    Args:
        name: ``auto`` (the Raspberry Pi camera, else the first USB camera); ``picamera2``; ``rpicam``; ``/dev/videoN`` or N;
            a URL such as ``rtsp://...``; ``-`` for raw frames on standard input; or the path of an image, a video or a folder.
        frame_size: Width and height to request from a camera, or of the frames on standard input, pixels.
        fps: Frame rate to request from a camera, > 0.
        pixel_format: Pixel format of standard input, one of frame.PIXEL_FORMATS.

    Raises:
        CameraError: If ``auto`` finds no camera.
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
    if text == "auto":
        return LiveSource(_first_camera(frame_size, fps))
    if text == "picamera2":
        return LiveSource(PiCamera(frame_size, fps))
    if text == "rpicam":
        return LiveSource(RpicamVid(frame_size, fps))
    if text == "-":
        return LiveSource(RawInput(frame_size, pixel_format, fps))
    if text.lower().startswith(SCHEMES):
        return LiveSource(NetworkStream(text))
    path = Path(text)
    if text.isdecimal() and not path.exists():
        path = Path(f"/dev/video{text}")
    if path.is_char_device() or (path.is_relative_to("/dev") and not path.exists()):  # also /dev/v4l/by-id/...
        return LiveSource(UsbCamera(path, frame_size, fps))
    find_files(path)  # reports a wrong path now
    return FileSource(path)


def _first_camera(frame_size: tuple[int, int], fps: float) -> Camera:
    """Choose a camera. The Raspberry Pi camera comes first: its owner connected it to the board on purpose."""
    reasons = []
    try:
        if pi_cameras(import_picamera2()):
            return PiCamera(frame_size, fps)
        reasons.append("picamera2 finds none")
    except ImportError as error:
        reasons.append("picamera2 is not installed" if "No module named 'picamera2'" in str(error) else str(error))
        program = find_rpicam()
        try:
            if program and rpicam_lists_a_camera(program):
                return RpicamVid(frame_size, fps, program)
            reasons.append("rpicam-vid finds none" if program else "rpicam-vid is not installed")
        except CameraError as timeout:
            reasons.append(str(timeout))
    except RuntimeError as error:
        reasons.append(f"picamera2 fails: {error}")
    usable = [device for device in video_devices() if device.is_capture_device is not False]
    if usable:
        return UsbCamera(usable[0].path, frame_size, fps)
    reasons.append("no camera at /dev/video*")
    raise CameraError(
        "missing",
        f"no camera found ({'; '.join(reasons)}). Connect one, or name a source: a file, a folder, /dev/videoN, rtsp://..., -",
    )
