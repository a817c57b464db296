"""The pixels of the web page, made by node, next to those of OpenCV and edge_runtime/crop.py."""

import base64
import json
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_edge.artifacts.contract import BoxTransform, CropConvention
from fer_edge.edge_runtime.crop import crop_face, preprocess_face
from fer_edge.edge_runtime.detectors.blazeface import _square_input

SCRIPT = Path(__file__).parent.parent / "web" / "tests" / "resize_all.js"
NODE = shutil.which("node")
CROP = CropConvention(training_resolution_px=48, box_transforms={"d": BoxTransform(1.151, -0.003, -0.094)})

pytestmark = pytest.mark.skipif(not NODE, reason="node is not installed")


def random_image(rng, width, height, channels=3):
    image = cv2.GaussianBlur(rng.integers(0, 256, (height, width, channels), dtype=np.uint8), (0, 0), 1.0)
    return np.ascontiguousarray(cv2.convertScaleAbs(image, alpha=3, beta=-256) if rng.random() < 0.5 else image)


@pytest.fixture(params=["plain", "simd"])
def assert_equal(request):
    """Compare the page's functions, with and without SIMD instructions. A job is a name, an image and the other arguments."""

    def check(jobs, expected):
        for job, found, right in zip(jobs, in_javascript(jobs, request.param), expected, strict=True):
            assert found == right.tobytes(), (job[0], job[1].shape, job[2])

    return check


def in_javascript(jobs, kind):
    data = [
        {
            "name": name,
            "image": {
                "data": base64.b64encode(image.tobytes()).decode(),
                "width": image.shape[1],
                "height": image.shape[0],
                "channels": image.shape[2],
            },
            "rest": rest,
        }
        for name, image, rest in jobs
    ]
    done = subprocess.run([str(NODE), str(SCRIPT), kind], input=json.dumps(data), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [base64.b64decode(text) for text in json.loads(done.stdout)]


# Blocks of 5 x 5 and 2 x 2, areas with edges inside pixels, one axis that shrinks and one that grows, and enlarging.
AREA_SIZES = [
    ((640, 480), (128, 96)), ((96, 96), (48, 48)), ((200, 150), (128, 96)), ((133, 77), (48, 48)), ((160, 160), (128, 128)),
    ((49, 300), (48, 20)), ((60, 140), (64, 120)), ((90, 70), (128, 100)), ((9, 9), (128, 128)), ((1, 1), (1, 1)),
    ((128, 127), (128, 127)), ((129, 128), (128, 128)), ((639, 359), (128, 72)),
]  # fmt: skip


def test_areas_are_averaged_as_in_opencv(assert_equal):
    rng = np.random.default_rng(0)
    jobs, expected = [], []
    for (width, height), size in AREA_SIZES:
        image = random_image(rng, width + 7, height + 3, channels=4)
        part = np.ascontiguousarray(image[2 : 2 + height, 5 : 5 + width, :3])
        jobs.append(("resizeArea", image, [[5, 2, width, height], *size]))
        expected.append(cv2.resize(part, size, interpolation=cv2.INTER_AREA))
    assert_equal(jobs, expected)


def test_crops_are_enlarged_as_in_opencv(assert_equal):
    rng = np.random.default_rng(1)
    jobs, expected = [], []
    for (width, height), size in [((48, 48), (96, 96)), ((31, 48), (96, 97)), ((1, 1), (48, 48)), ((47, 20), (75, 224))]:
        image = random_image(rng, width, height)
        jobs.append(("resizeLinearExact", image, list(size)))
        expected.append(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR_EXACT))
    assert_equal(jobs, expected)


@pytest.mark.parametrize("image_size", [48, 96, 40])
def test_faces_are_cropped_as_at_the_edge(image_size, assert_equal):
    rng = np.random.default_rng(image_size)
    jobs, expected, faces = [], [], []
    for k in range(10):
        image = random_image(rng, int(rng.integers(60, 250)), int(rng.integers(60, 200)), channels=4 if k % 2 else 3)
        box = (*map(int, rng.integers(-30, 200, 2)), *map(int, rng.integers(8, 200, 2)))
        angle = np.radians(rng.uniform(-50, 50))
        x, y = rng.uniform(20, 100, 2)
        eyes = ((float(x), float(y)), (float(x + 30 * np.cos(angle)), float(y + 30 * np.sin(angle))))
        transform = vars(CROP.box_transforms["d"])
        jobs.append(("cropFace", image, [box, transform, 48, eyes]))
        face = crop_face(np.ascontiguousarray(image[:, :, :3]), box, "d", CROP, eyes)
        faces.append(face)
        expected.append(face)
    assert_equal(jobs, expected)
    assert_equal(
        [("preprocessFace", np.ascontiguousarray(face), [image_size, 48]) for face in faces],
        [preprocess_face(face, image_size, 48) for face in faces],
    )


def test_the_input_of_the_detector_is_that_of_the_edge(assert_equal):
    rng = np.random.default_rng(2)
    jobs, expected = [], []
    for _ in range(12):
        image = random_image(rng, int(rng.integers(40, 300)), int(rng.integers(40, 200)), channels=4)
        height, width = image.shape[:2]
        side = int(rng.integers(8, 400))
        left, top = int(rng.integers(-side + 1, width)), int(rng.integers(-side + 1, height))
        jobs.append(("squareInput", image, [[0, 0, width, height], left, top, side]))
        expected.append(_square_input(np.ascontiguousarray(image[:, :, :3]), left, top, side))
    assert_equal(jobs, expected)
