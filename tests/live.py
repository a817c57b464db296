"""Fake cameras, detectors and models for tests of the live runtime."""

import shlex
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from fer_edge.artifacts.contract import CropConvention
from fer_edge.edge_runtime.cameras.camera import CameraError
from fer_edge.edge_runtime.cameras.frame import Frame
from fer_edge.edge_runtime.classify import Prediction
from fer_edge.edge_runtime.detectors.detection import Detection
from fer_edge.edge_runtime.live.pipeline import LabeledFace, LabeledFrame

LABELS = ("angry", "happy", "sad")


class FakeCamera:
    """Follows a script: an array is a frame, None is a loss, and an exception is raised by the next open()."""

    name = "fake camera"
    pixel_format = "rgb"
    frames_per_second = 30.0

    def __init__(self, script, reconnects=True):
        self.script = list(script)
        self.reconnects = reconnects
        self.opened = self.closed = 0

    def open(self):
        self.opened += 1
        if self.script and isinstance(self.script[0], Exception):
            raise self.script.pop(0)

    def read(self):
        if not self.script:
            self.reconnects = False
            return None
        return self.script.pop(0)

    def close(self):
        self.closed += 1


class InstantStop(threading.Event):
    """Does not wait, and keeps the delays that were requested."""

    def __init__(self):
        super().__init__()
        self.delays = []

    def wait(self, timeout=None):
        self.delays.append(timeout)
        return self.is_set()


class FakeCapture:
    """OpenCV's VideoCapture over a list."""

    instances = ()

    def __init__(self, *arguments):
        self.arguments = arguments
        self.settings = {}
        self.frames = [flat_image(9), flat_image(8)]
        self.released = False
        FakeCapture.instances += (self,)

    def isOpened(self):  # noqa: N802
        return True

    def set(self, key, value):
        self.settings[key] = value

    def get(self, key):
        return 0.0

    def read(self):
        return (True, self.frames.pop(0)) if self.frames else (False, None)

    def release(self):
        self.released = True


def sensor_mode(size, crop, fps):
    """A sensor mode as picamera2 lists it."""
    return {"size": size, "bit_depth": 10, "crop_limits": (0, 0, *crop), "fps": fps}


def picamera2_module(cameras=1, error=None):
    """A fake picamera2 with padded rows and the real one's errors."""

    class Picamera2:
        closed = 0

        sensor_modes = (
            {"format": "MJPEG"},
            sensor_mode((640, 480), (1280, 960), 206.65),
            sensor_mode((1640, 1232), (3280, 2464), 41.85),
        )

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

        def capture_array(self, name, wait, signal_function):
            assert wait is False
            self.frames -= 1
            if self.frames >= 0:
                signal_function(self)
            return self

        def wait(self, job):
            width, height = self.settings["main"]["size"]
            rows = np.zeros((height * 3 // 2, width + 4), np.uint8)
            rows[:height, :width] = 77
            return rows

        def stop(self):
            pass

        def close(self):
            Picamera2.closed += 1

    return SimpleNamespace(Picamera2=Picamera2)


def rpicam(tmp_path, body, frame_bytes=None, listing=""):
    """Path of a shell script that stands in for rpicam-vid: it prints the listing, or the size of a frame and runs the body."""
    program = tmp_path / "rpicam-vid"
    list_cameras = "exec sleep 20" if listing is None else f"printf '%s\\n' {shlex.quote(listing)}; exit"
    size = f"echo 'FileOutput: output buffer 0x7f9c8000 size {frame_bytes}' >&2" if frame_bytes else ""
    program.write_text(f'#!/bin/sh\ncase "$*" in *--list-cameras*) {list_cameras};; esac\n{size}\n{body}\n')
    program.chmod(0o755)
    return str(program)


class FakeDetector:
    """Finds the same faces in every image."""

    name = "haar"
    needs_gray = True

    def __init__(self, *boxes):
        self.boxes = boxes or ((10, 10, 40, 40),)
        self.calls = 0
        self.sizes = []

    def detect(self, image, min_face_px=32, previous_boxes=None):
        self.calls += 1
        self.sizes.append(min_face_px)
        return [Detection(box) for box in self.boxes]


class FakeClassifier:
    """Returns the brightness of a face as its probability of happy."""

    model = Path("fake.tflite")
    labels = LABELS
    num_threads = 1
    contract = SimpleNamespace(crop=CropConvention(), unsure_threshold=None)

    def __init__(self, wait=None):
        self.wait = wait

    def predict(self, face):
        if self.wait:
            self.wait()
        return [prediction(float(face.mean()) / 255)]


class FakeSource:
    """Frames from a list, live or not."""

    def __init__(self, frames, live=False):
        self.name = "fake source"
        self.live = live
        self.list = frames

    def frames(self, stop: threading.Event, on_message=None):
        yield from self.list


def prediction(happy):
    probabilities = ((1 - happy) * 0.6, happy, (1 - happy) * 0.4)
    best = int(np.argmax(probabilities))
    return Prediction(LABELS[best], probabilities[best], probabilities, LABELS)


def flat_image(value=128, width=64, height=64):
    return np.full((height, width, 3), value, np.uint8)


def textured(seed=0, width=160, height=120):
    """An image whose parts all differ, smooth enough for template matching."""
    import cv2

    rough = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8), np.uint8)
    return cv2.cvtColor(cv2.resize(rough, (width, height), interpolation=cv2.INTER_CUBIC), cv2.COLOR_GRAY2RGB)


def frame(number=0, value=128, capture_time_s=None, width=64, height=64):
    return Frame(
        "fake",
        number,
        flat_image(value, width, height),
        capture_time_s=capture_time_s,
        time=capture_time_s,
        frames_per_second=10.0,
    )


def labeled(number=0, value=128, happy=0.9, capture_time_s=None, width=64, height=64):
    face = LabeledFace((10, 10, 20, 20), prediction(happy), 1)
    return LabeledFrame(frame(number, value, capture_time_s, width, height), (face,))


def lost():
    return CameraError("missing", "it is gone")


def wait_until(condition, seconds=10):
    """Wait until a condition holds, seconds at most."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
