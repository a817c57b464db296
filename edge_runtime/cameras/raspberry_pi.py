"""The Raspberry Pi camera through picamera2. It delivers full-range I420."""

import importlib
import threading
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any

import numpy as np

from fer_edge.edge_runtime.cameras.camera import CameraError
from fer_edge.edge_runtime.cameras.devices import pi_camera_users
from fer_edge.edge_runtime.cameras.frame import frame_bytes
from fer_edge.edge_runtime.cameras.sensor_mode import SensorMode, choose_mode
from fer_edge.edge_runtime.images import Image
from fer_edge.edge_runtime.orientation import UPRIGHT, Orientation

FRAME_TIMEOUT_S = 5.0  # for one frame; by default picamera2 waits forever
FRAMES_PER_TIMEOUT = 4  # of a camera that is slower than one frame per second
CLOSE_TIMEOUT_S = 10.0
NUMPY_HINT = "It was built for the numpy of the system. If pip installed another one here, remove that: pip uninstall numpy"
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
        self._closing: threading.Thread | None = None

    def open(self) -> None:
        """Configure and start the first camera.

        Raises:
            CameraError: If it is missing, denied, busy or fails to start.
            ImportError: If picamera2 cannot be imported.
        """
        picamera2 = import_picamera2()
        if self._closing is not None and self._closing.is_alive():
            raise CameraError(
                "failed",
                "the camera stopped responding, and this version of picamera2 cannot release it. Restart fer-edge, and update "
                "picamera2 to 0.3.20 or later: sudo apt full-upgrade",
            )
        try:
            numbers = pi_cameras(picamera2)
            if not numbers:
                raise no_camera("picamera2")
            self._camera = picamera2.Picamera2(numbers[0])
            # A preview configuration has the full range 0..255, like the raw frames of rpicam-vid; a video one has 16..235.
            # Three buffers: one is being filled, one waits, one is being read.
            configuration = self._camera.create_preview_configuration(
                main={"size": self._size, "format": "YUV420"},
                controls={"FrameRate": self.frames_per_second},
                buffer_count=3,
                **self._sensor(),
                **self._transform(),
            )
            self._camera.configure(configuration)
            self._camera.start()
        except CameraError:
            raise
        except PermissionError as error:
            self.close()
            raise CameraError("denied", f"this user may not use the Raspberry Pi camera ({error}). {USERMOD_HINT}") from error
        except TypeError as error:  # an unknown argument
            self.close()
            raise CameraError("failed", f"this picamera2 is too old ({error}). Update it: sudo apt full-upgrade") from error
        except (RuntimeError, OSError, IndexError) as error:
            self.close()
            raise error_from_output(str(error), "picamera2") from error

    def _sensor(self) -> dict[str, Any]:
        """Return the settings for a sensor mode with the full field of view."""
        modes = [
            SensorMode(mode["size"], mode["bit_depth"], mode["crop_limits"][2:], mode["fps"])
            for mode in self._camera.sensor_modes
            if "crop_limits" in mode
        ]
        mode = choose_mode(modes, self._size, self.frames_per_second or 0)
        return {"sensor": {"output_size": mode.size, "bit_depth": mode.bit_depth}} if mode else {}

    def _transform(self) -> dict[str, Any]:
        if not any(self._mirrors.values()):
            return {}
        return {"transform": importlib.import_module("libcamera").Transform(**self._mirrors)}  # part of picamera2

    def read(self) -> Image | None:
        """Wait for the next frame (3/2 height, width), I420; None if the camera is lost."""
        captured = threading.Event()
        try:
            # Not wait=SECONDS: before 0.3.20, any number waits forever.
            job = self._camera.capture_array("main", wait=False, signal_function=lambda job: captured.set())
            if not captured.wait(read_timeout_s(self.frames_per_second)):
                return None
            return without_padding(np.asarray(self._camera.wait(job), np.uint8), *self._size)
        except (RuntimeError, OSError, AttributeError, ValueError, CancelledError):
            return None

    def close(self) -> None:
        """Stop and release the camera. A camera that does not respond may stay open, see open()."""
        camera, self._camera = self._camera, None
        if camera is None:
            return

        def release() -> None:
            # Before 0.3.20 it is missing, and stop() waits forever for the capture of a silent camera.
            with suppress(AttributeError):
                camera.cancel_all_and_flush()
            with suppress(RuntimeError, OSError):  # a disconnected camera cannot be stopped
                camera.stop()
            with suppress(RuntimeError, OSError):
                camera.close()

        self._closing = threading.Thread(target=release, name="picamera2 close", daemon=True)
        self._closing.start()
        self._closing.join(CLOSE_TIMEOUT_S)


def read_timeout_s(frames_per_second: float | None) -> float:
    """Return how long to wait for a frame, seconds, before the camera counts as lost.

    Args:
        frames_per_second: Its frame rate; None if unknown.
    """
    return max(FRAME_TIMEOUT_S, FRAMES_PER_TIMEOUT / (frames_per_second or FRAMES_PER_TIMEOUT))


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


def error_from_output(output: str, program: str) -> CameraError:
    """Return the error that the output of a camera program describes.

    Args:
        output: The output, or the message of an exception.
        program: Name of the program.
    """
    text = output.lower()
    last_line = output.splitlines()[-1] if output else "no error message"
    if "no cameras available" in text or "no camera number" in text:
        return no_camera(program)
    if any(phrase in text for phrase in ("in use by another process", "acquire", "busy", "did not complete")):
        users = pi_camera_users()
        by = f"process {' and '.join(users)}" if users else "another program"
        return CameraError("busy", f"the Raspberry Pi camera is in use by {by} ({last_line}). Close that program")
    if "permission denied" in text:
        return CameraError("denied", f"this user may not use the Raspberry Pi camera ({last_line}). {USERMOD_HINT}")
    return CameraError("failed", f"{program} delivers no frames ({last_line})")


def no_camera(program: str) -> CameraError:
    """Return the error of a program that finds no camera."""
    return CameraError("missing", f"{program} finds no camera: check the ribbon cable, then reboot")
