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

from fer_edge.edge_runtime.cameras.camera import CameraError, FirstFrameMixin
from fer_edge.edge_runtime.images import Image, import_cv2

SYSFS = Path("/sys/class/video4linux")
# From linux/videodev2.h. struct v4l2_capability has 104 bytes: capabilities at 84, device_caps at 88. Bit 31 of capabilities
# says that device_caps is valid.
QUERYCAP = 0x80685600
# struct v4l2_requestbuffers: count, type (1: video capture), memory (1: mapped), and 8 more bytes. A request for 0 buffers
# has no effect, but fails while another program has buffers.
REQBUFS = 0xC0145608
NO_BUFFERS = struct.pack("<III8x", 0, 1, 1)
CAP_VIDEO_CAPTURE = 0x00000001
CAP_DEVICE_CAPS = 0x80000000
MAX_BROKEN_FRAMES = 5  # in a row, before the camera counts as lost
SLOW_READ_S = 1.0  # a read that fails after this long is a lost camera, not a broken frame
# Parts of a Raspberry Pi that are video devices but deliver no images by themselves: codecs, the image signal processor, and
# the raw side of the Pi camera, which only libcamera can use.
NOT_CAMERAS = ("bcm2835-codec", "bcm2835-isp", "rpi-hevc", "rpivid", "pispbe", "unicam", "rp1-cfe")


@dataclass(frozen=True)
class VideoDevice:
    """A /dev/video file.

    Attributes:
        path: The file.
        title: The kernel's name for the device.
        is_capture_device: Whether it captures video; None without permission to query it.
    """

    path: Path
    title: str
    is_capture_device: bool | None


def video_devices(sysfs: Path = SYSFS) -> list[VideoDevice]:
    """Return the video devices of this machine that may be cameras, sorted by number."""
    devices = []
    for entry in sorted(sysfs.glob("video*"), key=lambda path: int(path.name[5:] or 0)):
        try:
            title = (entry / "name").read_text().strip()
        except OSError:
            title = entry.name
        if not title.startswith(NOT_CAMERAS):
            path = Path("/dev") / entry.name
            devices.append(VideoDevice(path, title, _is_capture_device(path)))
    return devices


def _is_capture_device(path: Path) -> bool | None:
    try:
        handle = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        answer = fcntl.ioctl(handle, QUERYCAP, bytes(104))
        capabilities, device_caps = struct.unpack_from("<II", answer, 84)
        return bool((device_caps if capabilities & CAP_DEVICE_CAPS else capabilities) & CAP_VIDEO_CAPTURE)
    except OSError:
        return False
    finally:
        os.close(handle)


class UsbCamera(FirstFrameMixin):
    """A camera at /dev/videoN, read by OpenCV. Frames are BGR.

    Args:
        device: The device file, such as /dev/video0.
        size: Width and height to request, pixels; the camera may choose others.
        frames_per_second: Frame rate to request.
    """

    pixel_format = "bgr"
    reconnects = True

    def __init__(self, device: str | Path, size: tuple[int, int] = (640, 480), frames_per_second: float = 30.0) -> None:
        self.device = Path(device)
        self.name = str(device)
        self.frames_per_second: float | None = frames_per_second
        self._size = size
        self._capture: Any = None

    def open(self) -> None:
        """Open the camera and wait for a first frame: a busy camera opens, but fails on the first read.

        Raises:
            CameraError: If it is missing, denied, busy, or delivers no frames.
        """
        check_device(self.device)
        cv2 = import_cv2()
        self._capture = cv2.VideoCapture(str(self.device), cv2.CAP_V4L2)
        # Uncompressed video above 640x480 at 30 frames per second exceeds the bandwidth of USB 2.
        self._capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter_fourcc(*"MJPG"))
        self._capture.set(cv2.CAP_PROP_FRAME_WIDTH, self._size[0])
        self._capture.set(cv2.CAP_PROP_FRAME_HEIGHT, self._size[1])
        self._capture.set(cv2.CAP_PROP_FPS, self.frames_per_second)
        self._first_frame = self._read_frame() if self._capture.isOpened() else None
        if self._first_frame is None:
            self.close()
            raise diagnose_no_frames(self.device)

    def close(self) -> None:
        """Release the device."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _read_frame(self) -> Image | None:
        """Return the next frame that can be decoded. USB cameras often send a few broken frames at the start."""
        cv2 = import_cv2()
        for _ in range(MAX_BROKEN_FRAMES if self._capture is not None else 0):
            start = time.monotonic()
            try:
                success, pixels = self._capture.read()
            except cv2.error:  # a frame of 0 bytes
                continue
            if success:
                return np.asarray(pixels, np.uint8)
            if time.monotonic() - start > SLOW_READ_S:
                break
        return None


def check_device(device: Path) -> None:
    """Check that a device file exists and that this user may use it.

    Raises:
        CameraError: If it is missing or denied.
    """
    if not device.exists():
        others = [f"{other.path} ({other.title})" for other in video_devices() if other.is_capture_device is not False]
        available = ", ".join(others) or "none"
        raise CameraError(
            "missing",
            f"no camera at {device}: it is not plugged in, or its number has changed. Available cameras: {available}",
        )
    if not os.access(device, os.R_OK | os.W_OK):
        raise CameraError(
            "denied",
            f"this user may not use {device}. Allow it: sudo usermod -aG video $USER, then log in again",
        )


def diagnose_no_frames(device: Path, processes: Path = Path("/proc")) -> CameraError:
    """Return the reason why an existing device delivers no frames.

    Args:
        device: The device file.
        processes: The proc filesystem.
    """
    if _is_busy(device):
        users = _processes_using(device, processes)
        by = f"process {' or '.join(users)}" if users else f"a program of another user: sudo fuser -v {device} names it"
        return CameraError("busy", f"{device} is in use by {by}. Close that program and try again")
    return CameraError(
        "failed",
        f"{device} delivers no frames: use another device of this camera (fer-edge doctor lists them), or another --frame-size",
    )


def _is_busy(device: Path) -> bool:
    """Return whether another program captures from the device. A program that only has it open does not count."""
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
    """Return "PID (NAME)" of other processes that have the device open, as far as this user can see."""
    target = str(device.resolve())
    users = []
    for process in processes.glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        try:
            if any(str(handle.readlink()) == target for handle in (process / "fd").iterdir()):
                users.append(f"{process.name} ({(process / 'comm').read_text().strip()})")
        except OSError:
            continue
    return users
