import configparser
import os
from collections import Counter
from pathlib import Path

import pytest

from fer_edge.edge_runtime import CANONICAL_LABELS, Classifier
from fer_edge.edge_runtime import find_model as module
from fer_edge.edge_runtime.find_model import bundled_models, default_model, find_bundled, find_model
from fer_edge.train.synthetic import synthetic_faces

ROOT = Path(__file__).parent.parent
MAX_PACKAGED_BYTES = 6_000_000


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Put empty files of these names into the package instead of its models."""
    folder = tmp_path / "package"
    monkeypatch.setattr(module, "BUNDLED_FOLDER", folder)

    def fill(*names):
        return [model_file(folder / f"{name}_int8.tflite", 0) for name in names]

    return fill


def model_file(path, seconds):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    os.utime(path, (seconds, seconds))
    return path


def test_without_a_name_the_newest_own_int8_model_comes_before_the_bundled_one(tmp_path):
    assert find_model() == default_model()
    newest = model_file(tmp_path / "runs" / "a" / "cnn_ck48_int8.tflite", 200)
    model_file(tmp_path / "runs" / "b" / "cnn_ck48_int8.tflite", 100)
    model_file(tmp_path / "runs" / "b" / "cnn_ck48_float32.tflite", 300)
    assert find_model().resolve() == newest
    assert find_model("runs/b").name == "cnn_ck48_int8.tflite"


def test_a_file_with_the_name_of_a_bundled_network_is_found_instead_of_it(tmp_path):
    assert find_model("cnn_nano") == find_bundled("cnn_nano")
    model_file(tmp_path / "cnn_nano", 100)
    assert find_model("cnn_nano").resolve() == tmp_path / "cnn_nano"


def test_a_bundled_model_is_found_by_its_network_with_data_and_precision(package):
    (fer2013,) = package("cnn_nano_fer2013")
    for name in ("cnn_nano", "cnn_nano_fer2013", "cnn_nano_fer2013_int8"):
        assert find_bundled(name) == find_model(name) == fer2013
    assert [find_bundled(name) for name in ("cnn", "cnn_nano_ferplus", "cnn_nano_int8", "fer2013", "")] == [None] * 5


def test_a_network_alone_means_its_model_of_ferplus_if_there_is_one(package):
    nano, fer2013, mobilenet = package("cnn_nano_ferplus", "cnn_nano_fer2013", "mobilenet_v2_fer2013")
    assert list(bundled_models()) == ["cnn_nano_fer2013", "cnn_nano_ferplus", "mobilenet_v2_fer2013"]
    assert find_model() == find_model("cnn_nano") == find_model("cnn_nano_ferplus") == nano
    assert find_model("cnn_nano_fer2013") == fer2013
    assert find_model("mobilenet_v2") == mobilenet


def test_a_package_without_its_default_model_is_reported(package):
    package("mobilenet_v2_ferplus")
    with pytest.raises(FileNotFoundError, match=r"no cnn_nano model in .*Install fer-edge again"):
        find_model()


def test_the_error_for_an_unknown_name_lists_the_bundled_models(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no model file 'cnn_mini'.*cnn_nano_fer2013"):
        find_model("cnn_mini")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no int8 model under 'empty'"):
        find_model("empty")


def test_the_models_in_the_wheel_stay_small():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    packaged = config["options.package_data"]["fer_edge.models"].split()
    files = {path.name: path.stat().st_size for path in bundled_models().values() if path.name in packaged}
    assert default_model().name in files
    assert find_bundled("mobilenet_v2").name in files
    assert sum(files.values()) <= MAX_PACKAGED_BYTES
    assert all(size <= 100_000 for name, size in files.items() if name.startswith("cnn_nano"))


@pytest.mark.parametrize("name", sorted(bundled_models()))
def test_the_name_of_a_bundled_model_is_that_of_its_contract(name):
    contract = Classifier(name).contract
    assert name in (f"{contract.architecture}_{data}" for data in (contract.data, "ferplus"))
    assert contract.precision in ("int8", "int8-tflite")  # of either quantizer
    has_contempt = "contempt" in contract.labels
    assert contract.labels == tuple(label for label in CANONICAL_LABELS if has_contempt or label != "contempt")
    assert has_contempt == name.endswith("ferplus")


@pytest.mark.parametrize("network", ["cnn_nano", "mobilenet_v2"])
def test_a_bundled_model_labels_drawn_faces(network):
    classifier = Classifier(network)
    # A drawing is unlike a photograph: the clear expressions must have the majority, not every face.
    faces = synthetic_faces(identities=10)
    for expression in ("happy", "neutral", "surprise"):
        drawn = [face for face, target in zip(faces.images, faces.targets, strict=True) if faces.labels[target] == expression]
        counts = Counter(prediction.label for prediction in classifier.predict(drawn))
        assert counts.most_common(1)[0][0] == expression
