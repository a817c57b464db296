import io
import os
import sys
import types
from pathlib import Path

import pytest
from live import FakeCapture, InstantStop, flat_image, picamera2_module, rpicam

from fer_edge.edge_runtime.cameras import devices, rpicam_vid, source
from fer_edge.edge_runtime.cameras.camera import CameraError, frames_with_reconnect
from fer_edge.edge_runtime.cameras.capture import reported_rate
from fer_edge.edge_runtime.cameras.files import read_frames
from fer_edge.edge_runtime.cameras.network import NetworkStream
from fer_edge.edge_runtime.cameras.raw_input import RawInput
from fer_edge.edge_runtime.cameras.source import open_source


def test_auto_prefers_picamera2_then_rpicam_vid_then_usb(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "picamera2", picamera2_module())
    assert open_source("auto").name == "picamera2"
    monkeypatch.setitem(sys.modules, "picamera2", picamera2_module(cameras=0))  # only a USB webcam
    with pytest.raises(CameraError, match="picamera2 finds none"):
        open_source("auto")
    monkeypatch.setitem(sys.modules, "picamera2", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    program = rpicam(tmp_path, "", listing="0 : imx708")
    assert open_source("auto").camera._program == program
    (tmp_path / "rpicam-vid").unlink()
    monkeypatch.setattr(source, "video_devices", lambda: [devices.VideoDevice(Path("/dev/video3"), "Cam", True)])
    assert open_source("auto").name == "/dev/video3"
    monkeypatch.setattr(source, "video_devices", list)
    with pytest.raises(CameraError, match=r"no camera found .*rpicam-vid is not installed; no camera at /dev/video"):
        open_source("auto")


def test_auto_uses_usb_if_picamera2_fails_or_rpicam_vid_does_not_answer(monkeypatch, tmp_path):
    def fail():
        raise RuntimeError("no camera manager")

    module = picamera2_module()
    module.Picamera2.global_camera_info = fail
    monkeypatch.setitem(sys.modules, "picamera2", module)
    found = [devices.VideoDevice(Path("/dev/video3"), "Cam", True)]
    monkeypatch.setattr(source, "video_devices", lambda: found)
    assert open_source("auto").name == "/dev/video3"
    monkeypatch.setattr(source, "video_devices", list)
    with pytest.raises(CameraError, match="picamera2 fails: no camera manager; no camera at /dev/video"):
        open_source("auto")

    monkeypatch.setitem(sys.modules, "picamera2", None)
    monkeypatch.setattr(rpicam_vid, "LIST_TIMEOUT_S", 0.1)
    monkeypatch.setattr(source, "find_rpicam", lambda: rpicam(tmp_path, "", listing=None))
    with pytest.raises(CameraError, match=r"rpicam-vid lists no cameras within 0.1 s; no camera at /dev/video"):
        open_source("auto")
    monkeypatch.setattr(source, "video_devices", lambda: found)
    assert open_source("auto").name == "/dev/video3"


def test_raw_frames_end_with_the_last_complete_one():
    read, write = os.pipe()
    os.write(write, bytes(range(12)) + bytes(12) + b"cut")
    os.close(write)
    with os.fdopen(read, "rb") as file:
        frames = list(frames_with_reconnect(RawInput((2, 2), "rgb", 30, file), InstantStop()))
    assert [frame.pixels.shape for frame in frames] == [(2, 2, 3)] * 2
    assert frames[0].pixels.reshape(-1).tolist() == list(range(12))


def test_the_error_for_an_input_shorter_than_a_frame_gives_both_sizes():
    read, write = os.pipe()
    os.write(write, b"12345")
    os.close(write)
    with os.fdopen(read, "rb") as file, pytest.raises(CameraError, match=r"ended after 5 bytes. One frame of 2x2 rgb has 12"):
        list(frames_with_reconnect(RawInput((2, 2), "rgb", None, file), InstantStop()))


def test_raw_input_checks_the_size_for_its_pixel_format():
    with pytest.raises(ValueError, match="unknown pixel format 'nv12'; choose one of: rgb, bgr, gray, i420, i420-full, yuyv"):
        RawInput((2, 2), "nv12")
    with pytest.raises(ValueError, match="even for YUV"):
        RawInput((3, 2), "i420")


def test_a_terminal_is_rejected_as_raw_input():
    terminal = io.BytesIO()
    terminal.isatty = lambda: True
    with pytest.raises(CameraError, match="standard input is a terminal"):
        RawInput((2, 2), file=terminal).open()


def test_the_error_for_a_stream_that_does_not_answer_hides_the_password():
    stream = NetworkStream("rtsp://user:secret@127.0.0.1:9/cam")
    with pytest.raises(CameraError, match=r"no video from rtsp://127.0.0.1:9/cam") as caught:
        stream.open()
    assert "secret" not in str(caught.value) + stream.name


@pytest.mark.parametrize(("count", "reconnects"), [(0, True), (-9.2e18, True), (9.2e18, True), (2, False)])
def test_only_an_endless_stream_is_reopened(monkeypatch, count, reconnects):
    import cv2

    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    monkeypatch.setattr(FakeCapture, "get", lambda self, key: count if key == cv2.CAP_PROP_FRAME_COUNT else 30.0)
    stream, stop, messages = NetworkStream("http://host/clip.mp4"), InstantStop(), []

    def on_message(text):
        messages.append(text)
        stop.set()

    assert len(list(frames_with_reconnect(stream, stop, on_message))) == 2
    assert bool(messages) == reconnects


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("rtsp://user:p@ss@host/s", "rtsp://host/s"),
        ("http://cam/video?user=a&pwd=geheim", "http://cam/video"),
        ("rtsp://host:554/a@b//c@d", "rtsp://host:554/a@b//c@d"),
        ("http://a:b@[::1]:80/v?mail=a@b", "http://[::1]:80/v"),
    ],
)
def test_the_name_of_a_stream_hides_user_password_and_query(url, expected):
    assert NetworkStream(url).name == expected


@pytest.mark.parametrize(
    ("reported", "expected"),
    [(90000, None), (float("nan"), None), (float("inf"), None), (0, None), (-1, None), (29.97, 29.97), (240, 240), (1, 1)],
)
def test_an_implausible_frame_rate_is_ignored(reported, expected):
    assert reported_rate(types.SimpleNamespace(get=lambda key: reported)) == expected


def test_a_video_with_an_implausible_rate_gets_25_frames_per_second(tmp_path):
    from fer_edge.edge_runtime.outputs.video import AtomicVideoWriter

    video = AtomicVideoWriter(tmp_path / "v.mp4", 1000, (64, 64))
    video.write(flat_image())
    video.finish()
    (frame,) = read_frames(tmp_path / "v.mp4")
    assert frame.frames_per_second == 25
