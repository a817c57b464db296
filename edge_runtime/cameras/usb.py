"""USB cameras through Video4Linux2."""

import errno
import fcntl
import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fer_edge.edge_runtime.cameras.camera import CameraError
from fer_edge.edge_runtime.images import Image, import_cv2

SYSFS = Path("/sys/class/video4linux")
# From linux/videodev2.h: struct v4l2_capability is 104 bytes, its device_caps stand at 88; bit 31 of capabilities (at 84)
# says that they count.
QUERYCAP = 0x80685600
# struct v4l2_requestbuffers: count, type (1: video capture), memory (1: mapped), and 8 bytes more. Asking for no buffers
# changes nothing, but is refused while another program has some.
REQBUFS = 0xC0145608
NO_BUFFERS = struct.pack("<III8x", 0, 1, 1)
CAPTURES = 0x00000001
HAS_DEVICE_CAPS = 0x80000000
BROKEN_FRAMES = 5  # in a row that are no lost camera yet
SILENT_S = 1.0  # a read that fails only after so long is one
# Parts of a Raspberry Pi that give no pictures of their own: codecs, the ISP, and the raw side of the Pi camera, which
# libcamera serves.
NOT_CAMERAS = ("bcm2835-codec", "bcm2835-isp", "rpi-hevc", "rpivid", "pispbe", "unicam", "rp1-cfe")


@dataclass(frozen=True)
class VideoDevice:
    """A /dev/video file.

    Attributes:
        path: The file.
        title: What the kernel calls it.
        captures: Whether it gives pictures; None where it may not be asked.
    """

    path: Path
    title: str
    captures: bool | None


def video_devices(sysfs: Path = SYSFS) -> list[VideoDevice]:
    """Return the video devices of this machine that may be cameras, by number."""
    found = []
    for entry in sorted(sysfs.glob("video*"), key=lambda path: int(path.name[5:] or 0)):
        try:
            title = (entry / "name").read_text().strip()
        except OSError:
            title = entry.name
        if not title.startswith(NOT_CAMERAS):
            path = Path("/dev") / entry.name
            found.append(VideoDevice(path, title, _captures(path)))
    return found


def _captures(path: Path) -> bool | None:
    try:
        handle = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        answer = fcntl.ioctl(handle, QUERYCAP, bytes(104))
        capabilities, device_caps = struct.unpack_from("<II", answer, 84)
        return bool((device_caps if capabilities & HAS_DEVICE_CAPS else capabilities) & CAPTURES)
    except OSError:
        return False
    finally:
        os.close(handle)


class UsbCamera:
    """A camera at /dev/videoN, read by OpenCV; frames are BGR.

    Args:
        device: The file, such as /dev/video0.
        size: Width and height to ask for, pixels; the camera may choose another.
        frames_per_second: Rate to ask for.
    """

    pixel_format = "bgr"
    reconnects = True

    def __init__(self, device: str | Path, size: tuple[int, int] = (640, 480), frames_per_second: float = 30.0) -> None:
        self.device = Path(device)
        self.name = str(device)
        self.frames_per_second: float | None = frames_per_second
        self._size = size
        self._capture: Any = None
        self._first: Image | None = None

    def open(self) -> None:
        """Open it and wait for a first frame: a busy camera opens, and only then fails.

        Raises:
            CameraError: If it is missing, denied, busy, or gives no pictures.
        """
        check_device(self.device)
        cv2 = import_cv2()
        self._capture = cv2.VideoCapture(str(self.device), cv2.CAP_V4L2)
        # Uncompressed, USB 2 cannot carry more than 640 x 480 at 30 a second.
        self._capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter_fourcc(*"MJPG"))
        self._capture.set(cv2.CAP_PROP_FRAME_WIDTH, self._size[0])
        self._capture.set(cv2.CAP_PROP_FRAME_HEIGHT, self._size[1])
        self._capture.set(cv2.CAP_PROP_FPS, self.frames_per_second)
        self._first = self._next() if self._capture.isOpened() else None
        if self._first is None:
            self.close()
            raise diagnose_no_frames(self.device)

    def read(self) -> Image | None:
        """Wait for the next frame (height, width, 3), BGR; None when the camera is lost."""
        if self._first is not None:
            first, self._first = self._first, None
            return first
        return self._next()

    def close(self) -> None:
        """Let go of the device."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _next(self) -> Image | None:
        """Return the next frame that can be decoded; a few may be cut short, as USB cameras do when they start."""
        cv2 = import_cv2()
        for _ in range(BROKEN_FRAMES if self._capture is not None else 0):
            start = time.monotonic()
            try:
                read, picture = self._capture.read()
            except cv2.error:  # a frame of no bytes at all
                continue
            if read:
                return np.asarray(picture, np.uint8)
            if time.monotonic() - start > SILENT_S:
                break
        return None


def check_device(device: Path) -> None:
    """Check that a device file is there and may be used.

    Raises:
        CameraError: If it is missing or denied.
    """
    if not device.exists():
        others = [f"{other.path} ({other.title})" for other in video_devices() if other.captures is not False]
        there = f"There is: {', '.join(others)}" if others else "No other camera is there either"
        raise CameraError("missing", f"no camera at {device}: it is not plugged in, or its number has changed. {there}")
    if not os.access(device, os.R_OK | os.W_OK):
        raise CameraError(
            "denied",
            f"{device} may not be used by this user. Allow it: sudo usermod -aG video $USER, then log in again",
        )


def diagnose_no_frames(device: Path, processes: Path = Path("/proc")) -> CameraError:
    """Find out why a device that is there gives no pictures."""
    if _is_busy(device):
        holders = _processes_using(device, processes)
        by = f"by process {' or '.join(holders)}" if holders else f"by another user's program: sudo fuser -v {device} names it"
        return CameraError("busy", f"{device} is in use {by}. Close that program and try again")
    return CameraError(
        "failed",
        f"{device} gives no pictures: it may be the wrong one of a camera's devices, or want another --frame-size. "
        "fer-edge doctor lists the cameras",
    )


def _is_busy(device: Path) -> bool:
    """Return whether another program takes pictures from it: having it open alone, as sound servers do, keeps nobody out."""
    try:
        handle = os.open(device, os.O_RDWR | os.O_NONBLOCK)
    except OSError as error:  # some drivers let only one program open it
        return error.errno == errno.EBUSY
    try:
        fcntl.ioctl(handle, REQBUFS, NO_BUFFERS)
    except OSError as error:
        return error.errno == errno.EBUSY
    finally:
        os.close(handle)
    return False


def _processes_using(device: Path, processes: Path) -> list[str]:
    """Return "NUMBER (NAME)" of the other processes that have the device open, as far as this user may see."""
    target = str(device.resolve())
    found = []
    for process in processes.glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        try:
            if any(str(handle.readlink()) == target for handle in (process / "fd").iterdir()):
                found.append(f"{process.name} ({(process / 'comm').read_text().strip()})")
        except OSError:
            continue
    return found
