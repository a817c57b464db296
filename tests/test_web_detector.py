"""The search of the own detector in the web page, run by node, next to that of the Python runtime, with the same network."""

import base64
import io
import json
import shutil
import subprocess
import zipfile
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from fer_edge.edge_runtime.detectors import own
from fer_edge.edge_runtime.detectors.own import OwnDetector

SCRIPT = Path(__file__).parent.parent / "web" / "tests" / "detect_all.js"
NODE = shutil.which("node")
CONTRACT = {
    "kind": "face_detector",
    "detector_contract_version": 1,
    "height": 128,
    "width": 160,
    "strides": [8],
    "score_threshold": 0.5,
    "second_look_threshold": 0.03,
    "score_calibration": [0.9, 0.1],
}
SIZES = [(1, 1), (3, 200), (200, 3), (160, 128), (480, 640), (640, 480), (333, 517), (1280, 720)]

pytestmark = pytest.mark.skipif(not NODE, reason="node is not installed")


class PatternNetwork:
    """Returns maps that are a fixed function of the pixels, as the class of this name in detect_all.js."""

    def __init__(self, path):
        self.contract = SimpleNamespace(**CONTRACT)
        self.inputs = []

    def infer(self, pixels):
        self.inputs.append(pixels.tobytes())
        blocks = pixels.astype(np.int64).reshape(16, 8, 20, 8)
        sums, first = blocks.sum((1, 3)), blocks[:, 0, :, 0]
        heat = ((sums * 7 + first * 13) % 997) / 997 * 10 - 7.5
        same = np.ones_like(heat)
        geometry = [first / 255 - 0.5, same * 0.25, (sums % 37) / 37 * 2 - 1, *(same * k for k in (-0.2, -0.1, 0.2, -0.1))]
        return [heat[..., None].astype(np.float32)], [np.stack(geometry, -1).astype(np.float32)]


def contract_archive():
    """Return the contract as the zip archive at the end of a .tflite file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("fer_edge.json", json.dumps(CONTRACT))
    return file.getvalue()


def noise(rng, width, height):
    coarse = rng.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3), dtype=np.uint8)
    return np.ascontiguousarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))


def test_the_page_finds_the_boxes_of_the_python_runtime(monkeypatch):
    rng = np.random.default_rng(1)
    images = [noise(rng, *size) for size in SIZES]
    previous = [
        [None, [], [[5, 5, 40, 40], [-30, -20, 60, 60], [width + 10, height + 10, 30, 30]], [[0, 0, width, height]]]
        for width, height in SIZES
    ]
    monkeypatch.setattr(own, "DetectorNetwork", PatternNetwork)
    for image, sequence, result in zip(images, previous, in_javascript(images, previous), strict=True):
        detector = OwnDetector("any.tflite")
        for boxes, faces in zip(sequence, result["faces"], strict=True):
            expected = detector.detect(image, 32, boxes)
            assert [tuple(face["box"]) for face in faces] == [face.box_px for face in expected]
            assert [face["score"] for face in faces] == pytest.approx([face.score for face in expected], abs=1e-12)
            eyes = np.array([face["eyes"] for face in faces]), np.array([face.eyes_px for face in expected])
            assert eyes[0] == pytest.approx(eyes[1], abs=1e-9)
        assert [base64.b64decode(text) for text in result["inputs"]] == detector._network.inputs
    assert len(expected) > 3  # the last image has faces to compare


def in_javascript(images, previous):
    data = [
        {
            "data": base64.b64encode(image.tobytes()).decode(),
            "width": image.shape[1],
            "height": image.shape[0],
            "minFace": 32,
            "previous": boxes,
        }
        for image, boxes in zip(images, previous, strict=True)
    ]
    jobs = json.dumps({"file": base64.b64encode(contract_archive()).decode(), "images": data})
    done = subprocess.run([str(NODE), str(SCRIPT)], input=jobs, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
