import shutil
import struct
import sys

import numpy as np
import pytest

from fer_edge.artifacts.contract import CANONICAL_LABELS, ModelError
from fer_edge.edge_runtime import Classifier, Prediction
from fer_edge.edge_runtime.detectors.detector import open_detector
from fer_edge.edge_runtime.interpreter import PROBE_MODEL, find_interpreter, open_interpreter


def test_a_prediction_names_the_most_probable_label(int8_model, faces):
    classifier = Classifier(int8_model)
    (prediction,) = classifier.predict(faces.images[0])
    assert prediction.label == classifier.labels[int(np.argmax(prediction.probabilities))]
    assert prediction.probability == max(prediction.probabilities)
    assert sum(prediction.as_dict().values()) == pytest.approx(1, abs=0.02)
    assert tuple(prediction.as_dict()) == CANONICAL_LABELS


def test_a_prediction_names_the_two_most_probable_labels_and_their_margin():
    labels = ("angry", "fear", "happy", "sad")
    prediction = Prediction("sad", 0.2, (0.2, 0.3, 0.3, 0.2), labels)  # smoothed: the label of the frames before
    assert (prediction.top_labels, prediction.margin) == (("fear", "happy"), 0.0)
    prediction = Prediction("unsure", 0.375, (0.125, 0.25, 0.25, 0.375), labels)
    assert (prediction.top_labels, prediction.margin) == (("sad", "fear"), 0.125)


def test_gray_and_rgb_faces_alone_and_in_a_batch_give_the_same_probabilities(int8_model, faces):
    classifier = Classifier(int8_model)
    gray = faces.images[3]
    rgb = np.dstack([gray] * 3)
    probabilities = classifier.predict(gray)[0].probabilities
    for argument in (rgb, [gray], np.stack([rgb, rgb])):
        assert classifier.predict(argument)[0].probabilities == probabilities
    assert len(classifier.predict(np.stack([rgb, rgb]))) == 2


def test_two_views_are_the_mean_over_a_face_and_its_mirror_image(int8_model, faces):
    one, two = Classifier(int8_model), Classifier(int8_model, views=2)
    face = faces.images[3]
    both = [one.probabilities(view) for view in (face, np.ascontiguousarray(face[:, ::-1]))]
    assert np.abs(both[0] - both[1]).max() > 0.01
    (prediction,) = two.predict(face)
    assert prediction.probabilities == pytest.approx(np.mean(both, axis=0), abs=1e-6)
    assert prediction.label == two.labels[int(np.argmax(prediction.probabilities))]
    with pytest.raises(ValueError, match=r"views must be 1 \(the face\) or 2 \(and its mirror image\). Received: views=10"):
        Classifier(int8_model, views=10)


def test_int8_and_float32_give_nearly_the_same_probabilities(models, faces):
    float32, int8 = (Classifier(models[name]) for name in ("float32", "int8"))
    differences = [np.abs(float32.probabilities(face) - int8.probabilities(face)).max() for face in faces.images[:32]]
    assert np.median(differences) < 0.05


@pytest.mark.parametrize(
    ("faces", "message"),
    [
        (None, r"Received: NoneType; cv2\.imread returns None for a file that it cannot read"),
        ([np.zeros((8, 8, 3), np.float32)], "uint8 array of pixels 0..255. Received: float32"),
        ([np.zeros((8, 8, 4), np.uint8)], r"Received: \(8, 8, 4\)"),
        ([np.zeros((0, 8), np.uint8)], r"Received: \(0, 8\)"),
    ],
)
def test_an_argument_that_is_not_an_image_is_rejected(int8_model, faces, message):
    with pytest.raises(ValueError, match=message):
        Classifier(int8_model).predict(faces)


def test_files_that_are_not_fer_edge_models_are_rejected(tmp_path):
    with pytest.raises(FileNotFoundError, match="no model file"):
        Classifier(tmp_path / "none.tflite")
    text = tmp_path / "text.tflite"
    text.write_text("not a model")
    with pytest.raises(ModelError, match=r"is not a .tflite file"):
        Classifier(text)
    foreign = shutil.copy(PROBE_MODEL, tmp_path / "foreign.tflite")
    with pytest.raises(ModelError, match="no contract inside"):
        Classifier(foreign)


@pytest.mark.parametrize("fraction", [0.01, 0.3, 0.6, 0.95, 0.9999])
def test_a_truncated_model_is_rejected(int8_model, tmp_path, fraction):
    content = int8_model.read_bytes()
    truncated = tmp_path / "truncated.tflite"
    truncated.write_bytes(content[: int(fraction * len(content))])
    with pytest.raises(ModelError, match="truncated"):
        Classifier(truncated)


def with_custom_operator(probe_model):
    """Return the probe model with its operator replaced by a custom operator, MyOwn.

    The probe model ends with its flatbuffer table OperatorCode, 4 bytes without fields: builtin_code 0 (ADD) is the default.
    """
    table = struct.pack("<iIib3x", -16, 24, 32, 32)  # offsets of the vtable and custom_code; builtin_code CUSTOM, twice
    vtable = struct.pack("<6H", 12, 16, 12, 4, 0, 8)  # sizes; positions of deprecated code, custom_code, version, builtin_code
    return probe_model[:-4] + table + vtable + struct.pack("<I6s2x", 5, b"MyOwn")


def test_a_model_with_custom_operators_is_rejected(tmp_path):
    path = tmp_path / "custom.tflite"
    path.write_bytes(with_custom_operator(PROBE_MODEL.read_bytes()))
    with pytest.raises(ModelError, match="contains custom operators"):
        open_interpreter(path)


def test_a_missing_interpreter_and_a_missing_opencv_name_the_install_command(monkeypatch):
    for name in ("ai_edge_litert", "ai_edge_litert.interpreter", "tflite_runtime", "cv2"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"tried ai_edge_litert, tflite_runtime.*fer-edge\[edge\]"):
        find_interpreter()
    with pytest.raises(ImportError, match=r"OpenCV cannot be imported.*fer-edge\[edge\]"):
        open_detector("haar")
