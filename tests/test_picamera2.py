"""The Raspberry Pi camera with the real picamera2 from PyPI, on a stand-in for libcamera: tests/fake_libcamera."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytest.importorskip("PIL")  # picamera2 imports it

FAKE_LIBCAMERA = Path(__file__).parent / "fake_libcamera"
OLD, NEW = "0.3.18", "0.3.38"  # before and after cancel_all_and_flush() of 0.3.20


@pytest.fixture
def run_scenario(request):
    """Returns a function that runs the scenario with a version of picamera2, which it installs into pytest's cache."""

    def run(version, size, **environment):
        folder = installed(version, Path(request.config.cache.mkdir("picamera2")))
        path = os.pathsep.join([str(FAKE_LIBCAMERA), str(folder), *sys.path])
        command = [sys.executable, FAKE_LIBCAMERA / "scenario.py", size]
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=120, env=os.environ | environment | {"PYTHONPATH": path}
        )
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout.splitlines()[-1])

    return run


def installed(version, cache):
    folder = cache / version
    if not folder.is_dir():
        temporary = tempfile.mkdtemp(dir=cache)
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--retries", "0", "--timeout", "20", "--no-deps"]
        result = subprocess.run([*command, "--target", temporary, f"picamera2=={version}"], capture_output=True, text=True)
        if result.returncode:
            pytest.skip(f"picamera2 {version} cannot be installed: {result.stderr.strip().splitlines()[-1]}")
        with contextlib.suppress(OSError):  # another test process was faster
            Path(temporary).rename(folder)
    return folder


def test_a_silent_camera_is_closed_and_opened_again(run_scenario):
    result = run_scenario(NEW, "320x240", FAKE_ALIGN="128", FAKE_FRAMES="5")
    lost, back = result["messages"]
    assert lost.startswith("picamera2 is lost (it delivers no more frames)")
    assert back == "picamera2 is back"
    # 1640x1232 shows the whole sensor. Without a request, picamera2 chooses 640x480, with 39 % of its width.
    assert result["started_with"] == {
        "mode": [1640, 1232],
        "bit_depth": 10,
        "orientation": "Rotate180",
        "frame_duration_us": [33333, 33333],
    }
    assert (result["shape"], result["luma"], result["chroma"]) == ([360, 320], True, [[100], [200]])


def test_a_silent_camera_that_an_old_picamera2_cannot_release_is_an_error_not_a_hang(run_scenario):
    result = run_scenario(OLD, "324x240", FAKE_FRAMES="5", CLOSE_TIMEOUT_S="1")
    assert "picamera2 to 0.3.20 or later: sudo apt full-upgrade" in result["messages"][-1]
    assert result["started_with"]["mode"] == [1640, 1232]
    assert (result["shape"], result["luma"], result["chroma"]) == ([360, 324], True, [[100], [200]])
