import numpy as np
import pytest
from live import textured

from fer_edge.artifacts.contract import BoxTransform, CropConvention
from fer_edge.edge_runtime.crop import crop_face, preprocess_face, roll_degrees

CHECKERBOARD = np.indices((96, 96)).sum(axis=0).astype(np.uint8) % 2 * 255


def test_faces_are_reduced_to_the_training_resolution_before_the_input_size():
    large = np.kron(CHECKERBOARD, np.ones((2, 2), np.uint8))
    assert np.ptp(preprocess_face(large, 96, 48).astype(int)) <= 1  # a checkerboard finer than training faces turns gray
    assert preprocess_face(CHECKERBOARD, 96, 48) is CHECKERBOARD
    assert preprocess_face(np.zeros((48, 40, 3), np.uint8), 96, 48).shape == (96, 96, 3)


def test_a_crop_is_reduced_to_the_training_resolution():
    crop = crop_face(np.dstack([CHECKERBOARD] * 3), (0, 0, 96, 96), "haar", CropConvention())
    assert crop.shape == (48, 48, 3)  # as soft as a training face for every input size
    assert np.ptp(crop.astype(int)) <= 1


def test_a_crop_follows_the_box_transform_and_repeats_the_border():
    image = np.zeros((100, 100, 3), np.uint8)
    image[:, :10] = 50
    convention = CropConvention(box_transforms={"haar": BoxTransform(scale=2.0, shift_y=0.5)})
    face = crop_face(image, (0, 20, 20, 20), "haar", convention)
    assert face.shape == (40, 40, 3)  # from x -10, y 20
    assert (face[:, :20] == 50).all()
    assert (face[:, 20:] == 0).all()
    with pytest.raises(ValueError, match="no box transform for detector 'yunet'; available: haar"):
        crop_face(image, (0, 0, 5, 5), "yunet", convention)


@pytest.mark.parametrize("angle", [-30, -12, 12, 30])
def test_a_tilted_face_is_cropped_upright(angle):
    import cv2

    scene = np.zeros((200, 200, 3), np.uint8)
    cv2.rectangle(scene, (80, 80), (119, 99), (255, 255, 255), -1)  # the upper half of a face from 80, 80 to 120, 120
    rotation = cv2.getRotationMatrix2D((99.5, 99.5), -angle, 1)
    tilted = cv2.warpAffine(scene, rotation, (200, 200))
    eyes = tuple((float(x), float(y)) for x, y in (rotation @ np.array([[90, 110], [90, 90], [1, 1]])).T)
    assert roll_degrees(eyes) == pytest.approx(angle)
    upright, aligned, not_aligned = (
        crop_face(image, (80, 80, 40, 40), "haar", CropConvention(), eyes)
        for image, eyes in ((scene, None), (tilted, eyes), (tilted, None))
    )
    assert aligned.shape == upright.shape == (40, 40, 3)
    errors = [np.abs(face.astype(int) - upright).mean() for face in (aligned, not_aligned)]
    assert errors[0] < 12
    assert errors[0] < errors[1] / 2


def test_a_face_at_the_border_and_misread_eyes_still_give_a_crop():
    scene = textured()
    assert crop_face(scene, (-20, -20, 40, 40), "haar", CropConvention(), ((0.0, 5.0), (9.0, 7.0))).shape == (40, 40, 3)
    upside_down = crop_face(scene, (20, 20, 40, 40), "haar", CropConvention(), ((50.0, 30.0), (30.0, 30.0)))
    assert np.array_equal(upside_down, crop_face(scene, (20, 20, 40, 40), "haar", CropConvention()))


def test_enlarging_a_gray_face_gives_the_bytes_of_exact_interpolation():
    ramp = np.array([[0, 255], [255, 3]], np.uint8)
    # INTER_LINEAR of OpenCV's ARM build differs in 29 % of the pixels of such a resize.
    exact = [[0, 64, 191, 255], [64, 96, 160, 192], [191, 160, 97, 66], [255, 192, 66, 3]]
    assert preprocess_face(ramp, 4, 2).tolist() == exact
