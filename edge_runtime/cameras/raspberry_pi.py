"""The Raspberry Pi camera, through picamera2 or through a pipe from rpicam-vid. Both deliver full-range I420."""

import concurrent.futures
import importlib
import shutil
import subprocess
import threading
from collections import deque
from contextlib import suppress
from typing import Any

import numpy as np

from fer_edge.edge_runtime.cameras.camera import CameraError, FirstFrameMixin
from fer_edge.edge_runtime.cameras.frame import frame_bytes, from_buffer
from fer_edge.edge_runtime.images import Image
from fer_edge.edge_runtime.orientation import UPRIGHT, Orientation

PROGRAMS = ("rpicam-vid", "libcamera-vid")  # libcamera-vid: its name before Raspberry Pi OS Bookworm
LIST_TIMEOUT_S = 10.0  # for rpicam-vid to list the cameras
FRAME_TIMEOUT_S = 5.0  # for one frame; by default picamera2 waits forever
STRIDE_PX = 64  # rpicam-vid pads rows to a multiple of it, without notice
NUMPY_HINT = (
    "picamera2 does not work with numpy 2: pip install 'numpy<2', or use constraints-raspberry.txt of the fer-edge repository"
)
USERMOD_HINT = "Allow it: sudo usermod -aG video $USER"


def import_picamera2() -> Any:
    """Import picamera2.

    Raises:
        ImportError: If it is missing, or was built for another version of numpy.
    """
    try:
        return importlib.import_module("picamera2")
    except ImportError as error:
        raise ImportError(
            f"picamera2 cannot be imported ({error}). Install it: sudo apt install python3-picamera2, and create the "
            "virtual environment with python3 -m venv --system-site-packages"
        ) from error
    except ValueError as error:  # "numpy.dtype size changed": a module built for numpy 1 runs with numpy 2
        raise ImportError(f"picamera2 cannot be imported ({error}). {NUMPY_HINT}") from error


def pi_cameras(picamera2: Any) -> list[int]:
    """Return the numbers of the cameras on ribbon cables. picamera2 also lists USB cameras, but cannot set their rate.

    Args:
        picamera2: The imported module.
    """
    infos = picamera2.Picamera2.global_camera_info()
    return [number for number, info in enumerate(infos) if "/usb" not in str(info.get("Id", ""))]


def find_rpicam() -> str | None:
    """Return the path of rpicam-vid; None if it is not installed."""
    return next((path for path in map(shutil.which, PROGRAMS) if path), None)


def rpicam_lists_a_camera(program: str) -> bool:
    """Return whether rpicam-vid lists a camera.

    Raises:
        CameraError: If it does not answer in time.
    """
    command = [program, "--list-cameras"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=LIST_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise CameraError("failed", f"rpicam-vid lists no cameras within {LIST_TIMEOUT_S:g} s") from error
    return "0 :" in result.stdout + result.stderr


class PiCamera:
    """The Raspberry Pi camera through picamera2.

    Args:
        size: Width and height, pixels, both even.
        frames_per_second: Frame rate to request.
        orientation: How the camera turns its frames; it can rotate by 180 degrees and flip.

    Raises:
        ValueError: If a side is odd, or the camera cannot turn its frames so.
    """

    name = "picamera2"
    pixel_format = "i420-full"  # faces are cropped from the Y plane without any conversion
    reconnects = True

    def __init__(
        self,
        size: tuple[int, int] = (640, 480),
        frames_per_second: float = 30.0,
        orientation: Orientation = UPRIGHT,
    ) -> None:
        frame_bytes(*size, self.pixel_format)
        self._mirrors = mirrors(orientation)
        self.frames_per_second: float | None = frames_per_second
        self._size = size
        self._camera: Any = None

    def open(self) -> None:
        """Configure and start the first camera.

        Raises:
            CameraError: If it is missing, denied, busy or fails to start.
            ImportError: If picamera2 cannot be imported.
        """
        picamera2 = import_picamera2()
        try:
            numbers = pi_cameras(picamera2)
            if not numbers:
                raise _no_camera("picamera2")
            self._camera = picamera2.Picamera2(numbers[0])
            # A preview configuration has the full range 0..255, like the raw frames of rpicam-vid; a video one has 16..235.
            # Three buffers: one is being filled, one waits, one is being read.
            configuration = self._camera.create_preview_configuration(
                main={"size": self._size, "format": "YUV420"},
                controls={"FrameRate": self.frames_per_second},
                buffer_count=3,
                **self._transform(),
            )
            self._camera.configure(configuration)
            self._camera.start()
        except CameraError:
            raise
        except PermissionError as error:
            self.close()
            raise CameraError("denied", f"this user may not use the Raspberry Pi camera ({error}). {USERMOD_HINT}") from error
        except (RuntimeError, OSError, IndexError) as error:
            self.close()
            raise _error_from_output(str(error), "picamera2") from error

    def _transform(self) -> dict[str, Any]:
        if not any(self._mirrors.values()):
            return {}
        return {"transform": importlib.import_module("libcamera").Transform(**self._mirrors)}  # part of picamera2

    def read(self) -> Image | None:
        """Wait for the next frame (3/2 height, width), I420; None if the camera is lost."""
        try:
            rows = self._camera.capture_array("main", wait=FRAME_TIMEOUT_S)
            return without_padding(np.asarray(rows, np.uint8), *self._size)
        except (RuntimeError, OSError, AttributeError, ValueError, concurrent.futures.TimeoutError):
            return None

    def close(self) -> None:
        """Stop and release the camera."""
        camera, self._camera = self._camera, None
        if camera is not None:
            with suppress(RuntimeError, OSError):  # a disconnected camera cannot be stopped
                camera.stop()
            with suppress(RuntimeError, OSError):
                camera.close()


def mirrors(orientation: Orientation) -> dict[str, bool]:
    """Return an orientation as the mirrors that a Raspberry Pi camera applies without cost: hflip and vflip.

    Args:
        orientation: A rotation by 0 or 180 degrees, with or without a flip.

    Raises:
        ValueError: If it rotates by 90 or 270 degrees.
    """
    if not turns_by_mirrors(orientation):
        raise ValueError(f"a Raspberry Pi camera cannot rotate by {orientation.rotate} degrees itself")
    upside_down = orientation.rotate == 180
    return {"hflip": upside_down != orientation.flip, "vflip": upside_down}


def turns_by_mirrors(orientation: Orientation) -> bool:
    """Return whether a Raspberry Pi camera can apply an orientation itself."""
    return orientation.rotate in (0, 180)


def without_padding(rows: Image, width: int, height: int) -> Image:
    """Remove the row padding of an I420 frame.

    A row of the array contains two rows of a chroma plane, so the padding of a chroma row is also in the middle of the array.

    Args:
        rows: uint8 array (3/2 height, stride).
        width: Width of the frame, pixels.
        height: Height of the frame, pixels.

    Returns:
        uint8 array (3/2 height, width).
    """
    if rows.shape == (height * 3 // 2, width):
        return rows
    chroma = rows[height : height * 3 // 2].reshape(height, -1)[:, : width // 2]
    return np.concatenate([rows[:height, :width], chroma.reshape(height // 2, width)])


class RpicamVid(FirstFrameMixin):
    """The Raspberry Pi camera through rpicam-vid, which writes raw I420 frames to a pipe.

    Args:
        size: Width, a multiple of 64, and height, even, pixels.
        frames_per_second: Frame rate to request.
        program: Path of rpicam-vid; None searches PATH.
        orientation: As for PiCamera.

    Raises:
        ValueError: If the width is not a multiple of 64, the height is odd, or the camera cannot turn its frames so.
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
        if size[0] % STRIDE_PX:
            raise ValueError(f"rpicam-vid needs a width that is a multiple of {STRIDE_PX}. Received: {size[0]}x{size[1]}")
        self.name = "rpicam-vid"
        self.frames_per_second: float | None = frames_per_second
        self._size = size
        self._bytes = frame_bytes(*size, self.pixel_format)
        self._program = program
        self._mirrors = [f"--{name}" for name, wanted in mirrors(orientation).items() if wanted]
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr_tail: deque[str] = deque(maxlen=20)  # rpicam-vid writes one line per frame
        self._stderr_thread: threading.Thread | None = None

    def open(self) -> None:
        """Start the program and wait for a first frame.

        Raises:
            CameraError: If the program is missing, or delivers no frame.
        """
        program = self._program or find_rpicam()
        if program is None:
            raise CameraError("missing", "rpicam-vid is not installed. Install it: sudo apt install rpicam-apps")
        width, height = self._size
        command = [program, "--timeout", "0", "--nopreview", "--codec", "yuv420", "--width", str(width), "--height"]
        command += [str(height), "--framerate", f"{self.frames_per_second:g}", "--output", "-", *self._mirrors]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._stderr_tail.clear()
        self._stderr_thread = threading.Thread(target=self._drain_stderr, args=(self._process,), name="rpicam-vid", daemon=True)
        self._stderr_thread.start()
        self._first_frame = self._read_frame()
        if self._first_frame is None:
            self.close()
            raise _error_from_output("\n".join(self._stderr_tail).strip(), "rpicam-vid")

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
        if process.stderr:
            with process.stderr as lines:
                self._stderr_tail.extend(line.decode(errors="replace").rstrip() for line in lines)

    def _read_frame(self) -> Image | None:
        """Return the next frame; None if the program has ended, also in the middle of a frame."""
        if self._process is None or self._process.stdout is None:
            return None
        data = self._process.stdout.read(self._bytes)
        return from_buffer(data, *self._size, self.pixel_format) if len(data) == self._bytes else None


def _error_from_output(output: str, program: str) -> CameraError:
    """Return the error that the output of a camera program describes."""
    text = output.lower()
    last_line = output.splitlines()[-1] if output else "no error message"
    if "no cameras available" in text:
        return _no_camera(program)
    if any(phrase in text for phrase in ("in use by another process", "acquire", "busy", "did not complete")):
        return CameraError("busy", f"the Raspberry Pi camera is in use by another program ({last_line}). Close that program")
    if "permission denied" in text:
        return CameraError("denied", f"this user may not use the Raspberry Pi camera ({last_line}). {USERMOD_HINT}")
    return CameraError("failed", f"{program} delivers no frames ({last_line})")


def _no_camera(program: str) -> CameraError:
    return CameraError("missing", f"{program} finds no camera: check the ribbon cable, then reboot")
