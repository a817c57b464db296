import numpy as np
import pytest

from fer_edge.edge_runtime.detectors import haar
from fer_edge.edge_runtime.detectors.detector import open_detector
from fer_edge.train.synthetic import synthetic_image

FRONTAL, SECOND, PROFILE = haar.FRONTAL.file, haar.SECOND_FRONTAL.file, haar.PROFILE.file
SQUARE = (haar.EXAMINED_SIDE_PX, haar.EXAMINED_SIDE_PX)
CANDIDATE = (19, 19, 64, 64)  # in the square that is examined


class FakeCascade:
    """Returns the hits that are scripted for an image size, and keeps the images that it searched."""

    def __init__(self, hits):
        self.hits = hits
        self.images = []
        self.steps = []

    def detectMultiScale2(self, image, scale, neighbors, minSize, maxSize=None):  # noqa: N802, N803
        self.images.append(image)
        self.steps.append(scale)
        found = self.hits.get(image.shape, [])
        return [box for box, _ in found], [count for _, count in found]


@pytest.fixture
def detector_with():
    def build(min_score=0.5, **hits):
        detector = haar.Haar(min_score)
        names = {"frontal": FRONTAL, "second": SECOND, "profile": PROFILE}
        detector._classifiers = {file: FakeCascade(hits.get(name, {})) for name, file in names.items()}
        return detector

    return build


IMAGE = np.zeros((200, 300), np.uint8)
BOX = (100, 50, 80, 80)


def test_the_score_is_the_share_of_hits_of_the_second_frontal_cascade(detector_with):
    detector = detector_with(frontal={IMAGE.shape: [(BOX, 99)]}, second={SQUARE: [(CANDIDATE, 18), ((0, 0, 50, 50), 60)]})
    (face,) = detector.detect(IMAGE)
    assert (face.box_px, face.score) == (BOX, 0.75)  # 18 / (18 + 6); the hit in the corner is another face


def test_a_candidate_that_the_second_cascade_does_not_see_is_dropped_and_the_fallbacks_search(detector_with):
    detector = detector_with(frontal={IMAGE.shape: [(BOX, 99)]}, second={IMAGE.shape: [], SQUARE: [(CANDIDATE, 5)]})
    assert detector.detect(IMAGE) == []
    assert len(detector._classifiers[PROFILE].images) == 2  # the second one mirrored
    (face,) = detector_with(0.4, frontal={IMAGE.shape: [(BOX, 99)]}, second={SQUARE: [(CANDIDATE, 5)]}).detect(IMAGE)
    assert face.score == pytest.approx(5 / 11)


def test_the_second_frontal_cascade_searches_where_the_first_finds_nothing(detector_with):
    (face,) = detector_with(second={IMAGE.shape: [(BOX, 9)], SQUARE: [(CANDIDATE, 6)]}).detect(IMAGE)
    assert face.score == 0.5
    assert face.box_px == (99, 49, 82, 82)  # 1.02 times as large: the box of the first cascade


def test_the_box_of_a_mirrored_profile_is_mirrored_back(detector_with):
    left = detector_with(profile={IMAGE.shape: [(BOX, 14)]})
    (face,) = left.detect(IMAGE)
    assert (face.score, face.box_px) == (0.7, (90, 55, 74, 74))
    right = detector_with()
    right._classifiers[PROFILE].detectMultiScale2 = lambda image, *settings, **sizes: (
        ([(120, 50, 80, 80)], [14]) if image.flags["OWNDATA"] else ([], [])
    )
    (face,) = right.detect(IMAGE)
    x, _, width, _ = face.box_px
    assert 300 - (x + width / 2) == pytest.approx(120 + 40 - 0.165 * 80, abs=1)


def test_frames_are_searched_in_larger_steps_than_images_and_the_score_stays_comparable(detector_with):
    detector = detector_with(profile={IMAGE.shape: [(BOX, 14)]})
    assert detector.detect(IMAGE)[0].score == 0.7
    assert detector._classifiers[FRONTAL].steps == [1.1]
    detector = detector_with()
    assert detector.detect(IMAGE, 200, []) == []
    assert detector._classifiers[FRONTAL].steps == [1.25]
    profile = detector_with(profile={IMAGE.shape: [(BOX, 6)]})
    (face,) = profile._first_hits(IMAGE, (0, 0, 300, 200), 32, 32, [haar.PROFILE], haar.FRAME_SEARCH)
    assert face.score == pytest.approx(0.7, abs=0.01)  # 6 hits of fewer sizes count as 14


def test_overlapping_faces_become_the_one_with_the_higher_score(detector_with):
    boxes = [((100, 50, 80, 80), 3), ((90, 40, 100, 100), 3)]
    detector = detector_with(frontal={IMAGE.shape: boxes}, second={SQUARE: [(CANDIDATE, 18)]})
    assert len(detector.detect(IMAGE)) == 1


def test_a_large_photo_of_one_face_gives_one_face():
    import cv2

    photo = cv2.resize(synthetic_image("happy", seed=2), (4000, 3000), interpolation=cv2.INTER_CUBIC)
    (face,) = open_detector("haar").detect(photo, 3000 // 16)
    assert face.score > 0.7
    assert abs(face.box_px[0] + face.box_px[2] / 2 - 2000) < 200


def test_known_faces_are_found_again_near_their_boxes():
    detector = open_detector("haar")
    image = synthetic_image("happy", seed=2)
    (face,) = detector.detect(image, 60)
    (again,) = detector.detect(image, 60, [face.box_px])
    assert abs(again.box_px[0] - face.box_px[0]) < 20
    assert again.score > 0.5


@pytest.mark.parametrize("score", [-0.1, 1.5])
def test_a_score_outside_0_to_1_is_rejected(score):
    with pytest.raises(ValueError, match=r"min_face_score must be 0..1. Received"):
        open_detector("haar", score)
