"""The checks of fer-edge doctor. They use the parts that a board needs: some can be imported and still do not work."""

import importlib.metadata
from collections.abc import Callable
from importlib.util import find_spec

from fer_edge.board_checks import Check, board_checks
from fer_edge.edge_runtime.board_facts import board_facts

REINSTALL = "install fer-edge again, from its clone or wheel: pip install --force-reinstall --no-deps PATH"


def run_checks() -> list[Check]:
    """Check this machine."""
    board, python, *others = board_checks(board_facts())
    return [
        board,
        python,
        _interpreter(),
        _try("opencv", _opencv, "pip install 'fer-edge[edge]'"),
        _try("model", _models, REINSTALL),
        _own_detector(),
        _haar(),
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
        *_rpicam(),
        *others,
    ]


def _try(part: str, check: Callable[[], str], remedy: str) -> Check:
    try:
        return Check(part, "run", check())
    except (ImportError, ValueError, RuntimeError, OSError, AttributeError) as error:
        return Check(part, "run", str(error).partition("\n")[0], remedy, "failed")


def _interpreter() -> Check:
    from fer_edge.edge_runtime.interpreter import PROBE_MODEL, find_interpreter, open_interpreter

    def run_probe() -> str:
        package, _ = find_interpreter()
        # With numpy 2, tflite-runtime can be imported but fails when it creates an Interpreter. So create one and run it.
        open_interpreter(PROBE_MODEL).invoke()
        return f"{package} {_version(package.replace('_', '-'))}"

    check = _try("interpreter", run_probe, "pip install 'fer-edge[edge]'")
    if check.details.startswith("tflite_runtime") and check.state == "ok":
        details = f"{check.details}: it changes the labels of 1 to 2 % of faces on some networks, compared with LiteRT"
        return Check("interpreter", "run", details, "pip install 'fer-edge[edge]', which installs LiteRT", "warning")
    return check


def _opencv() -> str:
    from fer_edge.edge_runtime.images import import_cv2

    return str(import_cv2().__version__)


def _haar() -> Check:
    from fer_edge.edge_runtime.detectors.detector import open_detector

    try:
        open_detector("haar")
    except ImportError as error:
        return Check("haar", "optional", str(error).partition("\n")[0], "", "missing")
    return Check("haar", "optional", "cascades of OpenCV")


def _models() -> str:
    """Check the bundled models, and return the digest of the default one, as in its model card."""
    from fer_edge.artifacts.file_digest import file_digest
    from fer_edge.artifacts.model_file import read_model_file
    from fer_edge.edge_runtime.find_model import bundled_models, default_model

    files = {path: read_model_file(path) for path in bundled_models().values()}
    default = files[default_model()]
    unknown = "" if default.contract.flatbuffer_sha256 else ", without a digest of its weights to compare with"
    digest = file_digest(default.path)
    return f"{default.path.name}, sha256 {digest[:16]}...{unknown}; {len(files)} bundled models can be read"


def _blazeface() -> Check:
    from fer_edge.edge_runtime.detectors.blazeface import INSTALL_COMMAND, blazeface_model

    model = blazeface_model()
    if model:
        return Check("blazeface", "optional", str(model))
    return Check("blazeface", "optional", "not installed", f"another face detector: {INSTALL_COMMAND}", "missing")


def _own_detector() -> Check:
    from fer_edge.edge_runtime.detectors.detector_network import BUNDLED_FILE, own_detector_model
    from fer_edge.edge_runtime.detectors.own import OwnDetector

    def open_detector() -> str:
        OwnDetector()
        return str(own_detector_model())

    model = own_detector_model()
    remedy = f"delete '{model}': it replaces the detector of fer-edge" if model not in (None, BUNDLED_FILE) else REINSTALL
    return _try("face detector", open_detector, remedy)


def _installed(module: str, needed_for: str, remedy: str, package: str | None = None) -> Check:
    name = package or module
    if find_spec(module) is None:
        return Check(name, needed_for, "not installed", remedy, "missing")
    return Check(name, needed_for, _version(name))


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "installed under another name"


def _rpicam() -> list[Check]:
    """Return one check for rpicam-vid if the Pi camera is read through it."""
    from fer_edge.edge_runtime.cameras.rpicam_vid import find_rpicam

    program = find_rpicam()
    return [Check("rpicam-vid", "optional", program)] if program and find_spec("picamera2") is None else []


def _yunet() -> Check:
    from fer_edge.edge_runtime.detectors.yunet import MODEL_VARIABLE, yunet_model

    model = yunet_model()
    return Check("yunet", "optional", str(model) if model else f"no model found; set {MODEL_VARIABLE} to its path")
