"""The Source protocol, and open_source(): one name or path for every camera, stream and file."""

import math
import os
import re
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Protocol

import numpy as np

from fer_edge.edge_runtime.cameras.camera import Camera, CameraError, OnMessage, frames_with_reconnect
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
from fer_edge.edge_runtime.images import IMAGE_SUFFIXES, import_cv2, read_image, reported_rate

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".mjpg", ".mjpeg")
DEFAULT_FRAMES_PER_SECOND = 25.0  # of a video that does not report a plausible rate


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


class FileSource:
    """An image, a video, or a folder of both.

    Args:
        path: The file or folder.
    """

    live = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)

    def frames(self, stop: threading.Event, on_message: OnMessage | None = None) -> Generator[Frame, None, None]:
        """Yield the frames in order of the file names.

        Args:
            stop: As in Source.frames.
            on_message: As in Source.frames.
        """
        for frame in read_frames(self.path, on_skip=on_message and (lambda reason: on_message(f"skipped: {reason}"))):
            if stop.is_set():
                return
            yield frame


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
    if text.isdecimal():
        text = f"/dev/video{text}"
    if re.fullmatch(r"/dev/video\d+", text) or Path(text).is_char_device():  # a device such as /dev/v4l/by-id/...
        return LiveSource(UsbCamera(text, frame_size, fps))
    list_files(text)  # reports a wrong path now
    return FileSource(Path(text))


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


def list_files(source: str | Path) -> list[Path]:
    """Return the images and videos of a source: the file itself, or those in a folder and its sub-folders.

    Raises:
        FileNotFoundError: If ``source`` does not exist.
        ValueError: If it is another kind of file, or a folder without images and videos.
    """
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(f"no image, folder or video at '{source}'")
    suffixes = IMAGE_SUFFIXES + VIDEO_SUFFIXES
    if path.is_file():
        if path.suffix.lower() not in suffixes:
            raise ValueError(f"'{path}' is neither an image nor a video. Supported suffixes: {', '.join(suffixes)}")
        return [path]
    files = [file for file in sorted(path.rglob("*")) if file.is_file() and file.suffix.lower() in suffixes]
    if not files:
        raise ValueError(f"the folder '{path}' contains no images or videos. Supported suffixes: {', '.join(suffixes)}")
    return files


def read_frames(source: str | Path, on_skip: Callable[[str], None] | None = None) -> Generator[Frame, None, None]:
    """Yield the frames of an image, a video or a folder, in order of the file names.

    Args:
        source: File or folder.
        on_skip: Called with the reason for each file of a folder that cannot be read. If no file can be read, the last
            error is raised instead.

    Raises:
        FileNotFoundError: If ``source`` does not exist.
        ValueError: If it contains no images or videos, or none of its files can be read.
    """
    files = list_files(source)
    unreadable = 0
    for file in files:
        try:
            if file.suffix.lower() in VIDEO_SUFFIXES:
                yield from _video_frames(file)
            else:
                yield Frame(file, None, read_image(file))
        except (ValueError, OSError) as error:
            unreadable += 1
            if unreadable == len(files):
                raise
            if on_skip:
                on_skip(str(error))


def _video_frames(path: Path) -> Generator[Frame, None, None]:
    capture = import_cv2().VideoCapture(str(path))
    number = 0
    try:
        rate = reported_rate(capture) or DEFAULT_FRAMES_PER_SECOND
        while True:
            success, pixels = capture.read()
            if not success:
                break
            yield Frame(path, number, np.asarray(pixels, np.uint8), "bgr", rate)
            number += 1
    finally:
        capture.release()
    if not number:
        raise ValueError(f"cannot read any frame of the video '{path}': it is damaged or has an unknown codec")
