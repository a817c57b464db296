import numpy as np
import pytest

from fer_edge.artifacts.contract import BoxTransform, CropConvention
from fer_edge.edge_runtime.crop import crop_face
from fer_edge.edge_runtime.detectors.box_transform import derive_box_transform
from fer_edge.edge_runtime.detectors.detection import Detection


class TightDetector:
    """Finds the white square inside each face, which differs from the crop."""

    name = "tight"
    needs_gray = False

    def detect(self, image, min_face_px=32, previous_boxes=None):
        rows, columns = np.nonzero(image[:, :, 0] > 200)
        if not len(rows):
            return []
        x, y = int(columns.min()), int(rows.min())
        return [Detection((x, y, int(columns.max()) + 1 - x, int(rows.max()) + 1 - y))]


def face(value=255):
    image = np.zeros((48, 48), np.uint8)
    image[20:44, 12:36] = value  # half as large as the crop, and lower by an eighth of it
    return image


def test_the_box_transform_of_a_detector_is_measured():
    fit = derive_box_transform([face()] * 60, TightDetector())
    assert (fit.faces, fit.found) == (60, 60)
    assert fit.transform.scale == pytest.approx(2.0, abs=0.03)
    assert fit.transform.shift_x == pytest.approx(0.0, abs=0.01)
    assert fit.transform.shift_y == pytest.approx(-1 / 3, abs=0.01)


def test_the_measured_transform_reproduces_the_training_face():
    fit = derive_box_transform([face()] * 60, TightDetector())
    image = np.zeros((400, 400, 3), np.uint8)
    image[100:196, 200:296] = np.kron(face(), np.ones((2, 2), np.uint8))[:, :, None]
    (found,) = TightDetector().detect(image)
    cut = crop_face(image, found.box_px, "tight", CropConvention(box_transforms={"tight": fit.transform}))
    assert np.abs(cut[:, :, 0].astype(int) - face()).mean() < 10
    plain = crop_face(image, found.box_px, "tight", CropConvention(box_transforms={"tight": BoxTransform()}))
    assert np.abs(np.resize(plain[:, :, 0], (48, 48)).astype(int) - face()).mean() > 100


def test_a_detector_that_finds_too_few_faces_is_rejected():
    with pytest.raises(ValueError, match="tight found 0 of 60 training faces"):
        derive_box_transform([face(0)] * 60, TightDetector())
