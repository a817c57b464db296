import sys

import numpy as np
import pytest
from live import InstantStop, picamera2_module, rpicam

from fer_edge.edge_runtime.cameras import raspberry_pi
from fer_edge.edge_runtime.cameras.camera import CameraError
from fer_edge.edge_runtime.cameras.raspberry_pi import PiCamera, read_timeout_s, without_padding
from fer_edge.edge_runtime.cameras.rpicam_vid import RpicamVid
from fer_edge.edge_runtime.cameras.sensor_mode import SensorMode, choose_mode, read_listing
from fer_edge.edge_runtime.cameras.source import open_source


def test_the_y_plane_of_the_pi_camera_has_no_padding(monkeypatch):
    module = picamera2_module()
    monkeypatch.setitem(sys.modules, "picamera2", module)
    monkeypatch.setattr(raspberry_pi, "FRAME_TIMEOUT_S", 0.1)
    with pytest.raises(ValueError, match=r"fps must be above 0\. Received: nan"):
        open_source("picamera2", (8, 4), float("nan"))
    source = open_source("picamera2", (8, 4))
    first = next(source.frames(InstantStop()))
    assert first.pixel_format == "i420-full"
    assert first.gray.shape == (4, 8)
    assert (first.gray == 77).all()
    camera = PiCamera((8, 4))
    camera.open()
    assert camera._camera.settings["sensor"] == {"output_size": (1640, 1232), "bit_depth": 10}
    assert [camera.read() is None for _ in range(3)] == [False, False, True]  # a lost camera is None, not an error
    camera.close()


@pytest.mark.parametrize(
    ("module", "reason", "message"),
    [
        (picamera2_module(cameras=0), "missing", "check the ribbon cable"),
        (picamera2_module(cameras=None), "failed", "no media devices"),
        (picamera2_module(error=RuntimeError("Failed to acquire camera")), "busy", "in use by another program"),
        (picamera2_module(error=PermissionError("/dev/media0")), "denied", "usermod -aG video"),
        (picamera2_module(error=TypeError("unexpected keyword argument 'sensor'")), "failed", "too old .*full-upgrade"),
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


# Output of `rpicam-hello --list-cameras`, from the documentation of the camera software, with a Camera Module 3 as the second.
LISTING = """Available cameras
-----------------
0 : imx219 [3280x2464 10-bit RGGB] (/base/soc/i2c0mux/i2c@1/imx219@10)
    Modes: 'SRGGB10_CSI2P' : 640x480 [206.65 fps - (1000, 752)/1280x960 crop]
                             1640x1232 [41.85 fps - (0, 0)/3280x2464 crop]
                             1920x1080 [47.57 fps - (680, 692)/1920x1080 crop]
                             3280x2464 [21.19 fps - (0, 0)/3280x2464 crop]
           'SRGGB8' : 640x480 [206.65 fps - (1000, 752)/1280x960 crop]
                      1640x1232 [83.70 fps - (0, 0)/3280x2464 crop]

1 : imx708 [4608x2592 10-bit RGGB] (/base/soc/i2c0mux/i2c@0/imx708@1a)
    Modes: 'SRGGB10_CSI2P' : 1536x864 [120.13 fps - (768, 432)/3072x1728 crop]
                             2304x1296 [56.03 fps - (0, 0)/4608x2592 crop]
"""
V2 = read_listing(LISTING)


def test_the_modes_of_the_first_listed_camera_are_read():
    assert len(V2) == 6
    assert V2[1] == SensorMode((1640, 1232), 10, (3280, 2464), 41.85)
    assert V2[4] == SensorMode((640, 480), 8, (1280, 960), 206.65)
    assert read_listing("0 : imx477 [4056x3040]\n    Modes: 'SRGGB10_CSI2P' : 1332x990 (120.00 fps)") == []


@pytest.mark.parametrize(
    ("frame_size", "fps", "mode"),
    [
        ((640, 480), 30, (1640, 1232, 10)),
        ((1920, 1080), 15, (3280, 2464, 10)),
        ((640, 480), 120, (640, 480, 10)),  # no wider one is fast enough
        ((640, 480), 1000, (1640, 1232, 10)),  # none is fast enough
    ],
)
def test_the_sensor_mode_has_the_widest_view_at_the_rate(frame_size, fps, mode):
    chosen = choose_mode(V2, frame_size, fps)
    assert (*chosen.size, chosen.bit_depth) == mode


def test_a_mode_that_shows_nearly_the_whole_sensor_is_wide_and_a_slow_one_with_high_dynamic_range_is_not_preferred():
    ov5647 = [SensorMode((640, 480), 10, (2560, 1920), 58.92), SensorMode((1296, 972), 10, (2592, 1944), 43.25)]
    assert choose_mode(ov5647, (640, 480), 30).size == (640, 480)
    imx585 = [SensorMode((1928, 1090), depth, (3840, 2160), fps) for depth, fps in ((12, 87.6), (16, 30.0))]
    assert choose_mode(imx585, (640, 480), 30).bit_depth == 12
    assert choose_mode([], (640, 480), 30) is None


def test_rpicam_vid_flushes_each_frame_and_uses_the_wide_mode(tmp_path):
    program = rpicam(tmp_path, f'echo "$@" > {tmp_path}/arguments; cat /dev/zero', 192, LISTING)
    camera = RpicamVid((64, 2), 30, program)
    camera.open()
    camera.close()
    arguments = (tmp_path / "arguments").read_text()
    assert "--flush" in arguments
    assert "--mode 1640:1232:10" in arguments


@pytest.mark.parametrize("stride", [64, 128])  # of a Raspberry Pi 4 and 5
def test_the_padding_of_rpicam_vid_is_what_the_program_reports(tmp_path, stride):
    y = np.zeros((4, stride), np.uint8)
    y[:, :40] = np.arange(40)
    chroma = np.full((4, stride // 2), 255, np.uint8)
    chroma[:2, :20], chroma[2:, :20] = 100, 200
    content = tmp_path / "frame"
    content.write_bytes(y.tobytes() + chroma.tobytes())
    camera = RpicamVid((40, 4), 30, rpicam(tmp_path, f"cat {content} {content}", stride * 6))
    camera.open()
    for frame in (camera.read(), camera.read()):
        assert frame.shape == (6, 40)
        assert (frame[:4] == np.arange(40)).all()
        assert frame[4:].reshape(2, -1)[:, 0].tolist() == [100, 200]
    assert camera.read() is None
    camera.close()


def test_the_size_that_libcamera_chose_is_used(tmp_path):
    line = (
        "[1:2.3] [45]  INFO Camera camera.cpp:1202 configuring streams: (0) 32x2-YUV420/sYCC (1) 1640x1232-BGGR_PISP_COMP1/RAW"
    )
    camera = RpicamVid((30, 2), 30, rpicam(tmp_path, f"echo '{line}' >&2; {SIZE_LINE} cat /dev/zero"))
    camera.open()
    assert camera.read().shape == (3, 32)
    camera.close()


SIZE_LINE = "echo 'FileOutput: output buffer 0x7f9c8000 size 96' >&2;"


def test_a_lost_camera_of_rpicam_vid_is_an_incomplete_frame_or_silence(tmp_path, monkeypatch):
    camera = RpicamVid((64, 2), 30, rpicam(tmp_path, "head -c 480 /dev/zero", 192))  # two and a half frames
    camera.open()
    assert [camera.read().shape, camera.read().shape] == [(3, 64), (3, 64)]
    assert camera.read() is None
    camera.close()
    monkeypatch.setattr(raspberry_pi, "FRAME_TIMEOUT_S", 0.2)
    camera = RpicamVid((64, 2), 30, rpicam(tmp_path, "head -c 200 /dev/zero; exec sleep 60", 192))
    camera.open()
    assert camera.read().shape == (3, 64)
    assert camera.read() is None
    camera.close()


def test_frames_that_do_not_fit_the_size_are_an_error(tmp_path):
    with pytest.raises(CameraError, match=r"rpicam-vid delivers no frames \(frames of 64x2 with 100 bytes\)"):
        RpicamVid((64, 2), 30, rpicam(tmp_path, "cat /dev/zero", 100)).open()
    with pytest.raises(ValueError, match=r"Received: 63x2"):
        RpicamVid((63, 2))


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


def test_the_output_of_rpicam_vid_does_not_fill_the_memory_or_hide_errors(tmp_path):
    body = "yes 'a log line' | head -c 1100000 >&2; yes '#1 (30.00 fps)' | head -c 1000000 >&2; cat /dev/zero"
    camera = RpicamVid((64, 2), 30, rpicam(tmp_path, body, 192))
    camera.open()
    camera.close()
    assert list(camera._stderr_tail) == ["a log line"] * 20


def test_the_error_for_a_picamera2_built_for_another_numpy_has_the_remedy(monkeypatch):
    def broken(name):
        raise ValueError("numpy.dtype size changed, may indicate binary incompatibility")

    monkeypatch.setattr(raspberry_pi.importlib, "import_module", broken)
    with pytest.raises(ImportError, match="pip uninstall numpy"):
        raspberry_pi.import_picamera2()


def test_a_slow_camera_has_more_time_for_a_frame():
    assert [read_timeout_s(rate) for rate in (30.0, None, 0.5)] == [5.0, 5.0, 8.0]


def test_the_error_for_a_busy_camera_names_the_process(monkeypatch):
    monkeypatch.setattr(raspberry_pi, "pi_camera_users", lambda: ["812 (rpicam-vid)"])
    error = raspberry_pi.error_from_output("Camera __init__ sequence did not complete.", "picamera2")
    assert "in use by process 812 (rpicam-vid) (Camera __init__" in str(error)
