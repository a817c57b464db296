import numpy as np
import pytest
from conftest import write_class_folders

import fer_edge
from fer_edge.artifacts.contract import BoxTransform, CropConvention
from fer_edge.artifacts.reporter import Reporter
from fer_edge.edge_runtime.detectors.detection import Detection
from fer_edge.edge_runtime.detectors.detector import open_detector
from fer_edge.edge_runtime.images import read_image, write_image
from fer_edge.train.dataset import DataError
from fer_edge.train.photo_faces import FaceFinder, PhotoCropper, SampledImage
from fer_edge.train.read_dataset import load_faces, read_faces
from fer_edge.train.read_options import ReadOptions
from fer_edge.train.synthetic import synthetic_image


class FakeDetector:
    """Finds a face of 40 x 40 pixels at each bright pixel."""

    name = "haar"
    needs_gray = True

    def detect(self, image, min_face_px=32, previous_boxes=None):
        rows, columns = np.nonzero(image > 250)
        return [Detection((int(x), int(y), 40, 40)) for y, x in zip(rows, columns, strict=True)]


def photo(*faces, height=120, width=160):
    """A gray photo with faces at (x, y). Each column of the photo has another brightness."""
    image = np.repeat(np.tile(np.arange(width, dtype=np.uint8), (height, 1))[:, :, None], 3, axis=2)
    for x, y in faces:
        image[y, x] = 255
    return image


@pytest.fixture
def detect_bright(monkeypatch):
    monkeypatch.setattr("fer_edge.train.photo_faces.open_detector", lambda name: FakeDetector())


def write_photos(root, faces_of):
    for name, faces in faces_of.items():
        write_image(root / name, photo(*faces))
    return root


def test_a_crop_is_the_detectors_box_under_the_crop_convention():
    crop = CropConvention("haar", 30, {"haar": BoxTransform(scale=0.5)})
    cropper = PhotoCropper(FaceFinder(FakeDetector()), crop)
    face = cropper.cut(photo((60, 40)))
    assert face.shape == (20, 20, 3)
    assert face[0, :3, 0].tolist() == [70, 71, 72]


def test_photos_are_cropped_and_what_was_found_is_counted(tmp_path, detect_bright):
    found = {
        "bored/one.png": [(60, 40)],
        "bored/none.png": [],
        "calm/two.png": [(10, 10), (100, 70)],
        "calm/one.png": [(60, 40)],
    }
    write_photos(tmp_path, found)
    write_image(tmp_path / "calm" / "crop.png", np.zeros((48, 48), np.uint8))
    faces = load_faces(str(tmp_path))
    assert faces.ids == ("bored/one.png", "calm/crop.png", "calm/one.png", "calm/two.png")
    assert [image.shape for image in faces.images] == [(40, 40), (48, 48), (40, 40), (40, 40)]
    assert (faces.photos.images, faces.photos.without_face, faces.photos.several_faces, faces.photos.face_crops) == (5, 1, 1, 1)
    assert faces.skipped == ("no face found in 'bored/none.png'",)
    assert faces.crop == CropConvention("haar", 40, {"haar": BoxTransform()})
    assert faces.summary().resolution_px == 40
    assert faces.photos.message() == (
        "faces cut out of 3 of 5 photos by the detector haar; small face crops, unchanged: 1; without a face, left out: 1; "
        "with several faces, the largest taken: 1"
    )


def test_faces_are_cut_out_at_a_resolution_that_a_network_can_use(tmp_path, detect_bright):
    write_photos(tmp_path, {"a/1.png": [(60, 40)], "b/1.png": [(60, 40)]})
    faces = load_faces(str(tmp_path), ReadOptions(max_face_px=24))
    assert [image.shape for image in faces.images] == [(24, 24)] * 2
    assert faces.crop.training_resolution_px == 24


def test_a_given_crop_convention_is_used(tmp_path, detect_bright):
    write_photos(tmp_path, {"a/1.png": [(60, 40)], "b/1.png": [(60, 40)]})
    crop = CropConvention("other", 30, {"haar": BoxTransform(scale=0.5)})
    faces = load_faces(str(tmp_path), ReadOptions(crop_for=lambda detector: crop))
    assert [image.shape for image in faces.images] == [(20, 20)] * 2
    assert faces.crop == crop


def test_crops_stay_as_they_are(tmp_path, detect_bright):
    small = load_faces(str(write_class_folders(tmp_path / "small", ["happy", "sad"], side=48)))
    assert small.crop is small.photos is None
    for number in range(4):  # square, and the face fills the image
        write_image(tmp_path / "large" / "happy" / f"{number}.png", photo((20, 20), height=66, width=66))
    assert load_faces(str(tmp_path / "large")).images[0].shape == (66, 66)
    write_photos(tmp_path / "photos", {"happy/1.png": [(60, 40)]})
    assert load_faces(str(tmp_path / "photos"), ReadOptions(faces="crops")).images[0].shape == (120, 160)


def test_a_mixture_of_photos_and_crops_is_reported(tmp_path, detect_bright):
    write_photos(tmp_path, {f"happy/{number}.png": [(60, 40)] for number in range(2)})
    for number in range(3):
        write_image(tmp_path / "sad" / f"{number}.png", photo((20, 20), height=66, width=66))
    (note,) = load_faces(str(tmp_path)).notes
    assert note.startswith("2 of 5 sampled images look like whole photos, the others like face crops. All are read as crops")


@pytest.mark.parametrize(
    ("height", "width", "crop_side", "is_photo"),
    [(48, 64, 10, False), (200, 200, 130, False), (200, 200, 110, True), (200, 200, None, False), (200, 260, 190, True)],
)
def test_an_image_is_a_photo_if_it_shows_more_than_a_face(height, width, crop_side, is_photo):
    assert SampledImage(height, width, crop_side).is_photo == is_photo


def test_photos_without_any_face_are_rejected(tmp_path, detect_bright):
    write_photos(tmp_path, {"happy/1.png": [], "sad/1.png": []})
    with pytest.raises(DataError, match=r"the detector 'haar' finds no face in 2 images of .*--faces crops.*--detector"):
        load_faces(str(tmp_path))


def test_a_class_without_a_face_is_rejected_in_training(tmp_path, detect_bright):
    from fer_edge.train.class_report import check_trainable

    write_photos(tmp_path, {"happy/1.png": [(9, 9)], "happy/2.png": [(9, 9)], "sad/1.png": [], "sad/2.png": []})
    with pytest.raises(DataError, match="'sad' has 0 image"):
        load_faces(str(tmp_path), ReadOptions(check_counts=check_trainable))


def test_unknown_words_are_rejected(tmp_path):
    with pytest.raises(ValueError, match="unknown kind of images 'photo' for --faces; choose one of: auto, crops, photos"):
        ReadOptions(faces="photo")
    write_photos(tmp_path, {"happy/1.png": [], "sad/1.png": []})
    with pytest.raises(ValueError, match=r"Received: --detector none\. For crops: --faces crops"):
        load_faces(str(tmp_path), ReadOptions(faces="photos", detector="none"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    for seed, label in enumerate(["happy", "sad", "surprise", "neutral"]):
        write_image(root / label / f"{seed}.jpg", synthetic_image(label, seed, face_side=180 + 20 * seed))
    return root


def test_evaluate_gives_photos_the_labels_that_run_gives_them(photos, int8_model):
    (result,) = fer_edge.evaluate(int8_model, photos, detector="haar")
    faces = result.selection.faces
    paths = sorted(photos.rglob("*.jpg"))
    found = [fer_edge.analyze(path, int8_model, detector="haar") for path in paths]
    run = {path.relative_to(photos).as_posix(): labeled for path, labeled in zip(paths, found, strict=True)}
    assert set(faces.ids) == {name for name, found in run.items() if found}
    expected = [[run[name][0].probabilities[label] for label in faces.labels] for name in faces.ids]
    assert len(faces) >= 3
    assert result.probabilities == pytest.approx(np.array(expected), abs=1e-6)
    assert (result.record.photos.images, result.record.photos.without_face) == (4, 4 - len(faces))


def test_faces_cut_out_of_photos_are_those_of_the_camera(photos):
    reader = Reporter()
    faces = read_faces(photos, ReadOptions(faces="photos", detector="haar", max_face_px=64), reader)
    image = read_image(photos / faces.ids[0])
    x, y, width, height = open_detector("haar").detect(image)[0].box_px
    assert faces.crop.training_resolution_px == 64
    assert abs(int(faces.images[0].mean()) - int(image[y : y + height, x : x + width].mean())) <= 1
