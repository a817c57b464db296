import concurrent.futures
import errno
import io
import os
import subprocess
import sys
import threading
import types

import numpy as np
import pytest
from live import FakeCamera, flat_image, lost

from fer_edge.edge_runtime.cameras import raspberry_pi, usb
from fer_edge.edge_runtime.cameras.camera import CameraError, frames_with_reconnect
from fer_edge.edge_runtime.cameras.frame import Frame, frame_bytes, from_buffer
from fer_edge.edge_runtime.cameras.network import NetworkStream, RawInput
from fer_edge.edge_runtime.cameras.raspberry_pi import PiCamera, RpicamVid, without_padding
from fer_edge.edge_runtime.cameras.source import open_source, read_frames
from fer_edge.edge_runtime.cameras.usb import UsbCamera, diagnose_no_frames
from fer_edge.edge_runtime.images import reported_rate


class Stop(threading.Event):
    """Waits for nobody, and keeps what it was asked to wait."""

    def __init__(self):
        super().__init__()
        self.pauses = []

    def wait(self, timeout=None):
        self.pauses.append(timeout)
        return self.is_set()


def test_a_camera_that_was_unplugged_is_reopened_with_growing_pauses_and_goes_on():
    camera = FakeCamera([flat_image(1), None, lost(), lost(), lost(), flat_image(2), None, flat_image(3)])
    stop, told = Stop(), []
    frames = list(frames_with_reconnect(camera, stop, told.append, delays_s=(0.5, 1, 2)))
    assert [int(frame.pixels[0, 0, 0]) for frame in frames] == [1, 2, 3]
    assert [frame.number for frame in frames] == [0, 1, 2]
    assert stop.pauses == [0.5, 1, 2, 2, 0.5]  # a frame starts them afresh
    assert told[0] == "fake camera is lost (it gives no more pictures); trying again in 0.5 s"
    assert "it is gone" in told[1]
    assert told.count("fake camera is back") == 2


def test_a_camera_that_opens_but_gives_nothing_is_not_asked_ever_faster():
    camera = FakeCamera([flat_image(), None, None, None, flat_image()])
    stop = Stop()
    assert len(list(frames_with_reconnect(camera, stop, delays_s=(0.5, 1, 2)))) == 2
    assert stop.pauses == [0.5, 1, 2]


def test_a_camera_that_never_opened_raises_at_once():
    camera = FakeCamera([lost()])
    with pytest.raises(CameraError, match="it is gone"):
        list(frames_with_reconnect(camera, Stop()))
    assert camera.closed == 1


def test_stopping_while_a_camera_is_lost_ends_the_frames_and_lets_go_of_it():
    camera, stop = FakeCamera([flat_image(), None, *[lost()] * 3, flat_image()]), Stop()
    told = []

    def tell(text):
        told.append(text)
        if len(told) == 2:
            stop.set()

    assert len(list(frames_with_reconnect(camera, stop, tell))) == 1
    assert camera.closed >= 2


@pytest.mark.parametrize("pixel_format", ["rgb", "bgr", "i420", "i420-full", "yuyv", "gray"])
def test_a_frame_shows_the_same_colors_whatever_its_pixel_format(pixel_format):
    import cv2

    red = np.full((4, 6, 3), (200, 40, 60), np.uint8)
    codes = {"bgr": cv2.COLOR_RGB2BGR, "i420": cv2.COLOR_RGB2YUV_I420, "gray": cv2.COLOR_RGB2GRAY}
    if pixel_format == "yuyv":
        y, u, v = cv2.cvtColor(red, cv2.COLOR_RGB2YUV_I420).reshape(-1)[[0, 24, 30]]
        pixels = np.stack([np.full((4, 6), y), np.tile([u, v], (4, 3))], axis=2).astype(np.uint8)
    elif pixel_format == "i420-full":
        y, v, u = cv2.cvtColor(red, cv2.COLOR_RGB2YCrCb)[0, 0]
        pixels = np.repeat(np.uint8([y, u, v]), [24, 6, 6]).reshape(6, 6)
    else:
        pixels = red if pixel_format == "rgb" else cv2.cvtColor(red, codes[pixel_format])
    frame = Frame("x", 0, pixels, pixel_format)
    assert (frame.width, frame.height) == (6, 4)
    assert frame.image.shape == (4, 6, 3)
    if pixel_format != "gray":
        assert np.abs(frame.image.astype(int) - red).max() <= 6
    assert frame.gray.shape == (4, 6)
    assert len(pixels.tobytes()) == frame_bytes(6, 4, pixel_format)
    assert np.array_equal(from_buffer(pixels.tobytes(), 6, 4, pixel_format), pixels)


def test_faces_are_cut_from_the_y_plane_as_it_is_where_a_source_gives_yuv():
    pixels = np.arange(36, dtype=np.uint8).reshape(6, 6)  # 4 rows of Y, 2 of U and V
    frame = Frame("x", 0, pixels, "i420")
    assert np.array_equal(frame.crop_source, pixels[:4])
    assert frame.crop_source.base is not None  # nothing was copied


def test_a_missing_usb_camera_is_told_with_those_that_are_there(monkeypatch):
    there = [usb.VideoDevice(usb.Path("/dev/video7"), "Good Cam", True)]
    monkeypatch.setattr(usb, "video_devices", lambda: there)
    with pytest.raises(CameraError, match=r"no camera at /dev/video99.*There is: /dev/video7 \(Good Cam\)") as caught:
        UsbCamera("/dev/video99").open()
    assert caught.value.reason == "missing"


def test_a_denied_usb_camera_names_the_group(monkeypatch, tmp_path):
    device = tmp_path / "video0"
    device.touch()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(CameraError, match="sudo usermod -aG video") as caught:
        UsbCamera(device).open()
    assert caught.value.reason == "denied"


def busy_ioctl(handle, request, argument):
    """What a driver says while another program takes pictures: linux/videodev2.h, struct v4l2_requestbuffers of 20 bytes."""
    assert (request, len(argument), argument[4]) == (0xC0145608, 20, 1)
    raise OSError(errno.EBUSY, "busy")


def test_a_busy_usb_camera_names_the_program_that_has_it(monkeypatch, tmp_path):
    monkeypatch.setattr(usb.fcntl, "ioctl", busy_ioctl)
    device = tmp_path / "video0"
    device.touch()
    with device.open() as file, subprocess.Popen(["sleep", "30"], stdin=file) as holder:
        error = diagnose_no_frames(device)
        holder.kill()
    assert error.reason == "busy"
    assert f"in use by process {holder.pid} (sleep)" in str(error)


def test_a_usb_camera_that_another_user_s_program_has_is_busy_too(monkeypatch, tmp_path):
    monkeypatch.setattr(usb.fcntl, "ioctl", busy_ioctl)
    device = tmp_path / "video0"
    device.touch()
    error = diagnose_no_frames(device, processes=tmp_path / "nobody")
    assert error.reason == "busy"
    assert f"another user's program: sudo fuser -v {device} names it" in str(error)


def test_a_program_that_only_has_the_camera_open_does_not_make_it_busy(tmp_path):
    device = tmp_path / "video0"
    device.touch()
    with device.open() as file, subprocess.Popen(["sleep", "30"], stdin=file) as holder:
        error = diagnose_no_frames(device)
        holder.kill()
    assert error.reason == "failed"


class FakeCapture:
    """OpenCV's VideoCapture over a list."""

    made = ()

    def __init__(self, *arguments):
        self.arguments = arguments
        self.settings = {}
        self.pictures = [flat_image(9), flat_image(8)]
        self.released = False
        FakeCapture.made += (self,)

    def isOpened(self):  # noqa: N802
        return True

    def set(self, key, value):
        self.settings[key] = value

    def get(self, key):
        return 0.0

    def read(self):
        return (True, self.pictures.pop(0)) if self.pictures else (False, None)

    def release(self):
        self.released = True


def test_a_usb_camera_is_asked_for_its_size_and_loses_no_first_frame(monkeypatch, tmp_path):
    import cv2

    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    device = tmp_path / "video0"
    device.touch()
    camera = UsbCamera(device, (320, 240), 15)
    camera.open()
    assert [int(camera.read()[0, 0, 0]) for _ in range(2)] == [9, 8]
    assert camera.read() is None
    capture = FakeCapture.made[-1]
    assert capture.arguments == (str(device), cv2.CAP_V4L2)
    assert (capture.settings[cv2.CAP_PROP_FRAME_WIDTH], capture.settings[cv2.CAP_PROP_FRAME_HEIGHT]) == (320, 240)
    camera.close()
    camera.close()
    assert capture.released


def test_frames_that_cannot_be_decoded_are_no_lost_camera(monkeypatch, tmp_path):
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


def test_a_usb_camera_without_pictures_is_no_camera(monkeypatch, tmp_path):
    import cv2

    monkeypatch.setattr(
        cv2,
        "VideoCapture",
        lambda *arguments: types.SimpleNamespace(isOpened=lambda: False, set=lambda *a: None, release=lambda: None),
    )
    (tmp_path / "video0").touch()
    with pytest.raises(CameraError, match="gives no pictures") as caught:
        UsbCamera(tmp_path / "video0").open()
    assert caught.value.reason == "failed"


def test_codecs_and_the_raw_side_of_the_pi_camera_are_no_cameras(tmp_path):
    for number, title in enumerate(["bcm2835-codec-decode", "unicam", "HD Webcam", "rp1-cfe-csi2_ch0"]):
        (tmp_path / f"video{number}").mkdir()
        (tmp_path / f"video{number}" / "name").write_text(title + "\n")
    assert [device.title for device in usb.video_devices(tmp_path)] == ["HD Webcam"]


def picamera2_module(cameras=1, error=None):
    """A stand-in that behaves as the real one where it matters: padded rows, errors of its own kinds."""

    class Picamera2:
        closed = 0

        def __init__(self, number=0):
            self.number = number

        @staticmethod
        def global_camera_info():
            if cameras is None:
                raise RuntimeError("no media devices")
            return [{"Model": "HD Webcam", "Id": "/base/scb/pcie/usb-1:1.0-046d"}] + [{"Model": "imx708"}] * cameras

        def create_preview_configuration(self, **settings):
            self.settings = settings
            return settings

        def configure(self, settings):
            if error:
                raise error

        def start(self):
            self.frames = 2

        def capture_array(self, name, wait=None):
            self.frames -= 1
            if self.frames < 0:
                assert wait == raspberry_pi.FRAME_S
                raise concurrent.futures.TimeoutError
            width, height = self.settings["main"]["size"]
            rows = np.zeros((height * 3 // 2, width + 4), np.uint8)
            rows[:height, :width] = 77
            return rows

        def stop(self):
            pass

        def close(self):
            Picamera2.closed += 1

    return types.SimpleNamespace(Picamera2=Picamera2)


def test_the_pi_camera_gives_its_y_plane_without_padding(monkeypatch):
    module = picamera2_module()
    monkeypatch.setitem(sys.modules, "picamera2", module)
    with pytest.raises(ValueError, match=r"frames_per_second must be above 0\. Received: nan"):
        open_source("picamera2", (8, 4), float("nan"))
    source = open_source("picamera2", (8, 4))
    first = next(source.frames(Stop()))
    assert first.pixel_format == "i420-full"
    assert first.gray.shape == (4, 8)
    assert (first.gray == 77).all()
    camera = PiCamera((8, 4))
    camera.open()
    assert [camera.read() is None for _ in range(3)] == [False, False, True]  # a lost camera is None, not a traceback
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
def test_a_pi_camera_that_does_not_start_says_why(monkeypatch, module, reason, message):
    monkeypatch.setitem(sys.modules, "picamera2", module)
    with pytest.raises(CameraError, match=message) as caught:
        PiCamera().open()
    assert caught.value.reason == reason


def test_chroma_rows_are_unpadded_in_their_middle_too():
    stride, width, height = 8, 6, 4
    rows = np.zeros((6, stride), np.uint8)
    rows[:4, :6] = 1
    chroma = np.zeros((4, 4), np.uint8)  # two rows each of U and V, half a stride long
    chroma[:2, :3], chroma[2:, :3] = 2, 3
    rows[4:] = chroma.reshape(2, stride)
    cut = without_padding(rows, width, height)
    assert (cut[:4] == 1).all()
    assert cut[4].tolist() == [2] * 6
    assert cut[5].tolist() == [3] * 6


def rpicam(tmp_path, body):
    program = tmp_path / "rpicam-vid"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    return str(program)


def test_rpicam_vid_frames_come_whole_and_a_cut_one_is_a_lost_camera(tmp_path):
    camera = RpicamVid((64, 2), 30, rpicam(tmp_path, "head -c 480 /dev/zero"))  # two frames and a half
    camera.open()
    shapes = [camera.read().shape, camera.read().shape]
    assert shapes == [(3, 64), (3, 64)]
    assert camera.read() is None
    camera.close()
    with pytest.raises(ValueError, match=r"multiple of 64. Received: 100x100"):
        RpicamVid((100, 100))


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("ERROR: *** no cameras available ***", "missing"),
        ("ERROR: *** failed to acquire camera /base/soc/i2c ***", "busy"),
        ("Permission denied", "denied"),
        ("something else", "failed"),
    ],
)
def test_what_rpicam_vid_says_becomes_the_reason(tmp_path, said, reason):
    with pytest.raises(CameraError) as caught:
        RpicamVid((64, 2), 30, rpicam(tmp_path, f"echo '{said}' >&2; exit 255")).open()
    assert caught.value.reason == reason


def test_rpicam_vid_may_talk_for_weeks(tmp_path):
    camera = RpicamVid((64, 2), 30, rpicam(tmp_path, "yes 'frame 1 30 fps' | head -c 1000000 >&2; cat /dev/zero"))
    camera.open()
    camera.close()
    assert len(camera._said) <= 20


def test_auto_takes_the_pi_camera_then_rpicam_then_usb_then_says_what_it_looked_for(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "picamera2", picamera2_module())
    assert open_source("auto").name == "picamera2"
    monkeypatch.setitem(sys.modules, "picamera2", picamera2_module(cameras=0))  # a webcam on USB alone
    with pytest.raises(CameraError, match="picamera2 finds none"):
        open_source("auto")
    monkeypatch.setitem(sys.modules, "picamera2", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    program = rpicam(tmp_path, "echo '0 : imx708'")
    assert open_source("auto").camera._program == program
    (tmp_path / "rpicam-vid").unlink()
    from fer_edge.edge_runtime.cameras import source as sources

    monkeypatch.setattr(sources, "video_devices", lambda: [usb.VideoDevice(usb.Path("/dev/video3"), "Cam", True)])
    assert open_source("auto").name == "/dev/video3"
    monkeypatch.setattr(sources, "video_devices", list)
    with pytest.raises(CameraError, match=r"no camera found .*rpicam-vid is not installed; no camera at /dev/video"):
        open_source("auto")


def test_auto_goes_on_to_usb_when_picamera2_fails_or_rpicam_does_not_answer(monkeypatch, tmp_path):
    from fer_edge.edge_runtime.cameras import source as sources

    def fail():
        raise RuntimeError("no camera manager")

    module = picamera2_module()
    module.Picamera2.global_camera_info = fail
    monkeypatch.setitem(sys.modules, "picamera2", module)
    devices = [usb.VideoDevice(usb.Path("/dev/video3"), "Cam", True)]
    monkeypatch.setattr(sources, "video_devices", lambda: devices)
    assert open_source("auto").name == "/dev/video3"
    monkeypatch.setattr(sources, "video_devices", list)
    with pytest.raises(CameraError, match="picamera2 fails: no camera manager; no camera at /dev/video"):
        open_source("auto")

    monkeypatch.setitem(sys.modules, "picamera2", None)
    monkeypatch.setattr(raspberry_pi, "ANSWER_S", 0.1)
    monkeypatch.setattr(sources, "find_rpicam", lambda: rpicam(tmp_path, "exec sleep 20"))
    with pytest.raises(CameraError, match=r"rpicam-vid lists no cameras within 0.1 s; no camera at /dev/video"):
        open_source("auto")
    monkeypatch.setattr(sources, "video_devices", lambda: devices)
    assert open_source("auto").name == "/dev/video3"


def test_a_picamera2_built_for_another_numpy_says_so(monkeypatch):
    def broken(name):
        raise ValueError("numpy.dtype size changed, may indicate binary incompatibility")

    monkeypatch.setattr(raspberry_pi.importlib, "import_module", broken)
    with pytest.raises(ImportError, match=r"constraints-raspberry.txt"):
        raspberry_pi.import_picamera2()


def test_raw_frames_on_standard_input_end_with_the_last_whole_one():
    read, write = os.pipe()
    os.write(write, bytes(range(12)) + bytes(12) + b"cut")
    os.close(write)
    with os.fdopen(read, "rb") as file:
        frames = list(frames_with_reconnect(RawInput((2, 2), "rgb", 30, file), Stop()))
    assert [frame.pixels.shape for frame in frames] == [(2, 2, 3)] * 2
    assert frames[0].pixels.reshape(-1).tolist() == list(range(12))


def test_input_that_ends_within_its_first_frame_tells_both_sizes():
    read, write = os.pipe()
    os.write(write, b"12345")
    os.close(write)
    with os.fdopen(read, "rb") as file, pytest.raises(CameraError, match="ended after 5 bytes; one frame of 2x2 rgb has 12"):
        list(frames_with_reconnect(RawInput((2, 2), "rgb", None, file), Stop()))


def test_raw_input_needs_a_size_that_fits_its_order():
    with pytest.raises(ValueError, match="unknown pixel format 'nv12'; choose one of: rgb, bgr, gray, i420, i420-full, yuyv"):
        RawInput((2, 2), "nv12")
    with pytest.raises(ValueError, match="even for YUV"):
        RawInput((3, 2), "i420")


def test_a_terminal_is_no_raw_input():
    terminal = io.BytesIO()
    terminal.isatty = lambda: True
    with pytest.raises(CameraError, match="nothing is piped in"):
        RawInput((2, 2), file=terminal).open()


def test_a_stream_that_does_not_answer_is_told_without_its_password():
    stream = NetworkStream("rtsp://user:secret@127.0.0.1:9/cam")
    with pytest.raises(CameraError, match=r"no video from rtsp://127.0.0.1:9/cam") as caught:
        stream.open()
    assert "secret" not in str(caught.value) + stream.name


@pytest.mark.parametrize(("count", "reconnects"), [(0, True), (-9.2e18, True), (9.2e18, True), (2, False)])
def test_a_file_behind_an_address_ends_and_a_stream_is_opened_again(monkeypatch, count, reconnects):
    import cv2

    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    monkeypatch.setattr(FakeCapture, "get", lambda self, key: count if key == cv2.CAP_PROP_FRAME_COUNT else 30.0)
    stream, stop, told = NetworkStream("http://host/clip.mp4"), Stop(), []

    def tell(text):
        told.append(text)
        stop.set()

    assert len(list(frames_with_reconnect(stream, stop, tell))) == 2
    assert bool(told) == reconnects


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://user:p@ss@host/s", "rtsp://host/s"),
        ("http://cam/video?user=a&pwd=geheim", "http://cam/video"),
        ("rtsp://host:554/a@b//c@d", "rtsp://host:554/a@b//c@d"),
        ("http://a:b@[::1]:80/v?mail=a@b", "http://[::1]:80/v"),
    ],
)
def test_a_stream_is_called_by_its_address_without_user_password_and_query(url, shown):
    assert NetworkStream(url).name == shown


@pytest.mark.parametrize(
    ("reported", "believed"),
    [(90000, None), (float("nan"), None), (float("inf"), None), (0, None), (-1, None), (29.97, 29.97), (240, 240), (1, 1)],
)
def test_a_rate_that_no_camera_has_is_not_believed(reported, believed):
    assert reported_rate(types.SimpleNamespace(get=lambda what: reported)) == believed


def test_the_frames_of_a_video_with_an_impossible_rate_count_as_25_a_second(tmp_path):
    from fer_edge.edge_runtime.outputs.video import AtomicVideoWriter

    video = AtomicVideoWriter(tmp_path / "v.mp4", 1000, (64, 64))
    video.write(flat_image())
    video.finish()
    (frame,) = read_frames(tmp_path / "v.mp4")
    assert frame.frames_per_second == 25
