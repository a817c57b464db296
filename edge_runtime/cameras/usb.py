"""USB cameras through Video4Linux2."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from fer_edge.edge_runtime.cameras.camera import CameraError, FirstFrameMixin
from fer_edge.edge_runtime.cameras.devices import PROCESSES, is_busy, processes_using, video_devices
from fer_edge.edge_runtime.images import Image, import_cv2

MAX_BROKEN_FRAMES = 5  # in a row, before the camera counts as lost
SLOW_READ_S = 1.0  # a read that fails after this long is a lost camera, not a broken frame


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


def diagnose_no_frames(device: Path, processes: Path = PROCESSES) -> CameraError:
    """Return the reason why an existing device delivers no frames.

    Args:
        device: The device file.
        processes: The proc filesystem.
    """
    if is_busy(device):
        users = processes_using(device, processes)
        by = f"process {' or '.join(users)}" if users else f"a program of another user: sudo fuser -v {device} names it"
        return CameraError("busy", f"{device} is in use by {by}. Close that program and try again")
    return CameraError(
        "failed",
        f"{device} delivers no frames: use another device of this camera (fer-edge doctor lists them), or another --frame-size",
    )
