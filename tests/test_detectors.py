import numpy as np
import pytest

from fer_edge.edge_runtime.detectors.blazeface import BlazeFace, _anchors, _square_input, _suppress, blazeface_model
from fer_edge.edge_runtime.detectors.detector import open_detector
from fer_edge.edge_runtime.detectors.tiling import TileScheduler
from fer_edge.train.synthetic import synthetic_image

EYES = (13, 15, 17, 15)


@pytest.mark.parametrize("label", ["happy", "angry", "neutral"])
def test_haar_finds_the_face_at_its_position(label):
    x, y, width, height = open_detector("haar").detect(synthetic_image(label, seed=2))[0].box_px
    assert abs(x + width / 2 - 320) < 30
    assert abs(y + height / 2 - 240) < 30
    assert 180 < width < 280


def test_overlapping_blazeface_boxes_become_one_box_weighted_by_score():
    rows = np.array([[10, 10, 20, 20, *EYES, 0.75], [12, 10, 20, 20, *EYES, 0.25], [60, 60, 20, 20, *EYES, 0.9]])
    merged = _suppress(rows)
    assert merged == pytest.approx(np.array([[60, 60, 20, 20, *EYES, 0.9], [10.5, 10, 20, 20, *EYES, 0.75]]))
    assert _suppress(np.zeros((0, 9))).shape == (0, 9)


def test_blazeface_anchors_and_input():
    anchors = _anchors()
    assert anchors.shape == (896, 2)
    assert anchors[0] == pytest.approx([0.5 / 16, 0.5 / 16])
    assert anchors[2] == pytest.approx([1.5 / 16, 0.5 / 16])
    square = _square_input(np.full((480, 640, 3), 255, np.uint8), 0, -80, 640)
    assert (square[0, :16] == -1).all()
    assert square[0, 16:112] == pytest.approx(1)
    assert (square[0, 112:] == -1).all()


@pytest.fixture
def blazeface():
    """A BlazeFace whose network sees the faces of ``seen``: side of the square -> (box, score)."""
    network = object.__new__(BlazeFace)
    network._min_score, network._scheduler, network.seen = 0.65, TileScheduler(), {}

    def infer(image, left, top, side):
        rows = [[*box, *EYES, score] for box, score in network.seen.get(side, [])]
        return np.array(rows, np.float64).reshape(-1, 9)

    network._infer = infer
    return network


def test_the_score_of_a_blazeface_face_is_the_mean_of_two_looks(blazeface):
    face, collar = (100, 100, 200, 200), (300, 300, 100, 100)
    blazeface.seen = {480: [(face, 0.4), (collar, 0.9)], 600: [(face, 0.7)], 400: [(face, 0.8)], 300: [(collar, 0.9)]}
    (found,) = blazeface.detect(np.zeros((480, 480, 3), np.uint8), 96)
    assert (found.box_px, found.score) == (face, pytest.approx(0.75))  # the collar is seen in one of its two squares only
    blazeface.seen[400] = [(face, 0.55)]
    assert blazeface.detect(np.zeros((480, 480, 3), np.uint8), 96) == []


def test_a_known_face_is_examined_at_its_previous_box_and_not_twice(blazeface):
    face = (100, 100, 200, 200)
    blazeface.seen = {480: [(face, 0.9)], 600: [(face, 0.7)], 400: [(face, 0.8)], 660: [(face, 0.9)]}
    (found,) = blazeface.detect(np.zeros((480, 480, 3), np.uint8), 60, [(120, 90, 220, 220)])
    assert found.score == pytest.approx(0.85)


@pytest.mark.skipif(blazeface_model() is None, reason="BlazeFace is not installed")
def test_blazeface_finds_the_face_at_its_position():
    x, y, width, height = open_detector("blazeface").detect(synthetic_image("happy", seed=1))[0].box_px
    assert abs(x + width / 2 - 320) < 30
    assert abs(y + height / 2 - 265) < 30


def test_an_unknown_detector_is_rejected():
    with pytest.raises(ValueError, match="unknown detector 'mtcnn'; choose one of: auto, blazeface, yunet, haar, own, none"):
        open_detector("mtcnn")
