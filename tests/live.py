"""Stand-ins for cameras, detectors and models, for tests of the live runtime."""

import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from fer_edge.artifacts.contract import CropConvention
from fer_edge.edge_runtime.cameras.camera import CameraError
from fer_edge.edge_runtime.cameras.frame import Frame
from fer_edge.edge_runtime.classify import Prediction
from fer_edge.edge_runtime.detectors.detector import Detection
from fer_edge.edge_runtime.live.pipeline import LabeledFace, LabeledFrame

LABELS = ("angry", "happy", "sad")


class FakeCamera:
    """Gives what its script says: an array is a frame, None a loss, an exception what the next open() raises."""

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
    """Says that a face is as happy as it is bright."""

    model = Path("fake.tflite")
    labels = LABELS
    num_threads = 1
    contract = SimpleNamespace(crop=CropConvention())

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
    shares = ((1 - happy) * 0.6, happy, (1 - happy) * 0.4)
    best = int(np.argmax(shares))
    return Prediction(LABELS[best], shares[best], shares, LABELS)


def flat_image(value=128, width=64, height=64):
    return np.full((height, width, 3), value, np.uint8)


def textured(seed=0, width=160, height=120):
    """A image in which every place looks different, smooth enough to be followed."""
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
