"""fer-edge dev annotate: the faces on which teachers agree."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from click.testing import CliRunner

from fer_edge.artifacts import contract
from fer_edge.artifacts.face_annotations import AnnotatedFace
from fer_edge.edge_runtime.detectors.detection import Detection
from fer_edge.edge_runtime.images import write_image
from fer_edge.main import main
from fer_edge.train.dataset import DataError
from fer_edge.train.dataset_files import DatasetFiles
from fer_edge.train.detector.annotate import annotate, annotate_image


@dataclass
class Teacher:
    """A detector that returns fixed boxes."""

    name: str
    found: tuple[Detection, ...]
    needs_gray: bool = False

    def detect(self, image, min_face_px=32, previous_boxes=None):
        return list(self.found)


def test_two_teachers_that_agree_make_a_face_and_one_alone_a_region_to_ignore():
    eyes = ((35.0, 40.0), (55.0, 40.0))
    haar = Teacher("haar", (Detection((20, 20, 50, 50)), Detection((200, 100, 30, 30))))
    other = Teacher("none", (Detection((24, 20, 50, 50), eyes),))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(contract.BOX_TRANSFORMS, "none", contract.BoxTransform())
        image = annotate_image("a.png", np.zeros((240, 320, 3), np.uint8), [haar, other])
    assert image.faces == (AnnotatedFace((22.0, 20.0, 50.0, 50.0), (35.0, 40.0, 55.0, 40.0)),)
    assert image.ignore_px == ((200.0, 100.0, 30.0, 30.0),)


def test_a_large_face_in_the_middle_needs_one_teacher_only():
    haar, silent = Teacher("haar", (Detection((60, 40, 100, 100)),)), Teacher("haar", ())
    image = annotate_image("a.png", np.zeros((176, 220, 3), np.uint8), [haar, silent])
    assert [face.box_px for face in image.faces] == [(60.0, 40.0, 100.0, 100.0)]


def test_a_sure_detection_of_yunet_needs_no_other_teacher():
    yunet = Teacher("yunet", (Detection((10, 10, 40, 40), None, 0.8), Detection((200, 100, 40, 40), None, 0.79)))
    image = annotate_image("a.png", np.zeros((240, 320, 3), np.uint8), [yunet, Teacher("haar", ())])
    assert (len(image.faces), len(image.ignore_px)) == (1, 1)
    assert image.faces[0].box_px[0] < 60 < image.ignore_px[0][0]


def test_a_sure_box_of_an_annotated_face_is_not_a_second_face():
    haar, own = (Teacher(name, (Detection((100, 100, 100, 100)),)) for name in ("haar", "own"))
    yunet = Teacher("yunet", (Detection((100, 145, 100, 100), None, 0.9),))
    image = annotate_image("a.png", np.zeros((480, 640, 3), np.uint8), [haar, own, yunet])
    assert ([face.box_px for face in image.faces], image.ignore_px) == ([(100.0, 100.0, 100.0, 100.0)], ())


def test_two_searches_of_yunet_are_one_teacher():
    yunet = Teacher("yunet", (Detection((10, 10, 40, 40), None, 0.5),))
    image = annotate_image("a.png", np.zeros((240, 320, 3), np.uint8), [yunet, yunet, Teacher("haar", ())])
    assert (len(image.faces), len(image.ignore_px)) == (0, 1)


def test_teachers_with_a_box_transform_are_accepted_and_others_are_an_error():
    own = Teacher("own", (Detection((20, 20, 50, 50)),))
    assert len(annotate_image("a.png", np.zeros((240, 320, 3), np.uint8), [own]).faces) == 1
    with pytest.raises(ValueError, match="no box transform for detector 'mtcnn'"):
        annotate_image("a.png", np.zeros((240, 320, 3), np.uint8), [replace(own, name="mtcnn")])


def test_faces_that_are_smaller_than_wanted_are_ignored():
    yunet = Teacher("yunet", (Detection((10, 10, 40, 40), None, 0.9), Detection((100, 10, 20, 20), None, 0.9)))
    image = annotate_image("a.png", np.zeros((240, 320, 3), np.uint8), [yunet], min_face_px=30)
    assert (len(image.faces), len(image.ignore_px)) == (1, 1)
    assert image.ignore_px[0][0] > 90


def test_boxes_of_a_large_image_are_in_its_own_pixels():
    haar = Teacher("haar", (Detection((100, 100, 64, 64)),))
    image = annotate_image("a.png", np.zeros((960, 2560, 3), np.uint8), [haar])  # searched at 1280 pixels
    assert image.faces[0].box_px == (200.0, 200.0, 128.0, 128.0)


def test_a_folder_without_faces_is_an_error(tmp_path):
    write_image(tmp_path / "wall.png", np.full((40, 40), 90, np.uint8))
    with pytest.raises(DataError, match=r"no face in the 1 images of .* Use it as backgrounds"):
        annotate(DatasetFiles(tmp_path), [Teacher("haar", ())], "CC0-1.0")


def test_annotating_names_a_missing_teacher_and_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "none"))
    (tmp_path / "images").mkdir()
    arguments = ["dev", "annotate", str(tmp_path / "images"), "--license", "CC0", "--teachers"]
    result = CliRunner().invoke(main, [*arguments, "yunet"])
    assert result.exit_code == 1
    assert "the YuNet model was not found" in result.output
    result = CliRunner().invoke(main, [*arguments, "haar"])
    assert (result.exit_code, "has no images to annotate" in result.output) == (1, True)
