"""Every reader of a run folder rejects a replaced model, another version and names with a path."""

import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from fer_edge.artifacts.file_digest import file_digest
from fer_edge.artifacts.keras_model import LABELS_MEMBER, load_keras_model, read_model_labels, write_keras_model
from fer_edge.artifacts.run_folder import (
    RUN_FILE,
    read_run,
    read_run_record,
    read_stored_faces,
    write_run_record,
    write_stored_faces,
)
from fer_edge.train.distill import check_teachers
from fer_edge.train.evaluate_model import load_model
from fer_edge.train.fit import train_run
from fer_edge.train.networks import build_network
from fer_edge.train.pack import pack_runs
from fer_edge.train.plan import make_plan
from fer_edge.train.recipes import RECIPES
from fer_edge.train.splits import make_split
from fer_edge.train.weights import check_no_leakage, load_weights

pytestmark = pytest.mark.tensorflow


@pytest.fixture
def run_copy(run_folder, tmp_path):
    return shutil.copytree(run_folder, tmp_path / "run")


def edit(folder, change):
    data = json.loads((folder / RUN_FILE).read_text())
    change(data)
    (folder / RUN_FILE).write_text(json.dumps(data))


def swap_labels(data):
    labels = data["labels"]
    labels[0], labels[1] = labels[1], labels[0]


def swap_metrics(data):
    """Change the order of the labels in the metrics as well."""
    for metrics in data["results"]["metrics"].values():
        metrics["per_class"] = {label: metrics["per_class"][label] for label in data["labels"]}


@pytest.fixture(params=["evaluate", "weights", "load weights", "teacher", "pack", "convert"])
def read(request, faces, tmp_path):
    """One of the functions that read a run folder."""
    split = make_split(faces, "subject", seed=1)
    return {
        "evaluate": load_model,
        "weights": lambda folder: check_no_leakage(str(folder), faces, split),
        "load weights": lambda folder: load_weights(build_network("cnn", 32, 8), "cnn", str(folder), faces.labels, None),
        "teacher": lambda folder: check_teachers(make_plan("cnn", RECIPES["paper"], teachers=[str(folder)]), faces, split),
        "pack": lambda folder: pack_runs([folder], tmp_path / "packed"),
        "convert": read_run,
    }[request.param]


def test_a_replaced_model_is_rejected(read, run_copy):
    read(run_copy)
    with (run_copy / "model.keras").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match="is not the model that this run finished with"):
        read(run_copy)


def test_a_run_folder_of_another_version_is_rejected(read, run_copy):
    edit(run_copy, lambda data: data.update(run_version=1))
    with pytest.raises(ValueError, match="has version 1, this fer-edge reads 2"):
        read(run_copy)


def test_an_unfinished_run_is_rejected(read, run_copy):
    edit(run_copy, lambda data: data.update(results=None))
    with pytest.raises(FileNotFoundError, match="has not finished"):
        read(run_copy)


def test_swapped_labels_are_rejected(read, run_copy):
    edit(run_copy, swap_labels)
    with pytest.raises(ValueError, match=r"metrics are of angry, contempt, .* the labels were changed after training"):
        read(run_copy)
    edit(run_copy, swap_metrics)
    with pytest.raises(ValueError, match=r"they are contempt, angry, .* but those of model\.keras are angry, contempt, "):
        read(run_copy)


def test_a_model_of_an_earlier_version_without_labels_is_read(run_copy):
    source = keras.models.load_model(run_copy / "model.keras")
    source.save(run_copy / "model.keras")
    digest = file_digest(run_copy / "model.keras")
    edit(run_copy, lambda data: data["results"].update(model_digest=digest))
    assert read_model_labels(run_copy / "model.keras") is None
    assert read_run(run_copy).labels == read_run_record(run_copy).labels


def test_a_copied_model_knows_its_labels(run_folder, faces, tmp_path):
    path = shutil.copy(run_folder / "model.keras", tmp_path / "mine.keras")
    assert read_model_labels(path) == faces.labels
    reversed_labels = faces.labels[::-1]
    network = build_network("cnn", 32, len(reversed_labels))
    assert load_weights(network, "cnn", str(path), reversed_labels, None).reinitialized_layers == ()
    source = keras.models.load_model(path).get_layer("probabilities").get_weights()[0]
    assert np.array_equal(network.get_layer("probabilities").get_weights()[0], source[:, ::-1])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda data: data["plan"].update(image_size=0), "image size of a run must be between 8 and 1024. Received: 0"),
        (lambda data: data["data"].update(resolution_px=0), "resolution of the data of a run must be between 8 and 2048"),
        (lambda data: data.update(labels=["angry"] * 8), "labels must be distinct. Received twice: angry"),
        (lambda data: data.update(labels=data["labels"][1:]), "the labels were changed after training"),
        (lambda data: data.update(labels=[]), "number of labels of a run must be between 2 and 1000. Received: 0"),
        (lambda data: data["results"].update(model_digest="../../x"), "digest of model.keras must be 64 hexadecimal digits"),
        (lambda data: data["results"].update(unsure_threshold=2.0), "unsure threshold of a run must be between 0 and 1"),
        (lambda data: data["results"]["metrics"]["test"].update(confusion=[[1]]), "test metrics is not 8 x 8"),
        (lambda data: data["data"].update(name="../x"), "the name of a dataset may contain only a-z"),
        (lambda data: data["plan"]["recipe"].update(name="a/b"), "the recipe of a run may contain only a-z"),
        (lambda data: data["split"].update(protocol="../x"), "the protocol of a split may contain only a-z"),
    ],
)
def test_impossible_values_in_run_json_are_rejected(run_copy, change, problem):
    edit(run_copy, change)
    with pytest.raises(ValueError, match="is damaged") as error:
        read_run(run_copy)
    assert problem in str(error.value)


def test_a_model_that_does_not_fit_run_json_is_rejected(run_folder, run_copy):
    edit(run_copy, lambda data: data["plan"].update(image_size=48))
    with pytest.raises(ValueError, match=r"inputs of shape \(None, 32, 32, 3\), but run.json names an image size of 48"):
        pack_runs([run_copy], run_copy)
    labels = read_run_record(run_folder).labels[:-1]
    with pytest.raises(ValueError, match=r"outputs of shape \(None, 8\), but there are 7 labels"):
        load_keras_model(keras, run_folder / "model.keras", labels)


@pytest.mark.parametrize(
    ("images", "targets", "problem"),
    [
        (np.zeros((2, 8, 8), np.uint8), [0, 8], "targets must be 0 to 7. Received: 0 to 8"),
        (np.zeros((2, 8, 8), np.uint8), [-1, 0], "targets must be 0 to 7. Received: -1 to 0"),
        (np.zeros((2, 8, 8), np.uint8), [0.5, 1.0], "targets must be int64"),
        (np.zeros((2, 8, 8), np.uint8), [0], "targets must be int64, one per image"),
        (np.zeros((2, 8, 8), np.float32), [0, 1], "images must be uint8, gray or RGB. Received: float32 (8, 8)"),
        (np.zeros((2, 8, 8, 4), np.uint8), [0, 1], "Received: uint8 (8, 8, 4)"),
        (np.zeros((2, 0, 8), np.uint8), [0, 1], "Received: uint8 (0, 8)"),
    ],
)
def test_faces_that_cannot_be_faces_are_rejected(tmp_path, images, targets, problem):
    path = tmp_path / "calibration.npz"
    write_stored_faces(path, list(images), np.array(targets))
    with pytest.raises(ValueError, match=r"calibration\.npz is damaged") as error:
        read_stored_faces(path, 8)
    assert problem in str(error.value)


def model_that_creates(path):
    """A model with a layer whose code, stored in the file, creates a file."""
    inputs = keras.Input((8, 8, 3))
    outputs = keras.layers.Lambda(lambda x, target=str(path): (open(target, "w"), x)[1], output_shape=(8, 8, 3))(inputs)  # noqa: PTH123, SIM115
    return keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(outputs)))


@pytest.mark.parametrize("reader", ["load", "weights", "run"])
def test_a_lambda_layer_is_never_run(reader, run_copy, tmp_path):
    trap, path = tmp_path / "trap", run_copy / "model.keras"
    model = model_that_creates(trap)
    trap.unlink(missing_ok=True)
    write_keras_model(model, path, ("a", "b"))
    with pytest.raises(ValueError, match=r"contains 'keras\.layers\.Lambda', which can run code"):
        if reader == "load":
            load_keras_model(keras, path)
        elif reader == "weights":
            load_weights(build_network("cnn", 32, 8), "cnn", shutil.copy(path, tmp_path / "x.keras"), ("a", "b"), None)
        else:  # the digest in run.json is that of the file
            record = read_run_record(run_copy)
            write_keras_model(model, path, record.labels)
            write_run_record(run_copy, replace(record, results=replace(record.results, model_digest=file_digest(path))))
            pack_runs([run_copy], tmp_path / "packed")
    assert not trap.exists()


def test_keras_itself_rejects_a_lambda_in_every_call(run_copy, monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(keras.models, "load_model", lambda path, **options: calls.append(options))
    with pytest.raises(AttributeError):  # the stand-in returns no model
        load_keras_model(keras, run_copy / "model.keras", ("a", "b"))
    assert calls == [{"compile": False, "safe_mode": True}]


@pytest.mark.parametrize(
    ("module", "name"), [("keras.utils", "get_file"), ("keras.config", "enable_unsafe_deserialization"), ("os", "system")]
)
def test_a_function_in_the_configuration_is_not_imported(run_folder, tmp_path, module, name):
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(run_folder / "model.keras") as source, zipfile.ZipFile(path, "w") as target:
        config = json.loads(source.read("config.json"))
        config["config"]["layers"].insert(0, {"class_name": "function", "module": module, "config": name})
        target.writestr("config.json", json.dumps(config))
        target.writestr("model.weights.h5", source.read("model.weights.h5"))
        target.writestr("metadata.json", source.read("metadata.json"))
    with pytest.raises(ValueError, match=f"contains '{module}.function', which can run code"):
        load_keras_model(keras, path)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x05\x06" + bytes(18)])
def test_files_of_another_kind_are_rejected(tmp_path, content):
    path = tmp_path / "model.keras"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged"):
        load_keras_model(keras, path)


def test_labels_that_cannot_be_read_are_rejected(run_copy):
    with zipfile.ZipFile(run_copy / "other.keras", "w") as archive:
        archive.writestr(LABELS_MEMBER, '{"angry": 1}')
    with pytest.raises(ValueError, match="are not a list of texts"):
        read_model_labels(run_copy / "other.keras")


def test_only_one_function_loads_keras_files():
    """Another one could be less strict."""
    root = Path(__file__).parent.parent
    folders = ("artifacts", "train", "convert", "benchmarks", "cli", "edge_runtime")
    texts = {path.name: path.read_text() for folder in folders for path in (root / folder).rglob("*.py")}
    loaders = ("models.load_model(", "keras.saving")
    assert [name for name, text in texts.items() if any(loader in text for loader in loaders)] == ["keras_model.py"]


@pytest.mark.parametrize("command", ["evaluate", "convert"])
def test_a_network_with_a_path_in_its_name_is_rejected(error_of, run_copy, command):
    edit(run_copy, lambda data: data["plan"].update(network="../../escaped/x"))
    data = ("--data", "synthetic:12") if command == "evaluate" else ()
    assert "the network of a run may contain only a-z, 0-9, _ and -" in error_of(command, run_copy, *data)
    assert not list(run_copy.parent.parent.glob("escaped*"))


def test_a_finished_run_without_its_model_is_not_resumed(faces, run_copy):
    (run_copy / "model.keras").unlink()
    plan, split = read_run_record(run_copy).plan, make_split(faces, "subject", seed=1)
    with pytest.raises(FileNotFoundError, match=r"lacks model\.keras"):
        train_run(plan, faces, split, run_copy, resume=True)
