import os
from collections import Counter

import pytest

from fer_edge.edge_runtime import CANONICAL_LABELS, Classifier
from fer_edge.edge_runtime.find_model import DEFAULT_NETWORK, bundled_models, find_model
from fer_edge.train.synthetic import synthetic_faces


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def model_file(path, seconds):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    os.utime(path, (seconds, seconds))
    return path


def test_without_a_name_the_newest_own_int8_model_comes_before_the_bundled_one(tmp_path):
    assert find_model() == bundled_models()[DEFAULT_NETWORK]
    newest = model_file(tmp_path / "runs" / "a" / "cnn_ck48_int8.tflite", 200)
    model_file(tmp_path / "runs" / "b" / "cnn_ck48_int8.tflite", 100)
    model_file(tmp_path / "runs" / "b" / "cnn_ck48_float32.tflite", 300)
    assert find_model().resolve() == newest
    assert find_model("runs/b").name == "cnn_ck48_int8.tflite"


def test_a_file_with_the_name_of_a_bundled_network_is_found_instead_of_it(tmp_path):
    assert find_model("cnn_nano") == bundled_models()["cnn_nano"]
    model_file(tmp_path / "cnn_nano", 100)
    assert find_model("cnn_nano").resolve() == tmp_path / "cnn_nano"


def test_the_error_for_an_unknown_name_lists_the_bundled_models(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no model file 'cnn_mini'.*cnn_nano"):
        find_model("cnn_mini")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no int8 model under 'empty'"):
        find_model("empty")


def test_a_small_and_an_accurate_model_are_bundled_and_stay_small():
    bytes_of = {network: path.stat().st_size for network, path in bundled_models().items()}
    assert {"cnn_nano", "mobilenet_v2"} <= set(bytes_of)
    assert bytes_of["cnn_nano"] <= 100_000
    assert bytes_of["cnn_nano"] + bytes_of["mobilenet_v2"] <= 4_000_000


@pytest.mark.parametrize("network", sorted(bundled_models()))
def test_a_bundled_model_is_int8_and_trained_on_fer2013(network):
    classifier = Classifier(network)
    assert classifier.contract.architecture == network
    assert classifier.contract.precision in ("int8", "int8-tflite")  # of either quantizer
    assert classifier.contract.data == "fer2013"
    assert classifier.labels == tuple(label for label in CANONICAL_LABELS if label != "contempt")


@pytest.mark.parametrize("network", ["cnn_nano", "mobilenet_v2"])
def test_a_bundled_model_labels_drawn_faces(network):
    classifier = Classifier(network)
    # A drawing is unlike a photograph: the clear expressions must have the majority, not every face.
    faces = synthetic_faces(identities=10)
    for expression in ("happy", "sad", "surprise"):
        drawn = [face for face, target in zip(faces.images, faces.targets, strict=True) if faces.labels[target] == expression]
        counts = Counter(prediction.label for prediction in classifier.predict(drawn))
        assert counts.most_common(1)[0][0] == expression
