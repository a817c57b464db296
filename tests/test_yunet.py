import os

import numpy as np
import pytest

from fer_edge.edge_runtime.detectors import yunet
from fer_edge.edge_runtime.detectors.detector import open_detector
from fer_edge.edge_runtime.detectors.yunet import yunet_model
from fer_edge.train.detector.annotate import open_teachers


class FakeNetwork:
    """Returns what OpenCV's FaceDetectorYN returns: box, right eye, left eye, nose, mouth corners, score."""

    def __init__(self, *settings):
        self.settings = settings
        self.sizes = []

    def setInputSize(self, size):  # noqa: N802
        self.sizes.append(size)

    def detect(self, image):
        assert (image.shape[1], image.shape[0]) == self.sizes[-1]
        self.color = image[0, 0].tolist()
        small = [1, 1, 4, 4, 2, 2, 4, 2, *[0] * 6, 0.9]
        large = [10, 20, 30, 40, 32, 30, 18, 31, *[0] * 6, 0.8]
        return 1, np.array([small, large], np.float32)


@pytest.fixture
def network(monkeypatch, tmp_path):
    import cv2

    networks = []

    class Factory:
        @staticmethod
        def create(*settings):
            networks.append(FakeNetwork(*settings))
            return networks[-1]

    monkeypatch.setattr(cv2, "FaceDetectorYN", Factory)
    model = tmp_path / "yunet.onnx"
    model.touch()
    return str(model), networks


def test_yunet_boxes_and_eyes_are_in_pixels_of_the_image(network):
    model, networks = network
    detector = open_detector(model)
    image = np.full((480, 640, 3), (10, 20, 30), np.uint8)
    (found,) = detector.detect(image, min_face_px=60)  # the small one is below that
    assert (networks[0].settings[0], networks[0].settings[3]) == (model, 0.6)
    assert networks[0].sizes == [(427, 320)]  # two thirds: faces of 60 pixels get 40
    assert found.box_px == (15, 30, 45, 60)
    assert found.score == pytest.approx(0.8)
    assert np.allclose(found.eyes_px, ((27.0, 46.5), (48.0, 45.0)))  # the one further left first
    assert networks[0].color == [30, 20, 10]  # BGR
    assert len(detector.detect(image[:, :, 0], min_face_px=1)) == 2  # gray works too


def test_large_images_are_scaled_down_for_yunet(network):
    detector = open_detector(network[0])
    detector.detect(np.zeros((4320, 7680, 3), np.uint8), min_face_px=1)
    assert network[1][0].sizes == [(640, 360)]


def test_as_a_teacher_yunet_searches_at_two_sizes_and_reports_doubtful_faces(network):
    found = open_teachers([network[0], "haar"])
    assert [teacher.name for teacher in found] == ["yunet", "yunet", "haar"]
    for teacher in found[:2]:
        teacher.detect(np.zeros((960, 1280, 3), np.uint8), min_face_px=32)
    assert [one.sizes for one in network[1] if one.sizes] == [[(640, 480)], [(1280, 960)]]
    assert [one.settings[3] for one in network[1] if one.sizes] == [0.4, 0.4]


def test_the_yunet_model_is_found_by_its_variable_and_its_absence_is_reported(monkeypatch, tmp_path):
    monkeypatch.setenv(yunet.MODEL_VARIABLE, str(tmp_path / "none.onnx"))
    assert yunet_model() == tmp_path / "none.onnx"
    with pytest.raises(ImportError, match=r"the YuNet model was not found: no file .*none.onnx.*--detector FILE.onnx"):
        open_detector("yunet")
    monkeypatch.delenv(yunet.MODEL_VARIABLE)
    monkeypatch.setattr(yunet, "SEARCH_FOLDERS", (tmp_path,))
    monkeypatch.setattr(yunet, "PACKAGES", ())
    assert yunet_model() is None
    (tmp_path / yunet.MODEL_FILES[0]).touch()
    assert yunet_model() == tmp_path / yunet.MODEL_FILES[0]


def test_a_file_that_is_not_a_network_is_rejected(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"not a network")
    with pytest.raises(ImportError, match="as YuNet"):
        open_detector(str(tmp_path / "bad.onnx"))


def test_a_path_that_is_not_utf_8_is_rejected(network, tmp_path):
    path = tmp_path / os.fsdecode(b"yunet\xe9.onnx")
    path.touch()
    with pytest.raises(ImportError, match="its path is not UTF-8"):
        open_detector(str(path))


def test_as_the_only_teacher_yunet_searches_once_with_its_usual_threshold(network):
    (teacher,) = open_teachers([network[0]])
    assert teacher.name == "yunet"
    assert [one.settings[3] for one in network[1]] == [0.6]
