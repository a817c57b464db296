"""Frames that are rotated and flipped, by the camera where it can and in software elsewhere."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from live import FakeCamera, FakeClassifier, FakeDetector, InstantStop, flat_image, lost, picamera2_module, rpicam
from media import corner_image, corners, encode, with_exif

from fer_edge.edge_runtime.cameras import devices, source
from fer_edge.edge_runtime.cameras.camera import CameraError, frames_with_reconnect
from fer_edge.edge_runtime.cameras.frame import Frame
from fer_edge.edge_runtime.cameras.raspberry_pi import PiCamera
from fer_edge.edge_runtime.cameras.source import open_source
from fer_edge.edge_runtime.cameras.turned import TurnedCamera, turn_pixels, turned
from fer_edge.edge_runtime.images import import_cv2, write_image
from fer_edge.edge_runtime.live.pipeline import Pipeline
from fer_edge.edge_runtime.orientation import UPRIGHT, Orientation

# The white corner of corner_image comes out here: top left, top right, bottom left, bottom right.
CORNERS = {(0, False): 0, (90, False): 1, (180, False): 3, (270, False): 2}
CORNERS |= {(0, True): 1, (90, True): 0, (180, True): 2, (270, True): 3}


def in_format(image, pixel_format):
    cv2 = import_cv2()
    if pixel_format == "rgb":
        return image
    if pixel_format == "gray":
        return image[:, :, 1].copy()
    i420 = cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420)
    if pixel_format != "yuyv":
        return i420
    height, width = image.shape[:2]
    u, v = (np.repeat(plane, 2, axis=0) for plane in i420[height:].reshape(2, height // 2, width // 2))
    return np.stack([i420[:height], np.stack([u, v], axis=2).reshape(height, width)], axis=2)


@pytest.mark.parametrize(("rotate", "flip"), CORNERS)
@pytest.mark.parametrize("pixel_format", ["rgb", "gray", "i420", "i420-full", "yuyv"])
def test_frames_of_every_pixel_format_are_turned(pixel_format, rotate, flip):
    image = corner_image(40, 60)
    image[30:, 48:] = (255, 0, 0)  # a red corner shows whether the color planes turn with Y
    pixels = in_format(image, pixel_format)
    turned_format = "i420" if pixel_format == "yuyv" else pixel_format
    frame = Frame("x", 0, turn_pixels(pixels, pixel_format, Orientation(rotate, flip)), turned_format)
    assert (frame.height, frame.width) == ((60, 40) if rotate in (90, 270) else (40, 60))
    bright = [value > 150 for value in (frame.image[y, x].min() for y, x in ((3, 3), (3, -4), (-4, 3), (-4, -4)))]
    assert bright == [number == CORNERS[rotate, flip] for number in range(4)]
    if pixel_format != "gray":
        red = frame.image[[-4, -4, 3, 3], [-4, 3, -4, 3]][CORNERS[rotate, flip]].astype(int)  # the opposite corner
        assert red[0] - red[1] > 120
    assert sorted(frame.gray.reshape(-1)) == sorted(Frame("x", 0, pixels, pixel_format).gray.reshape(-1))
    assert frame.pixels.flags["C_CONTIGUOUS"]


def test_a_turned_camera_keeps_its_name_rate_and_losses():
    camera = turned(FakeCamera([corner_image(), None]), Orientation(90))
    (frame,) = frames_with_reconnect(camera, InstantStop())
    assert (frame.source, frame.frames_per_second, frame.pixels.shape) == ("fake camera", 30.0, (60, 40, 3))
    same = FakeCamera([])
    assert turned(same, UPRIGHT) is same


def test_files_are_turned_after_their_own_orientation_tag(tmp_path):
    (tmp_path / "a.jpg").write_bytes(with_exif(".jpg", corner_image(), 6))
    (frame,) = open_source(tmp_path / "a.jpg", orientation=Orientation(90)).frames(InstantStop())
    assert frame.image.shape == (40, 60, 3)
    assert corners(frame.image) == (False, False, False, True)


def test_boxes_and_images_are_those_of_the_turned_frame(tmp_path):
    write_image(tmp_path / "a.png", corner_image(100, 140))
    files = open_source(tmp_path / "a.png", orientation=Orientation(90))
    (labeled,) = Pipeline(files, FakeDetector((30, 110, 20, 20)), FakeClassifier())
    assert labeled.image.shape == (140, 100, 3)
    assert labeled.faces[0].box_px == (30, 110, 20, 20)


@pytest.mark.parametrize(
    ("rotate", "flip", "mirrors"),
    [
        (0, True, {"hflip": True, "vflip": False}),
        (180, False, {"hflip": True, "vflip": True}),
        (180, True, {"hflip": False, "vflip": True}),
    ],
)
def test_a_raspberry_pi_camera_rotates_by_180_degrees_and_flips_itself(monkeypatch, tmp_path, rotate, flip, mirrors):
    module = picamera2_module()
    requested = {}
    monkeypatch.setitem(sys.modules, "picamera2", module)
    monkeypatch.setitem(sys.modules, "libcamera", SimpleNamespace(Transform=lambda **values: values))
    configure = module.Picamera2.create_preview_configuration
    monkeypatch.setattr(
        module.Picamera2,
        "create_preview_configuration",
        lambda self, **settings: requested.update(settings) or configure(self, **settings),
    )
    camera = open_source("picamera2", (8, 4), orientation=Orientation(rotate, flip)).camera
    assert isinstance(camera, PiCamera)
    camera.open()
    assert requested["transform"] == mirrors
    program = rpicam(tmp_path, f'echo "$@" > {tmp_path}/arguments; head -c 1000000 /dev/zero', 384)
    monkeypatch.setattr(source, "find_rpicam", lambda: program)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    camera = open_source("rpicam", (64, 4), orientation=Orientation(rotate, flip)).camera
    camera.open()
    camera.close()
    words = (tmp_path / "arguments").read_text().split()
    assert {name: f"--{name}" in words for name in mirrors} == mirrors


def test_a_raspberry_pi_camera_that_is_on_its_side_is_rotated_in_software(monkeypatch):
    monkeypatch.setitem(sys.modules, "picamera2", picamera2_module())
    side = open_source("picamera2", (8, 4), orientation=Orientation(270, True))
    assert isinstance(side.camera, TurnedCamera)
    assert next(side.frames(InstantStop())).gray.shape == (8, 4)
    with pytest.raises(ValueError, match="cannot rotate by 90 degrees itself"):
        PiCamera((8, 4), orientation=Orientation(90))


def test_waiting_ends_when_the_camera_is_there_and_repeats_no_message():
    camera, stop, messages = FakeCamera([lost(), lost(), lost(), flat_image(1)]), InstantStop(), []
    frames = list(frames_with_reconnect(camera, stop, messages.append, wait=True))
    assert [int(frame.pixels[0, 0, 0]) for frame in frames] == [1]
    assert stop.delays == [1, 2, 5]
    assert messages == ["waiting for fake camera: it is gone", "fake camera is available"]


def test_a_message_about_another_cause_passes_at_once():
    causes = [CameraError("busy", "it is busy"), CameraError("busy", "it is busy"), CameraError("denied", "not permitted")]
    messages = []
    list(frames_with_reconnect(FakeCamera([*causes, flat_image()]), InstantStop(), messages.append, wait=True))
    assert [message.rpartition(": ")[2] for message in messages] == ["it is busy", "not permitted", "fake camera is available"]


def test_a_camera_that_stays_lost_repeats_its_message_every_five_minutes(monkeypatch):
    from fer_edge.edge_runtime.cameras import camera as module

    stop, messages = InstantStop(), []
    monkeypatch.setattr(module.time, "monotonic", lambda: 10_000.0 + sum(stop.delays))
    script = [flat_image(), None, *[lost()] * 40, flat_image()]
    list(frames_with_reconnect(FakeCamera(script), stop, messages.append))
    assert [message.split(" (")[0] for message in messages] == ["fake camera is lost"] * 5 + ["fake camera is back"]


def test_stop_ends_the_wait():
    stop = InstantStop()
    camera = FakeCamera([lost()] * 5)
    assert list(frames_with_reconnect(camera, stop, lambda text: stop.set(), wait=True)) == []
    assert (camera.opened, camera.closed >= 1) == (1, True)


def test_auto_with_wait_takes_the_first_camera_that_appears(monkeypatch):
    monkeypatch.setitem(sys.modules, "picamera2", None)
    monkeypatch.setattr(source, "find_rpicam", lambda: None)
    appears = iter([[], [], [devices.VideoDevice(Path("/dev/video7"), "Cam", True)]])
    monkeypatch.setattr(source, "video_devices", lambda: next(appears))
    monkeypatch.setattr(source, "UsbCamera", lambda device, size, rate: FakeCamera([corner_image()]))
    messages = []
    waiting = open_source("auto", orientation=Orientation(180), wait=True)
    (frame,) = waiting.frames(InstantStop(), messages.append)
    assert corners(frame.image) == (False, False, False, True)
    starts = [message.partition(" (")[0] for message in messages]
    assert starts == ["waiting for a camera: no camera found", "fake camera is available"]


def test_files_cannot_be_waited_for(tmp_path):
    (tmp_path / "a.jpg").write_bytes(encode(".jpg", corner_image()))
    with pytest.raises(ValueError, match="only a camera or a stream can be waited for"):
        open_source(tmp_path / "a.jpg", wait=True)


def test_an_unknown_rotation_is_rejected_by_the_command_and_in_python(invoke, int8_model, tmp_path):
    import fer_edge

    result = invoke("run", "x.jpg", "--rotate", 45)
    assert result.exit_code == 2
    assert "'45' is not one of '90', '180', '270'" in result.stderr
    with pytest.raises(ValueError, match=r"Received: 45"):
        fer_edge.stream(tmp_path, int8_model, rotate=45)
