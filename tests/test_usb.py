import errno
import os
import subprocess
import types
from pathlib import Path

import pytest
from live import FakeCapture, flat_image

from fer_edge.edge_runtime.cameras import devices, usb
from fer_edge.edge_runtime.cameras.camera import CameraError
from fer_edge.edge_runtime.cameras.usb import UsbCamera, diagnose_no_frames


def test_the_error_for_a_missing_usb_camera_lists_the_available_ones(monkeypatch):
    available = [devices.VideoDevice(Path("/dev/video7"), "Good Cam", True)]
    monkeypatch.setattr(usb, "video_devices", lambda: available)
    with pytest.raises(CameraError, match=r"no camera at /dev/video99.*Available cameras: /dev/video7 \(Good Cam\)") as caught:
        UsbCamera("/dev/video99").open()
    assert caught.value.reason == "missing"


def test_the_error_for_a_denied_usb_camera_names_the_group_to_join(monkeypatch, tmp_path):
    device = tmp_path / "video0"
    device.touch()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(CameraError, match="sudo usermod -aG video") as caught:
        UsbCamera(device).open()
    assert caught.value.reason == "denied"


def busy_ioctl(handle, request, argument):
    """A driver while another program captures: linux/videodev2.h, struct v4l2_requestbuffers of 20 bytes."""
    assert (request, len(argument), argument[4]) == (0xC0145608, 20, 1)
    raise OSError(errno.EBUSY, "busy")


def test_the_error_for_a_busy_usb_camera_names_the_process(monkeypatch, tmp_path):
    monkeypatch.setattr(devices.fcntl, "ioctl", busy_ioctl)
    device = tmp_path / "video0"
    device.touch()
    with device.open() as file, subprocess.Popen(["sleep", "30"], stdin=file) as holder:
        error = diagnose_no_frames(device)
        holder.kill()
    assert error.reason == "busy"
    assert f"in use by process {holder.pid} (sleep)" in str(error)


def test_a_usb_camera_used_by_another_user_is_busy(monkeypatch, tmp_path):
    monkeypatch.setattr(devices.fcntl, "ioctl", busy_ioctl)
    device = tmp_path / "video0"
    device.touch()
    error = diagnose_no_frames(device, processes=tmp_path / "nobody")
    assert error.reason == "busy"
    assert f"in use by a program of another user: sudo fuser -v {device} names it" in str(error)


def test_a_program_that_only_has_the_camera_open_does_not_make_it_busy(tmp_path):
    device = tmp_path / "video0"
    device.touch()
    with device.open() as file, subprocess.Popen(["sleep", "30"], stdin=file) as holder:
        error = diagnose_no_frames(device)
        holder.kill()
    assert error.reason == "failed"


def test_a_usb_camera_gets_the_requested_size_and_loses_no_first_frame(monkeypatch, tmp_path):
    import cv2

    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    device = tmp_path / "video0"
    device.touch()
    camera = UsbCamera(device, (320, 240), 15)
    camera.open()
    assert [int(camera.read()[0, 0, 0]) for _ in range(2)] == [9, 8]
    assert camera.read() is None
    capture = FakeCapture.instances[-1]
    assert capture.arguments == (str(device), cv2.CAP_V4L2)
    assert (capture.settings[cv2.CAP_PROP_FRAME_WIDTH], capture.settings[cv2.CAP_PROP_FRAME_HEIGHT]) == (320, 240)
    camera.close()
    camera.close()
    assert capture.released


def test_broken_frames_do_not_count_as_a_lost_camera(monkeypatch, tmp_path):
    import cv2

    camera = UsbCamera(tmp_path / "video0")
    answers = [(False, None), cv2.error("no bytes"), (True, flat_image(7)), *[(False, None)] * 5]

    def read():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    camera._capture = types.SimpleNamespace(read=read)
    assert int(camera.read()[0, 0, 0]) == 7
    assert camera.read() is None
    assert answers == []


def test_a_usb_camera_without_frames_fails_to_open(monkeypatch, tmp_path):
    import cv2

    monkeypatch.setattr(
        cv2,
        "VideoCapture",
        lambda *arguments: types.SimpleNamespace(isOpened=lambda: False, set=lambda *a: None, release=lambda: None),
    )
    (tmp_path / "video0").touch()
    with pytest.raises(CameraError, match="delivers no frames") as caught:
        UsbCamera(tmp_path / "video0").open()
    assert caught.value.reason == "failed"


def test_codecs_and_the_raw_side_of_the_pi_camera_are_not_listed(tmp_path):
    for number, title in enumerate(["bcm2835-codec-decode", "unicam", "HD Webcam", "rp1-cfe-csi2_ch0"]):
        (tmp_path / f"video{number}").mkdir()
        (tmp_path / f"video{number}" / "name").write_text(title + "\n")
    assert [device.title for device in devices.video_devices(tmp_path)] == ["HD Webcam"]
