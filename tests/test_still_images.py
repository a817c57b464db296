import numpy as np
import pytest
from live import FakeClassifier, FakeDetector, FakeSource, flat_image, frame

from fer_edge.edge_runtime.cameras.frame import Frame
from fer_edge.edge_runtime.detectors.detection import Detection
from fer_edge.edge_runtime.live.detect_and_track import DetectAndTrack, DetectionInterval
from fer_edge.edge_runtime.live.pipeline import Pipeline
from fer_edge.edge_runtime.live.stats import PipelineStats


def still(width, height):
    return Frame("photo.jpg", None, flat_image(90, width, height))


def find(detector, image, min_face_px=None, max_faces=None):
    return DetectAndTrack(detector, DetectionInterval(), min_face_px, max_faces, PipelineStats()).update(image)


class TightCropDetector(FakeDetector):
    """Finds a face only in images with a border, and keeps its arguments."""

    def __init__(self):
        super().__init__()
        self.shapes = []

    def detect(self, image, min_face_px=32, previous_boxes=None):
        self.sizes.append(min_face_px)
        self.shapes.append(image.shape)
        return [Detection((55, 60, 90, 95), ((70.0, 80.0), (110.0, 82.0)), 0.8)] if image.shape[0] > 100 else []


@pytest.mark.parametrize(("width", "height", "expected"), [(4000, 3000, 188), (320, 240, 32), (1280, 720, 45)])
def test_the_smallest_face_of_an_image_is_relative_to_its_shorter_side(width, height, expected):
    detector = FakeDetector()
    find(detector, still(width, height))
    find(detector, still(width, height), min_face_px=20)
    assert detector.sizes == [expected, 20]


def test_an_image_without_a_face_is_searched_once_more_with_a_border():
    detector = TightCropDetector()
    (face,) = find(detector, still(120, 100))
    assert detector.shapes == [(100, 120), (160, 180)]
    assert detector.sizes == [32, 40]
    assert face.box_px == (25, 30, 90, 95)
    assert face.eyes_px == ((40.0, 50.0), (80.0, 52.0))
    assert face.score == 0.8
    assert find(detector, frame(0, width=120, height=100)) == []  # a camera's frame is not


def test_images_keep_all_faces_and_frames_the_16_largest():
    crowd = FakeDetector(*((x, 0, 9, 9) for x in range(0, 400, 20)))
    assert len(find(crowd, still(400, 100))) == 20
    assert len(find(crowd, frame(0, width=400, height=100))) == 16
    assert len(find(crowd, still(400, 100), max_faces=3)) == 3


def test_a_frame_with_more_faces_than_the_maximum_is_reported_once():
    crowd = FakeDetector(*((x, 0, 9, 9) for x in range(0, 400, 20)))
    messages = []
    source = FakeSource([frame(number, width=400, height=100) for number in range(3)])
    pipeline = Pipeline(source, crowd, FakeClassifier(), on_message=messages.append)
    assert [len(labeled.faces) for labeled in pipeline] == [16, 16, 16]
    assert messages == [f"'{frame(0).source}' shows 20 faces; the 16 largest are labeled. For more, pass --max-faces"]


def test_an_image_without_a_face_points_to_detector_none_once():
    class Blind(FakeDetector):
        def detect(self, image, min_face_px=32, previous_boxes=None):
            return []

    messages = []
    pipeline = Pipeline(FakeSource([still(64, 64)] * 3), Blind(), FakeClassifier(), on_message=messages.append)
    assert [len(labeled.faces) for labeled in pipeline] == [0, 0, 0]
    assert messages == ["no face found in 'photo.jpg'. If it shows only a face, pass --detector none"]


def test_the_score_of_a_face_reaches_the_result():
    class Sure(FakeDetector):
        def detect(self, image, min_face_px=32, previous_boxes=None):
            return [Detection((10, 10, 40, 40), None, 0.8125)]

    for image in (still(64, 64), frame(0)):
        (labeled,) = Pipeline(FakeSource([image]), Sure(), FakeClassifier())
        assert labeled.faces[0].score == 0.8125
        assert labeled.faces[0].as_dict()["score"] == pytest.approx(0.812, abs=1e-3)


def test_a_small_image_with_a_border_is_still_an_image():
    assert find(TightCropDetector(), Frame("x", None, np.zeros((1, 1, 3), np.uint8))) == []
