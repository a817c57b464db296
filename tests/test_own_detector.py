"""The search of the own detector, with a network that sees white squares."""

import math
import shutil
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from fer_edge.artifacts.contract import BoxTransform, CropConvention, ModelError
from fer_edge.edge_runtime.detectors import own
from fer_edge.edge_runtime.detectors.detector import open_detector
from fer_edge.edge_runtime.detectors.detector_network import BUNDLED_FILE, _Output, own_detector_model
from fer_edge.edge_runtime.detectors.own import OwnDetector, part_around, search_parts
from fer_edge.edge_runtime.find_model import default_model
from fer_edge.edge_runtime.images import import_cv2
from fer_edge.train.synthetic import synthetic_image

INPUT = (128, 160)
STRIDE = 8


class SquareNetwork:
    """Sees white squares from 10 to 150 pixels. The logit is that of ``logits`` at the number of the look, else 4."""

    def __init__(self, path):
        self.contract = SimpleNamespace(
            height=INPUT[0],
            width=INPUT[1],
            strides=(STRIDE,),
            score_threshold=0.5,
            second_look_threshold=0.2,
            score_calibration=(1.0, 0.0),
        )
        self.logits, self.calls = {}, 0

    def infer(self, pixels):
        heat = np.full((INPUT[0] // STRIDE, INPUT[1] // STRIDE, 1), -9.0, np.float32)
        geometry = np.zeros((*heat.shape[:2], 7), np.float32)
        stats, centers = import_cv2().connectedComponentsWithStats((pixels > 128).astype(np.uint8))[2:]
        for (_, _, width, height, _), (x, y) in list(zip(stats, centers, strict=True))[1:]:
            if 10 <= max(width, height) <= 150:
                column, row = int((x + 0.5) // STRIDE), int((y + 0.5) // STRIDE)
                heat[row, column] = self.logits.get(self.calls, 4.0)
                offset = (x + 0.5) / STRIDE - column - 0.5, (y + 0.5) / STRIDE - row - 0.5
                geometry[row, column] = (*offset, math.log(max(width, height) / 32), -0.2, -0.1, 0.2, -0.1)
        self.calls += 1
        return [heat], [geometry]


@pytest.fixture
def squares(monkeypatch, tmp_path):
    monkeypatch.setattr(own, "DetectorNetwork", SquareNetwork)
    return lambda **options: OwnDetector(tmp_path / "any.tflite", **options)


def draw(size, *boxes):
    width, height = size
    image = np.zeros((height, width), np.uint8)
    for x, y, side in boxes:
        image[y : y + side, x : x + side] = 255
    return image


def test_a_face_gets_a_second_look_and_has_its_box_and_eyes_in_pixels_of_the_image(squares):
    network = squares()
    (face,) = network.detect(draw((640, 480), (200, 100, 100)), 80)
    assert face.box_px == pytest.approx((200, 100, 100, 100), abs=3)
    assert np.array(face.eyes_px) == pytest.approx(np.array([(230, 140), (270, 140)]), abs=3)
    assert face.score == pytest.approx(1 / (1 + math.exp(-4)))
    assert network.looks == 2


def test_gray_and_color_images_give_the_same_faces(squares):
    gray = draw((640, 480), (200, 100, 80))
    assert squares().detect(gray, 60) == squares().detect(np.repeat(gray[:, :, None], 3, axis=2), 60)


@pytest.mark.parametrize(
    ("first", "second", "score"), [(-1.0, 3.0, 1 / (1 + math.exp(-1))), (-1.0, 0.5, None), (-2.0, 9.0, None)]
)
def test_the_score_is_that_of_the_mean_logit_of_two_looks(squares, first, second, score):
    network = squares()
    network._network.logits = {0: first, 1: second}  # below -1.39, a candidate gets no second look
    faces = network.detect(draw((640, 480), (200, 100, 100)), 80)
    assert [face.score for face in faces] == pytest.approx([score] if score else [])


def test_min_score_replaces_the_threshold_of_the_file(squares):
    network = squares(min_score=0.1)
    network._network.logits = {0: -2.0, 1: -2.0}
    found = network.detect(draw((640, 480), (200, 100, 100)), 80)
    assert [face.score for face in found] == pytest.approx([1 / (1 + math.exp(2))])


def test_small_faces_are_found_in_tiles_and_only_if_they_are_wanted(squares):
    image = draw((640, 480), (300, 230, 36))
    network = squares()
    assert network.detect(image, 80) == []
    assert network.looks == 1
    (face,) = network.detect(image, 32)
    assert face.box_px == pytest.approx((300, 230, 36, 36), abs=2)


def test_an_image_with_200_faces_has_200_faces(squares):
    boxes = [(20 + 190 * (k % 20), 30 + 280 * (k // 20), 100) for k in range(200)]
    found = squares().detect(draw((3840, 2880), *boxes), 90)
    assert len(found) == 200
    assert {round(face.box_px[0] / 190) for face in found} == set(range(20))


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (7680, 4320), (48, 48)])
def test_images_of_any_size_are_searched(squares, size):
    assert squares().detect(draw(size), 32) == []
    assert squares().detect(draw(size), 270, []) == []


def test_a_face_of_an_8k_frame_is_found(squares):
    (face,) = squares().detect(draw((7680, 4320), (3000, 2000, 600)), 540)
    assert face.box_px == pytest.approx((3000, 2000, 600, 600), rel=0.05)


def test_a_known_face_takes_one_look_and_every_third_detection_searches_the_frame(squares):
    image = draw((640, 480), (200, 100, 100), (450, 300, 110))
    network, boxes, looks = squares(), [(205, 96, 104, 104)], []
    for _ in range(3):
        before = network.looks
        faces = network.detect(image, 80, boxes)
        looks.append(network.looks - before)
    assert looks == [1, 1, 3]
    expected = [pytest.approx((450, 300, 110, 110), abs=3), pytest.approx((200, 100, 100, 100), abs=3)]
    assert [face.box_px for face in faces] == expected


def test_a_lost_face_starts_a_search_of_the_frame(squares):
    (face,) = squares().detect(draw((640, 480), (450, 300, 90)), 60, [(50, 50, 80, 80)])
    assert face.box_px == pytest.approx((450, 300, 90, 90), abs=3)


def test_tiles_of_a_frame_are_searched_in_turn(squares):
    image, network = draw((640, 480), (20, 430, 36)), squares()
    found = [bool(network.detect(image, 36, [])) for _ in range(5)]  # 3 x 3 tiles, 2 per detection; the seventh has the face
    assert found == [False, False, False, True, False]


def test_a_lost_face_starts_a_search_of_the_frame_and_one_tile(squares):
    network = squares()
    network.detect(draw((640, 480)), 60, [(50, 50, 80, 80)])
    assert network.looks == 3  # around the face, the frame, a tile


def test_a_frame_gives_at_most_eight_new_faces_a_second_look(squares):
    boxes = [(10 + 125 * (k % 5), 10 + 120 * (k // 5), 90) for k in range(15)]
    network = squares()
    assert len(network.detect(draw((640, 480), *boxes), 80, [])) == 8
    assert network.looks == 9


def test_parts_cover_the_image_and_overlap_by_the_smallest_face_of_the_larger_parts():
    assert search_parts(640, 480, 80, INPUT) == [(0, 0, 640, 480)]
    assert search_parts(1280, 720, 160, INPUT) == [(0, 0, 1280, 720)]
    sizes = ((640, 480, 60), (1280, 720, 90), (480, 640, 60))  # frames and the smallest face of a live run
    assert [len(search_parts(*size, INPUT)) for size in sizes] == [5, 5, 3]
    parts = search_parts(640, 480, 48, INPUT)
    assert len(parts) == 5
    assert parts[1] == (0, 0, 384, 307)
    assert {(x + w, y + h) for x, y, w, h in parts[1:]} >= {(640, 480)}
    xs = sorted({x for x, *_ in parts[1:]})
    assert all(later - earlier <= 384 - 80 for earlier, later in pairwise(xs))
    assert len(search_parts(7680, 4320, 1, INPUT)) < 6000  # never enlarged, whatever the smallest face


def test_the_part_around_a_face_is_inside_the_image():
    assert part_around((200, 100, 80, 80), 640, 480) == (140, 60, 200, 160)
    assert part_around((-40, 440, 80, 80), 640, 480) == (0, 400, 100, 80)
    assert part_around((2000, 2000, 80, 80), 640, 480) == (639, 479, 1, 1)


def test_a_classifier_is_not_a_detector(tmp_path):
    path = tmp_path / "classifier.tflite"
    shutil.copy(default_model(), path)
    with pytest.raises(ModelError, match="this model is an expression classifier, not a face detector"):
        open_detector(str(path))


def test_a_missing_or_damaged_detector_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no model file .*none\.tflite"):
        open_detector(str(tmp_path / "none.tflite"))
    (tmp_path / "bad.tflite").write_bytes(b"\x1c\0\0\0TFL3" + bytes(64))
    with pytest.raises(ModelError, match=r"no contract inside .*bad\.tflite"):
        open_detector(str(tmp_path / "bad.tflite"))


def test_auto_is_the_own_detector():
    assert open_detector("auto").name == open_detector().name == "own"


def test_the_package_has_a_detector_of_at_most_100_kb_that_finds_drawn_faces(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    path = own_detector_model()
    assert path == BUNDLED_FILE
    assert path.stat().st_size <= 100_000
    for seed, label in enumerate(("happy", "surprise", "neutral", "sad")):
        (face,) = OwnDetector().detect(synthetic_image(label, seed), 60)
        x, y, width, height = face.box_px
        assert (x + width / 2, y + height / 2) == pytest.approx((320, 250), abs=40)
        assert face.score > 0.9


def test_the_own_detector_must_be_installed(monkeypatch):
    monkeypatch.setattr(own, "own_detector_model", lambda: None)
    with pytest.raises(ImportError, match=r"the package of fer-edge lacks its file face_detector_nano.tflite.*--detector haar"):
        OwnDetector()


def test_a_contract_without_the_own_detector_uses_the_box_of_haar():
    haar = BoxTransform(scale=1.1)
    assert CropConvention(box_transforms={"haar": haar}).box_transform("own") == haar
    assert CropConvention(box_transforms={"haar": haar, "own": BoxTransform(0.9)}).box_transform("own") == BoxTransform(0.9)


def test_integer_outputs_become_real_values():
    output = _Output(np.array([-128, 127], np.int8), 0.5, -3)
    assert output.values().tolist() == [-62.5, 65.0]
    real = np.array([1.5], np.float32)
    assert _Output(real, 0.0, 0).values() is real
