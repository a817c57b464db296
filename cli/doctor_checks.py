"""The checks of fer-edge doctor. They use the parts that a board needs: some can be imported and still do not work."""

import importlib.metadata
import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

PYTHONS = ((3, 10), (3, 13))


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        part: Name of the checked part.
        needed_for: Commands that need the part, such as ``train, bench``; ``optional`` if none does.
        details: The version or location found, or the reason of a failure.
        remedy: How to fix a failure; None if the check passed.
    """

    part: str
    needed_for: str
    details: str
    remedy: str | None = None

    def cells(self) -> tuple[str, str, str, str]:
        """Return the table row: part, commands, state, details."""
        state = "ok" if self.remedy is None else "missing" if self.needed_for != "run" else "MISSING"
        return self.part, self.needed_for, state, self.details


def run_checks() -> list[Check]:
    """Check this machine."""
    return [
        _python(),
        _try("interpreter", "run", _interpreter, "pip install 'fer-edge[edge]'"),
        _try("opencv", "run", _opencv, "pip install 'fer-edge[edge]'"),
        _blazeface(),
        _yunet(),
        _installed("keras", "train", "pip install 'fer-edge[train]'"),
        _installed("tensorflow", "train, convert", "pip install 'fer-edge[train,convert]'"),
        _installed("sklearn", "train, bench", "pip install 'fer-edge[train]'", "scikit-learn"),
        _installed("ai_edge_quantizer", "convert", "pip install 'fer-edge[convert]'", "ai-edge-quantizer"),
        _installed("flatbuffers", "convert", "pip install 'fer-edge[convert]'"),
        _installed("tf_keras", "convert", "pip install 'fer-edge[convert]'", "tf-keras"),
        _installed(
            "tensorflow_model_optimization", "convert", "pip install 'fer-edge[convert]'", "tensorflow-model-optimization"
        ),
        _installed("matplotlib", "bench", "pip install 'fer-edge[bench]'"),
        _installed("bokeh", "bench --html", "pip install 'fer-edge[bench]'"),
        _installed("aiohttp", "run --serve", "pip install 'fer-edge[serve]'"),
        _installed("paho", "run --mqtt", "pip install 'fer-edge[mqtt]'", "paho-mqtt"),
        _picamera(),
        *_cameras(),
    ]


def _python() -> Check:
    low, high = PYTHONS
    ok = low <= tuple(map(int, platform.python_version_tuple()[:2])) <= high
    remedy = None if ok else f"use Python {low[0]}.{low[1]} to {high[0]}.{high[1]}"
    return Check("python", "run", f"{platform.python_version()} on {platform.machine()}", remedy)


def _try(part: str, needed_for: str, check: Callable[[], str], remedy: str) -> Check:
    try:
        return Check(part, needed_for, check())
    except (ImportError, ValueError, RuntimeError, OSError, AttributeError) as error:
        return Check(part, needed_for, str(error).partition("\n")[0], remedy)


def _interpreter() -> str:
    from fer_edge.edge_runtime.interpreter import PROBE_MODEL, find_interpreter, open_interpreter

    package, _ = find_interpreter()
    # With numpy 2, tflite-runtime can be imported but fails when it creates an Interpreter. So create one and run it.
    open_interpreter(PROBE_MODEL).invoke()
    return f"{package} {_version(package.replace('_', '-'))}"


def _opencv() -> str:
    from fer_edge.edge_runtime.detectors.detector import open_detector
    from fer_edge.edge_runtime.images import import_cv2

    open_detector("haar")
    return f"{import_cv2().__version__} with Haar cascades"


def _blazeface() -> Check:
    from fer_edge.edge_runtime.detectors.blazeface import INSTALL_COMMAND, blazeface_model

    model = blazeface_model()
    if model:
        return Check("blazeface", "optional", str(model))
    remedy = f"a more accurate face detector: {INSTALL_COMMAND}"
    return Check("blazeface", "optional", "not installed: run uses Haar", remedy)


def _installed(module: str, needed_for: str, remedy: str, package: str | None = None) -> Check:
    name = package or module
    if find_spec(module) is None:
        return Check(name, needed_for, "not installed", remedy)
    return Check(name, needed_for, _version(name))


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "installed under another name"


def _picamera() -> Check:
    if find_spec("picamera2") is None:
        return Check("picamera2", "optional", "not installed: needed for the Raspberry Pi camera only")
    import numpy as np

    from fer_edge.edge_runtime.cameras.raspberry_pi import NUMPY_HINT, import_picamera2, pi_cameras

    if int(np.__version__.split(".")[0]) >= 2:
        return Check("picamera2", "optional", f"installed together with numpy {np.__version__}", NUMPY_HINT)
    try:
        count = len(pi_cameras(import_picamera2()))
    except (ImportError, RuntimeError, OSError) as error:
        return Check("picamera2", "optional", str(error).partition("\n")[0], NUMPY_HINT)
    cameras = f"{count} Pi camera{'' if count == 1 else 's'}" if count else "installed, no camera"
    return Check("picamera2", "optional", cameras)


def _cameras() -> list[Check]:
    """Return one check per USB camera, and one for rpicam-vid if the Pi camera is read through it."""
    from fer_edge.edge_runtime.cameras.raspberry_pi import find_rpicam
    from fer_edge.edge_runtime.cameras.usb import video_devices

    checks = []
    for device in video_devices():
        if device.is_capture_device is None:
            remedy = "sudo usermod -aG video $USER, then log in again"
            checks.append(Check(str(device.path), "optional", f"{device.title}, this user has no permission", remedy))
        elif device.is_capture_device:
            checks.append(Check(str(device.path), "optional", device.title))
    if not checks:
        checks.append(Check("usb camera", "optional", "none at /dev/video*"))
    program = find_rpicam()
    if program and find_spec("picamera2") is None:
        checks.append(Check("rpicam-vid", "optional", program))
    return checks


def _yunet() -> Check:
    from fer_edge.edge_runtime.detectors.yunet import MODEL_VARIABLE, yunet_model

    model = yunet_model()
    return Check("yunet", "optional", str(model) if model else f"no model found; set {MODEL_VARIABLE} to its path")
