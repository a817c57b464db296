import json
import sys

import numpy as np

from fer_edge import doctor_checks
from fer_edge.edge_runtime.cameras import usb


def test_doctor_runs_an_interpreter_and_reports_it(invoke):
    result = invoke("doctor", "--json")
    checks = {check["part"]: check for check in json.loads(result.stdout)}
    assert result.exit_code == 0
    assert checks["interpreter"]["remedy"] is None
    assert checks["opencv"]["details"].endswith("with Haar cascades")


def test_doctor_fails_if_models_cannot_run(invoke, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    result = invoke("doctor")
    assert result.exit_code == 1
    assert "opencv: pip install" in result.stdout


def test_doctor_lists_cameras_and_how_to_get_permission(monkeypatch):
    devices = [
        usb.VideoDevice(usb.Path("/dev/video0"), "Good Cam", True),
        usb.VideoDevice(usb.Path("/dev/video1"), "Good Cam metadata", False),
        usb.VideoDevice(usb.Path("/dev/video2"), "Locked Cam", None),
    ]
    monkeypatch.setattr(usb, "video_devices", lambda: devices)
    good, locked = doctor_checks._cameras()
    assert (good.part, good.details, good.remedy) == ("/dev/video0", "Good Cam", None)
    assert "usermod -aG video" in locked.remedy


def test_doctor_warns_of_numpy_2_with_picamera2(monkeypatch):
    monkeypatch.setattr(doctor_checks, "find_spec", lambda name: object())
    monkeypatch.setattr(np, "__version__", "2.1.0")
    check = doctor_checks._picamera()
    assert check.details == "installed together with numpy 2.1.0"
    assert "constraints-raspberry.txt" in check.remedy
