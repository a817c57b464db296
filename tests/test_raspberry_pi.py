import sys

import numpy as np
import pytest
from live import InstantStop, picamera2_module, rpicam

from fer_edge.edge_runtime.cameras import raspberry_pi
from fer_edge.edge_runtime.cameras.camera import CameraError
from fer_edge.edge_runtime.cameras.raspberry_pi import PiCamera, RpicamVid, without_padding
from fer_edge.edge_runtime.cameras.source import open_source


def test_the_y_plane_of_the_pi_camera_has_no_padding(monkeypatch):
    module = picamera2_module()
    monkeypatch.setitem(sys.modules, "picamera2", module)
    with pytest.raises(ValueError, match=r"fps must be above 0\. Received: nan"):
        open_source("picamera2", (8, 4), float("nan"))
    source = open_source("picamera2", (8, 4))
    first = next(source.frames(InstantStop()))
    assert first.pixel_format == "i420-full"
    assert first.gray.shape == (4, 8)
    assert (first.gray == 77).all()
    camera = PiCamera((8, 4))
    camera.open()
    assert [camera.read() is None for _ in range(3)] == [False, False, True]  # a lost camera is None, not an error
    camera.close()


@pytest.mark.parametrize(
    ("module", "reason", "message"),
    [
        (picamera2_module(cameras=0), "missing", "check the ribbon cable"),
        (picamera2_module(cameras=None), "failed", "no media devices"),
        (picamera2_module(error=RuntimeError("Failed to acquire camera")), "busy", "in use by another program"),
        (picamera2_module(error=PermissionError("/dev/media0")), "denied", "usermod -aG video"),
    ],
)
def test_a_pi_camera_that_does_not_start_gives_the_reason(monkeypatch, module, reason, message):
    monkeypatch.setitem(sys.modules, "picamera2", module)
    with pytest.raises(CameraError, match=message) as caught:
        PiCamera().open()
    assert caught.value.reason == reason


def test_chroma_rows_have_no_padding_in_their_middle():
    stride, width, height = 8, 6, 4
    rows = np.zeros((6, stride), np.uint8)
    rows[:4, :6] = 1
    chroma = np.zeros((4, 4), np.uint8)  # two rows each of U and V, half a stride long
    chroma[:2, :3], chroma[2:, :3] = 2, 3
    rows[4:] = chroma.reshape(2, stride)
    result = without_padding(rows, width, height)
    assert (result[:4] == 1).all()
    assert result[4].tolist() == [2] * 6
    assert result[5].tolist() == [3] * 6


def test_an_incomplete_frame_of_rpicam_vid_is_a_lost_camera(tmp_path):
    camera = RpicamVid((64, 2), 30, rpicam(tmp_path, "head -c 480 /dev/zero"))  # two and a half frames
    camera.open()
    shapes = [camera.read().shape, camera.read().shape]
    assert shapes == [(3, 64), (3, 64)]
    assert camera.read() is None
    camera.close()
    with pytest.raises(ValueError, match=r"multiple of 64. Received: 100x100"):
        RpicamVid((100, 100))


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("ERROR: *** no cameras available ***", "missing"),
        ("ERROR: *** failed to acquire camera /base/soc/i2c ***", "busy"),
        ("Permission denied", "denied"),
        ("something else", "failed"),
    ],
)
def test_the_error_reason_comes_from_the_output_of_rpicam_vid(tmp_path, output, reason):
    with pytest.raises(CameraError) as caught:
        RpicamVid((64, 2), 30, rpicam(tmp_path, f"echo '{output}' >&2; exit 255")).open()
    assert caught.value.reason == reason


def test_the_output_of_rpicam_vid_does_not_fill_the_memory(tmp_path):
    camera = RpicamVid((64, 2), 30, rpicam(tmp_path, "yes 'frame 1 30 fps' | head -c 1000000 >&2; cat /dev/zero"))
    camera.open()
    camera.close()
    assert len(camera._stderr_tail) <= 20


def test_the_error_for_a_picamera2_built_for_another_numpy_names_the_constraints(monkeypatch):
    def broken(name):
        raise ValueError("numpy.dtype size changed, may indicate binary incompatibility")

    monkeypatch.setattr(raspberry_pi.importlib, "import_module", broken)
    with pytest.raises(ImportError, match=r"constraints-raspberry.txt"):
        raspberry_pi.import_picamera2()
