"""The Raspberry Pi camera through a pipe from rpicam-vid. It delivers full-range I420."""

import os
import re
import select
import shutil
import subprocess
import threading
import time
from collections import deque

import numpy as np

from fer_edge.edge_runtime.cameras.camera import CameraError, FirstFrameMixin
from fer_edge.edge_runtime.cameras.frame import frame_bytes
from fer_edge.edge_runtime.cameras.raspberry_pi import error_from_output, mirrors, read_timeout_s, without_padding
from fer_edge.edge_runtime.cameras.sensor_mode import choose_mode, read_listing
from fer_edge.edge_runtime.images import Image
from fer_edge.edge_runtime.orientation import UPRIGHT, Orientation

PROGRAMS = ("rpicam-vid", "libcamera-vid")  # libcamera-vid: its name before Raspberry Pi OS Bookworm
LIST_TIMEOUT_S = 10.0  # for rpicam-vid to list the cameras
START_TIMEOUT_S = 10.0  # from the start of rpicam-vid to its first frame
# Printed by libcamera when the camera starts, and with --verbose 2 by rpicam-vid for each frame.
STREAM_SIZE = re.compile(r"configuring streams: \(0\) (\d+)x(\d+)-YUV420")
BUFFER_SIZE = re.compile(r"output buffer \S+ size (\d+)")
PER_FRAME_LINE = re.compile(r"#\d|FileOutput: |Viewfinder frame ")


def find_rpicam() -> str | None:
    """Return the path of rpicam-vid; None if it is not installed."""
    return next((path for path in map(shutil.which, PROGRAMS) if path), None)


def list_cameras(program: str) -> str:
    """Return the cameras and sensor modes that rpicam-vid lists; empty if there are none.

    Args:
        program: Path of rpicam-vid.

    Raises:
        CameraError: If it does not answer in time.
    """
    command = [program, "--list-cameras"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=LIST_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise CameraError("failed", f"rpicam-vid lists no cameras within {LIST_TIMEOUT_S:g} s") from error
    listing = result.stdout + result.stderr
    return listing if "0 :" in listing else ""


class RpicamVid(FirstFrameMixin):
    """The Raspberry Pi camera through rpicam-vid, which writes raw I420 frames to a pipe.

    Args:
        size: Width and height, pixels, both even. The camera may choose others.
        frames_per_second: Frame rate to request.
        program: Path of rpicam-vid; None searches PATH.
        orientation: As for PiCamera.

    Raises:
        ValueError: If a side is odd, or the camera cannot turn its frames so.
    """

    pixel_format = "i420-full"
    reconnects = True

    def __init__(
        self,
        size: tuple[int, int] = (640, 480),
        frames_per_second: float = 30.0,
        program: str | None = None,
        orientation: Orientation = UPRIGHT,
    ) -> None:
        frame_bytes(*size, self.pixel_format)
        self.name = "rpicam-vid"
        self.frames_per_second: float | None = frames_per_second
        self._size = size
        self._bytes = 0  # of a frame with its padding
        self._program = program
        self._mirrors = [f"--{name}" for name, wanted in mirrors(orientation).items() if wanted]
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr_tail: deque[str] = deque(maxlen=20)  # rpicam-vid writes one line per frame
        self._stderr_thread: threading.Thread | None = None
        self._started = threading.Event()  # or ended without a frame

    def open(self) -> None:
        """Start the program and wait for a first frame.

        Raises:
            CameraError: If the program is missing, or delivers no frame.
        """
        program = self._program or find_rpicam()
        if program is None:
            raise CameraError("missing", "rpicam-vid is not installed. Install it: sudo apt install rpicam-apps")
        command = self._command(program)
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._stderr_tail.clear()
        self._started.clear()
        self._bytes = 0
        self._stderr_thread = threading.Thread(target=self._drain_stderr, args=(self._process,), name="rpicam-vid", daemon=True)
        self._stderr_thread.start()
        self._started.wait(START_TIMEOUT_S)
        self._first_frame = self._read_frame() if self._bytes else None
        if self._first_frame is None:
            self.close()
            raise error_from_output("\n".join(self._stderr_tail).strip(), "rpicam-vid")

    def _command(self, program: str) -> list[str]:
        width, height = self._size
        fps = self.frames_per_second or 0
        # Without --flush, the end of every other frame waits in a buffer of 4096 bytes for the next frame.
        command = [program, "--timeout", "0", "--nopreview", "--codec", "yuv420", "--flush", "--verbose", "2"]
        command += ["--width", str(width), "--height", str(height), "--framerate", f"{fps:g}", "--output", "-", *self._mirrors]
        mode = choose_mode(read_listing(list_cameras(program)), self._size, fps)
        return [*command, "--mode", f"{mode.size[0]}:{mode.size[1]}:{mode.bit_depth}"] if mode else command

    def close(self) -> None:
        """End the program."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(timeout=3)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout:
                process.stdout.close()
        if self._stderr_thread is not None:
            self._stderr_thread.join()
            self._stderr_thread = None

    def _drain_stderr(self, process: subprocess.Popen[bytes]) -> None:
        """Read what the program prints: the size of its frames, then errors."""
        if process.stderr:
            with process.stderr as file:
                for line in (line.decode(errors="replace").rstrip() for line in file):
                    self._read_line(line)
        self._started.set()

    def _read_line(self, line: str) -> None:
        if stream := STREAM_SIZE.search(line):
            self._size = (int(stream[1]), int(stream[2]))
        elif not self._bytes and (buffer := BUFFER_SIZE.search(line)):
            self._bytes = int(buffer[1])
            self._started.set()
        if not PER_FRAME_LINE.match(line):
            self._stderr_tail.append(line)

    def _read_frame(self) -> Image | None:
        """Return the next frame; None if the program has ended, also in the middle of a frame, or the camera is silent."""
        if self._process is None or self._process.stdout is None:
            return None
        width, height = self._size
        stride = self._bytes // (height * 3 // 2)  # a Pi 4 pads rows to a multiple of 64, a Pi 5 of 128
        if stride < width or stride * (height * 3 // 2) != self._bytes:
            self._stderr_tail.append(f"frames of {width}x{height} with {self._bytes} bytes")
            return None
        data = bytearray(self._bytes)
        if not _read_into(self._process.stdout.fileno(), memoryview(data), read_timeout_s(self.frames_per_second)):
            return None
        return without_padding(np.frombuffer(data, np.uint8).reshape(-1, stride), width, height)


def _read_into(pipe: int, data: memoryview, timeout_s: float) -> bool:
    """Fill a buffer from a pipe, without a buffer of the file object; return False if it ends, or does not do so in time."""
    end_s = time.monotonic() + timeout_s
    while data:
        if not select.select([pipe], [], [], max(0.0, end_s - time.monotonic()))[0]:
            return False
        count = os.readv(pipe, [data])
        if not count:
            return False
        data = data[count:]
    return True
