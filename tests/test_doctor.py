import hashlib
import json
import sys
from pathlib import Path

import cv2

from fer_edge import doctor_checks
from fer_edge.edge_runtime import interpreter
from fer_edge.edge_runtime.detectors import detector_network, own
from fer_edge.edge_runtime.detectors.detector_network import BUNDLED_FILE
from fer_edge.edge_runtime.find_model import default_model


def test_doctor_runs_an_interpreter_and_reports_it(invoke):
    result = invoke("doctor", "--json")
    checks = {check["part"]: check for check in json.loads(result.stdout)}
    assert result.exit_code == 0
    assert checks["interpreter"]["state"] == "ok"
    assert checks["opencv"]["details"] == cv2.__version__
    assert checks["haar"]["details"] == "cascades of OpenCV"
    assert checks["face detector"]["details"].endswith("face_detector_nano.tflite")
    digest = hashlib.sha256(default_model().read_bytes()).hexdigest()
    assert checks["model"]["details"].startswith(f"{default_model().name}, sha256 {digest[:16]}...")
    assert "64-bit" in checks["python"]["details"]


def test_doctor_fails_if_models_cannot_run(invoke, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    result = invoke("doctor")
    assert result.exit_code == 1
    assert "opencv: pip install" in result.stdout
    assert "FAILED" in result.stdout


def test_doctor_finds_a_damaged_face_detector(monkeypatch, tmp_path):
    damaged = tmp_path / "fer-edge" / BUNDLED_FILE.name
    damaged.parent.mkdir()
    damaged.write_bytes(BUNDLED_FILE.read_bytes()[:-100])
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    check = doctor_checks._own_detector()
    assert (check.state, check.remedy) == ("failed", f"delete '{damaged}': it replaces the detector of fer-edge")
    assert damaged.name in check.details
    monkeypatch.setattr(detector_network, "own_detector_model", lambda: None)
    monkeypatch.setattr(own, "own_detector_model", lambda: None)
    check = doctor_checks._own_detector()
    assert (check.state, check.remedy) == ("failed", doctor_checks.REINSTALL)


def test_doctor_finds_a_damaged_model(monkeypatch, tmp_path):
    damaged = tmp_path / default_model().name
    damaged.write_bytes(default_model().read_bytes()[:-100])
    monkeypatch.setattr("fer_edge.edge_runtime.find_model.BUNDLED_FOLDER", tmp_path)
    check = doctor_checks._try("model", doctor_checks._models, "again")
    assert (check.state, check.remedy) == ("failed", "again")
    assert damaged.name in check.details


def test_doctor_warns_of_the_other_labels_of_tflite_runtime(monkeypatch):
    class Interpreter:
        def invoke(self):
            pass

    monkeypatch.setattr(interpreter, "find_interpreter", lambda: ("tflite_runtime", Interpreter))
    monkeypatch.setattr(interpreter, "open_interpreter", lambda model: Interpreter())
    check = doctor_checks._interpreter()
    assert check.state == "warning"
    assert "changes the labels of 1 to 2 % of faces" in check.details


def test_a_32_bit_system_is_rejected_with_the_name_of_the_image_for_64_bits(invoke, monkeypatch):
    monkeypatch.setattr(interpreter, "PACKAGES", ())
    monkeypatch.setattr(interpreter, "IS_64_BIT", False)
    result = invoke("run", Path(__file__).parent.parent / "docs" / "images" / "face.png")
    assert result.exit_code == 1
    assert "this Python is 32-bit, and there is no LiteRT" in result.stderr
    assert "Raspberry Pi OS (64-bit)" in result.stderr


def test_doctor_installs_nothing_over_ssh(invoke):
    result = invoke("doctor", "--host", "board", "--install", "blazeface")
    assert result.exit_code == 2
    assert "'fer-edge deploy board --detector blazeface' copies the file" in result.stderr
