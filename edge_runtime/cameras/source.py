"""Where frames come from: one name or path, one source of frames behind it."""

import math
import re
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Protocol

import numpy as np

from fer_edge.edge_runtime.cameras.camera import Camera, CameraError, OnMessage, frames_with_reconnect
from fer_edge.edge_runtime.cameras.frame import Frame
from fer_edge.edge_runtime.cameras.network import SCHEMES, NetworkStream, RawInput
from fer_edge.edge_runtime.cameras.raspberry_pi import (
    PiCamera,
    RpicamVid,
    find_rpicam,
    import_picamera2,
    pi_cameras,
    rpicam_lists_a_camera,
)
from fer_edge.edge_runtime.cameras.usb import UsbCamera, video_devices
from fer_edge.edge_runtime.images import IMAGE_SUFFIXES, import_cv2, read_image, reported_rate

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".mjpg", ".mjpeg")


class Source(Protocol):
    """Something that frames come from.

    Attributes:
        name: What to call it; holds no password.
        live: Whether frames come by themselves, so that only the newest is worth anything. The others come when they are
            asked for, in order, and none is left out.
    """

    name: str
    live: bool

    def frames(self, stop: threading.Event, on_message: OnMessage | None = None) -> Generator[Frame, None, None]:
        """Yield frames until the source or the world ends.

        Args:
            stop: Set from another thread to end.
            on_message: Called with a line about anything the user should know: a file left out, a camera lost or back.

        Raises:
            OSError: If there is nothing to open.
            ValueError: If what is there cannot be read.
        """


class LiveSource:
    """A camera, kept going."""

    live = True

    def __init__(self, camera: Camera) -> None:
        self.camera = camera
        self.name = camera.name

    def frames(self, stop: threading.Event, on_message: OnMessage | None = None) -> Generator[Frame, None, None]:
        """Yield the camera's frames; a camera that is lost is reopened."""
        return frames_with_reconnect(self.camera, stop, on_message)


class FileSource:
    """A picture, a folder of pictures and videos, or a video file."""

    live = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)

    def frames(self, stop: threading.Event, on_message: OnMessage | None = None) -> Generator[Frame, None, None]:
        """Yield the frames in order of their files' names."""
        for frame in read_frames(self.path, on_skip=on_message and (lambda reason: on_message(f"skipped: {reason}"))):
            if stop.is_set():
                return
            yield frame


def open_source(
    name: str | Path = "auto",
    frame_size: tuple[int, int] = (640, 480),
    frames_per_second: float = 30.0,
    pixel_format: str = "rgb",
) -> Source:
    """Return the source that a name or path stands for. Cameras are opened when their first frame is asked for.

    Args:
        name: ``auto`` (the Raspberry Pi camera, else the first USB camera); ``picamera2``; ``rpicam``; ``/dev/videoN`` or N;
            an address such as ``rtsp://...``; ``-`` for raw frames on standard input; or the path of a picture, a folder or
            a video.
        frame_size: Width and height to ask a camera for; of the frames on standard input, pixels.
        frames_per_second: Rate to ask a camera for.
        pixel_format: Order of the bytes on standard input: rgb, bgr, gray, i420, i420-full or yuyv.

    Raises:
        CameraError: If ``auto`` finds no camera.
        FileNotFoundError: If there is nothing at a path.
        ValueError: If a path holds nothing that can be read, size and order do not fit, or the rate is not above 0.
    """
    if not 0 < frames_per_second < math.inf:
        raise ValueError(f"frames_per_second must be above 0. Received: {frames_per_second}")
    text = str(name)
    if text == "auto":
        return LiveSource(_first_camera(frame_size, frames_per_second))
    if text == "picamera2":
        return LiveSource(PiCamera(frame_size, frames_per_second))
    if text == "rpicam":
        return LiveSource(RpicamVid(frame_size, frames_per_second))
    if text == "-":
        return LiveSource(RawInput(frame_size, pixel_format, frames_per_second))
    if text.lower().startswith(SCHEMES):
        return LiveSource(NetworkStream(text))
    if re.fullmatch(r"\d+|/dev/video\d+", text):
        return LiveSource(UsbCamera(f"/dev/video{text}" if text.isdigit() else text, frame_size, frames_per_second))
    if Path(text).is_char_device():  # such as /dev/v4l/by-id/...
        return LiveSource(UsbCamera(text, frame_size, frames_per_second))
    list_files(text)  # a wrong path is told now
    return FileSource(Path(text))


def _first_camera(size: tuple[int, int], frames_per_second: float) -> Camera:
    """Choose a camera: the Pi's own first, because who has one has connected it on purpose."""
    reasons = []
    try:
        if pi_cameras(import_picamera2()):
            return PiCamera(size, frames_per_second)
        reasons.append("picamera2 finds none")
    except ImportError as error:
        reasons.append("picamera2 is not installed" if "No module named 'picamera2'" in str(error) else str(error))
        program = find_rpicam()
        try:
            if program and rpicam_lists_a_camera(program):
                return RpicamVid(size, frames_per_second, program)
            reasons.append("rpicam-vid finds none" if program else "rpicam-vid is not installed")
        except CameraError as silent:
            reasons.append(str(silent))
    except RuntimeError as error:
        reasons.append(f"picamera2 fails: {error}")
    usable = [device for device in video_devices() if device.captures is not False]
    if usable:
        return UsbCamera(usable[0].path, size, frames_per_second)
    reasons.append("no camera at /dev/video*")
    raise CameraError(
        "missing",
        f"no camera found ({'; '.join(reasons)}). Plug one in, or name a source: a file, a folder, /dev/videoN, rtsp://..., -",
    )


def list_files(source: str | Path) -> list[Path]:
    """Return the pictures and videos of a source: the file itself, or those of a folder and its sub-folders.

    Raises:
        FileNotFoundError: If there is nothing at ``source``.
        ValueError: If it is a file of another kind, or a folder without pictures and videos.
    """
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(f"no picture, folder or video at '{source}'")
    known = IMAGE_SUFFIXES + VIDEO_SUFFIXES
    if path.is_file():
        if path.suffix.lower() not in known:
            raise ValueError(f"'{path}' is neither a picture nor a video; known endings: {', '.join(known)}")
        return [path]
    files = [file for file in sorted(path.rglob("*")) if file.is_file() and file.suffix.lower() in known]
    if not files:
        raise ValueError(f"the folder '{path}' holds no pictures and no videos; known endings: {', '.join(known)}")
    return files


def read_frames(source: str | Path, on_skip: Callable[[str], None] | None = None) -> Generator[Frame, None, None]:
    """Yield the frames of a picture, a folder or a video file, in order of their names.

    Args:
        source: File or folder.
        on_skip: Called with the reason for each file of a folder that cannot be read. A single file that cannot be
            read raises instead.

    Raises:
        FileNotFoundError: If there is nothing at ``source``.
        ValueError: If it holds nothing to read, or no file of it can be read.
    """
    files = list_files(source)
    unread = 0
    for file in files:
        try:
            if file.suffix.lower() in VIDEO_SUFFIXES:
                yield from _video_frames(file)
            else:
                yield Frame(file, None, read_image(file))
        except (ValueError, OSError) as error:
            unread += 1
            if unread == len(files):
                raise
            if on_skip:
                on_skip(str(error))


def _video_frames(path: Path) -> Generator[Frame, None, None]:
    cv2 = import_cv2()
    capture = cv2.VideoCapture(str(path))
    try:
        rate = reported_rate(capture) or 25.0
        number = 0
        while True:
            read, frame = capture.read()
            if not read:
                break
            yield Frame(path, number, np.asarray(frame, np.uint8), "bgr", rate)
            number += 1
    finally:
        capture.release()
    if not number:
        raise ValueError(f"cannot read a single frame of the video '{path}': it is damaged or of an unknown codec")
