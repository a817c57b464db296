"""The Raspberry Pi's own camera: picamera2 where it can be imported, else rpicam-vid over a pipe. Both give full-range I420."""

import concurrent.futures
import importlib
import shutil
import subprocess
import threading
from collections import deque
from contextlib import suppress
from typing import Any

import numpy as np

from fer_edge.edge_runtime.cameras.camera import CameraError
from fer_edge.edge_runtime.cameras.frame import frame_bytes, from_buffer
from fer_edge.edge_runtime.images import Image

PROGRAMS = ("rpicam-vid", "libcamera-vid")  # the second is its name before Raspberry Pi OS Bookworm
ANSWER_S = 10.0  # how long rpicam-vid may take to list the cameras
FRAME_S = 5.0  # how long a frame may take; picamera2 itself waits for ever
STRIDE = 64  # pixels; rpicam-vid pads rows to it and says nothing
NUMPY_HINT = (
    "picamera2 breaks beside numpy 2: pip install 'numpy<2', or -c constraints-raspberry.txt from fer-edge's repository"
)


def import_picamera2() -> Any:
    """Import picamera2.

    Raises:
        ImportError: If it is missing, or was built for another numpy.
    """
    try:
        return importlib.import_module("picamera2")
    except ImportError as error:
        raise ImportError(
            f"picamera2 cannot be imported ({error}). Install it: sudo apt install python3-picamera2, and make the "
            "environment with python3 -m venv --system-site-packages"
        ) from error
    except ValueError as error:  # "numpy.dtype size changed": what a module built for numpy 1 says under numpy 2
        raise ImportError(f"picamera2 cannot be imported ({error}). {NUMPY_HINT}") from error


def pi_cameras(picamera2: Any) -> list[int]:
    """Return the numbers of the cameras on ribbon cables; picamera2 lists those on USB too, and cannot set their rate."""
    infos = picamera2.Picamera2.global_camera_info()
    return [number for number, info in enumerate(infos) if "/usb" not in str(info.get("Id", ""))]


def find_rpicam() -> str | None:
    """Return the path of rpicam-vid, None where it is not installed."""
    return next((path for path in map(shutil.which, PROGRAMS) if path), None)


def rpicam_lists_a_camera(program: str) -> bool:
    """Ask rpicam-vid whether a camera is connected.

    Raises:
        CameraError: If it does not answer.
    """
    command = [program, "--list-cameras"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise CameraError("failed", f"rpicam-vid lists no cameras within {ANSWER_S:g} s") from error
    return "0 :" in done.stdout + done.stderr


class PiCamera:
    """The Pi camera through picamera2.

    Args:
        size: Width and height, pixels, both even.
        frames_per_second: Rate to ask for.
    """

    name = "picamera2"
    pixel_format = "i420-full"  # its "RGB888" would arrive as B, G, R; the Y plane needs no conversion at all
    reconnects = True

    def __init__(self, size: tuple[int, int] = (640, 480), frames_per_second: float = 30.0) -> None:
        frame_bytes(*size, self.pixel_format)
        self.frames_per_second: float | None = frames_per_second
        self._size = size
        self._camera: Any = None

    def open(self) -> None:
        """Configure and start the first camera.

        Raises:
            CameraError: If there is none, or another program has it.
            ImportError: If picamera2 cannot be imported.
        """
        picamera2 = import_picamera2()
        try:
            numbers = pi_cameras(picamera2)
            if not numbers:
                raise CameraError("missing", "picamera2 finds no camera: check the ribbon cable, then reboot")
            self._camera = picamera2.Picamera2(numbers[0])
            # A preview has the full range 0..255, as rpicam-vid's raw frames have; a video of this size has 16..235.
            # Three buffers: one is filled, one waits, one is read.
            configuration = self._camera.create_preview_configuration(
                main={"size": self._size, "format": "YUV420"},
                controls={"FrameRate": self.frames_per_second},
                buffer_count=3,
            )
            self._camera.configure(configuration)
            self._camera.start()
        except CameraError:
            raise
        except PermissionError as error:
            self.close()
            raise CameraError(
                "denied", f"the Pi camera may not be used by this user ({error}). Allow it: sudo usermod -aG video $USER"
            ) from error
        except (RuntimeError, OSError, IndexError) as error:
            self.close()
            raise _error_from_output(str(error), "picamera2") from error

    def read(self) -> Image | None:
        """Wait for the next frame (3/2 height, width), I420; None when the camera is lost."""
        try:
            rows = self._camera.capture_array("main", wait=FRAME_S)
            return without_padding(np.asarray(rows, np.uint8), *self._size)
        except (RuntimeError, OSError, AttributeError, ValueError, concurrent.futures.TimeoutError):
            return None

    def close(self) -> None:
        """Stop the camera and let go of it."""
        camera, self._camera = self._camera, None
        if camera is not None:
            with suppress(RuntimeError, OSError):  # a camera that is gone cannot be stopped
                camera.stop()
            with suppress(RuntimeError, OSError):
                camera.close()


def without_padding(rows: Image, width: int, height: int) -> Image:
    """Cut the padding off I420 rows: (3/2 height, stride) becomes (3/2 height, width).

    A stride counts for two rows of a chroma plane, so that these are padded in their middle too.
    """
    if rows.shape == (height * 3 // 2, width):
        return rows
    chroma = rows[height : height * 3 // 2].reshape(height, -1)[:, : width // 2]
    return np.concatenate([rows[:height, :width], chroma.reshape(height // 2, width)])


class RpicamVid:
    """The Pi camera through rpicam-vid, which writes raw I420 frames into a pipe.

    Args:
        size: Width, a multiple of 64, and height, pixels.
        frames_per_second: Rate to ask for.
        program: The program; found where None.

    Raises:
        ValueError: If the width is no multiple of 64.
    """

    pixel_format = "i420-full"
    reconnects = True

    def __init__(self, size: tuple[int, int] = (640, 480), frames_per_second: float = 30.0, program: str | None = None) -> None:
        if size[0] % STRIDE:
            raise ValueError(f"rpicam-vid needs a width that is a multiple of {STRIDE}. Received: {size[0]}x{size[1]}")
        self.name = "rpicam-vid"
        self.frames_per_second: float | None = frames_per_second
        self._size = size
        self._bytes = frame_bytes(*size, self.pixel_format)
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self._said: deque[str] = deque(maxlen=20)  # it writes a line for each frame, for weeks
        self._listener: threading.Thread | None = None
        self._first: Image | None = None

    def open(self) -> None:
        """Start the program and wait for a first frame.

        Raises:
            CameraError: If the program is missing, or gives no frame.
        """
        program = self._program or find_rpicam()
        if program is None:
            raise CameraError("missing", "rpicam-vid is not installed. Install it: sudo apt install rpicam-apps")
        width, height = self._size
        command = [program, "--timeout", "0", "--nopreview", "--codec", "yuv420", "--width", str(width), "--height"]
        command += [str(height), "--framerate", f"{self.frames_per_second:g}", "--output", "-"]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._said.clear()
        self._listener = threading.Thread(target=self._listen, args=(self._process,), name="rpicam-vid", daemon=True)
        self._listener.start()
        self._first = self._next()
        if self._first is None:
            self.close()
            raise _error_from_output("\n".join(self._said).strip(), "rpicam-vid")

    def read(self) -> Image | None:
        """Wait for the next frame (3/2 height, width), I420; None when the program ends or a frame is cut short."""
        if self._first is not None:
            first, self._first = self._first, None
            return first
        return self._next()

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
        if self._listener is not None:
            self._listener.join()
            self._listener = None

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        if process.stderr:
            with process.stderr as lines:
                self._said.extend(line.decode(errors="replace").rstrip() for line in lines)

    def _next(self) -> Image | None:
        if self._process is None or self._process.stdout is None:
            return None
        data = self._process.stdout.read(self._bytes)
        return from_buffer(data, *self._size, self.pixel_format) if len(data) == self._bytes else None


def _error_from_output(said: str, program: str) -> CameraError:
    """Return the reason why a Pi camera gives no frames, from what the program that drives it says."""
    lower = said.lower()
    last = said.splitlines()[-1] if said else "it says nothing"
    if "no cameras available" in lower:
        return CameraError("missing", f"{program} finds no camera: check the ribbon cable, then reboot")
    if any(word in lower for word in ("in use by another process", "acquire", "busy", "did not complete")):
        return CameraError("busy", f"the Pi camera is in use by another program ({last}). Close that and try again")
    if "permission denied" in lower:
        return CameraError("denied", f"the Pi camera may not be used ({last}). Allow it: sudo usermod -aG video $USER")
    return CameraError("failed", f"{program} gives no frames ({last})")
