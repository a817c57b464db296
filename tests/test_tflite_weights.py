"""A .tflite file as teacher and as initial weights."""

import re

import keras
import numpy as np
import pytest
from keras import layers

from fer_edge.artifacts.contract import ModelError, read_contract
from fer_edge.artifacts.run_folder import LoadedWeights
from fer_edge.convert.prepare_run import predict
from fer_edge.edge_runtime.batch_predict import classify_faces
from fer_edge.edge_runtime.classify import Classifier
from fer_edge.edge_runtime.find_model import find_bundled
from fer_edge.train import batch_norm as norms
from fer_edge.train.dataset import to_gray_batch
from fer_edge.train.distill import MIN_QUANTIZED_PROBABILITY, check_teachers, teacher_labels
from fer_edge.train.fit import train_run
from fer_edge.train.networks import build_network
from fer_edge.train.plan import make_plan
from fer_edge.train.predict import keras_probabilities
from fer_edge.train.recipes import RECIPES as TRAINING
from fer_edge.train.splits import make_split
from fer_edge.train.synthetic import synthetic_faces
from fer_edge.train.tflite_weights import load_tflite_weights
from fer_edge.train.weights import check_no_leakage


def first_norm(model):
    return next((layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)), None)


@pytest.mark.parametrize("name", ["cnn_nano", "mobilenet_v2"])
def test_a_bundled_int8_file_and_its_network_predict_alike(name):
    faces = synthetic_faces(5)
    file = find_bundled(name)
    classifier = Classifier(file)
    model = build_network(name, classifier.contract.image_size, len(classifier.labels))
    gray = to_gray_batch(faces, classifier.contract.image_size, 48)
    assert load_tflite_weights(model, file, classifier.labels, gray) == ()
    ours, theirs = keras_probabilities(model, faces, 48), classify_faces(classifier, faces.images)
    assert np.abs(ours - theirs).mean() < 0.02
    assert (ours.argmax(axis=1) == theirs.argmax(axis=1)).mean() > 0.9


@pytest.mark.parametrize("precision", ["float16", "dynamic", "int8"])
def test_weights_are_restored_from_every_precision(precision, models, prepared, run_folder):
    source = keras.models.load_model(run_folder / "model.keras", compile=False)
    model = build_network("cnn", 32, len(prepared.run.labels))
    gray = prepared.calibration[..., :1]
    assert load_tflite_weights(model, models[precision], prepared.run.labels, gray) == ()
    rgb = prepared.calibration.astype(np.float32)
    expected = source.predict(rgb, verbose=0)
    assert np.abs(model.predict(rgb, verbose=0) - expected).mean() < (1e-3 if precision == "float16" else 0.02)


def test_a_file_of_other_labels_gives_the_weights_of_shared_labels(models, prepared):
    labels = tuple("calm" if label == "sad" else label for label in prepared.run.labels)
    model = build_network("cnn", 32, len(labels))
    assert load_tflite_weights(model, models["float32"], labels, prepared.calibration[..., :1]) == ("probabilities",)
    index = labels.index("calm")
    rgb = prepared.calibration.astype(np.float32)
    ours, theirs = (np.delete(np.log(predict(network, rgb)), index, axis=1) for network in (model, prepared.folded))
    assert ours - ours.mean(axis=1, keepdims=True) == pytest.approx(theirs - theirs.mean(axis=1, keepdims=True), abs=0.01)


def test_layers_of_another_shape_and_their_norms_keep_their_initial_weights(models, prepared):
    model = build_network("cnn", 48, len(prepared.run.labels))
    built = [value.copy() for value in model.get_layer("fc_bn").get_weights()]
    gray = np.random.default_rng(0).integers(0, 256, (4, 48, 48, 1), np.uint8)
    assert load_tflite_weights(model, models["float32"], prepared.run.labels, gray) == ("fc",)
    for value, earlier in zip(model.get_layer("fc_bn").get_weights(), built, strict=True):
        assert np.array_equal(value, earlier)


def test_statistics_are_those_of_evenly_spaced_faces(models, prepared, monkeypatch):
    monkeypatch.setattr(norms, "FACES", 4)
    dark_first = np.repeat(np.array([0, 0, 0, 0, 255, 255, 255, 255], np.uint8), 32 * 32).reshape(8, 32, 32, 1)
    model = build_network("cnn", 32, len(prepared.run.labels))
    load_tflite_weights(model, models["float32"], prepared.run.labels, dark_first)
    norm = first_norm(model)
    seen = keras.Model(model.input, norm.input).predict(np.repeat(dark_first, 3, axis=-1).astype(np.float32), verbose=0)
    assert np.asarray(norm.moving_mean) == pytest.approx(seen.mean(axis=(0, 1, 2)), rel=1e-3, abs=1e-4)


def test_a_file_that_does_not_fit_is_rejected_before_training(models, prepared, error_of, tmp_path):
    options = ("--data", "synthetic:10", "--out", tmp_path / "runs", "--weights")
    assert "contains the network 'cnn', not 'cnn_nano'" in error_of("train", "cnn_nano", *options, models["int8"])
    assert "contains the network 'mobilenet_v2', not 'cnn'" in error_of("train", "cnn", *options, "mobilenet_v2")
    assert "no weights at 'none.tflite'. Give auto, " in error_of("train", "cnn", *options, "none.tflite")
    message = error_of("train", "cnn", "--data", "synthetic:10", "--teacher", "cnn_mini")
    assert re.search(r"a bundled model: .*\bcnn_nano_fer2013, ", message)
    (tmp_path / "text.tflite").write_text("no model")
    assert "is not a .tflite file" in error_of("train", "cnn", *options, tmp_path / "text.tflite")
    assert not (tmp_path / "runs").exists()
    whole = models["float32"].read_bytes()
    (tmp_path / "damaged.tflite").write_bytes(whole[:1000] + bytes(1000) + whole[2000:])
    with pytest.raises(ModelError, match=r"damaged\.tflite differs from the digest in its contract"):
        load_tflite_weights(build_network("cnn", 32, 7), tmp_path / "damaged.tflite", prepared.run.labels, prepared.calibration)


def test_a_file_that_may_have_seen_the_test_faces_is_rejected(models, faces):
    other, same = make_split(faces, "subject", seed=2), make_split(faces, "subject", seed=1)
    file = str(models["int8"])
    plan = make_plan("cnn", TRAINING["edge"], teachers=[file])
    message = r"was trained on another split of the same data \(protocol subject, seed 1\)"
    with pytest.raises(ValueError, match=f"the teacher .* {message}"):
        check_teachers(plan, faces, other)
    with pytest.raises(ValueError, match=f"of --weights {message}"):
        check_no_leakage(file, faces, other)
    check_teachers(plan, faces, same)
    check_no_leakage(file, faces, same)
    elsewhere = synthetic_faces(10)
    check_no_leakage(file, elsewhere, make_split(elsewhere, "subject"))


def test_a_run_starts_from_a_file_and_learns_from_one(models, faces, tmp_path):
    file = str(models["int8"])
    split = make_split(faces, "subject", seed=1)
    plan = make_plan("cnn", TRAINING["edge"], image_size=32, epochs=1, seed=1, weights=file, teachers=[file])
    run = train_run(plan, faces, split, tmp_path / "run")
    assert run.results.weights == LoadedWeights(file)
    assert run.plan.parent_digests == (read_contract(file).source_digest,) * 2
    probabilities = teacher_labels([file], faces, split.train, 1.0, tmp_path)
    assert probabilities.min() >= MIN_QUANTIZED_PROBABILITY * 0.9
    classifier = Classifier(file)
    face = faces.images[split.train[0]]
    mean = (classifier.probabilities(face) + classifier.probabilities(np.ascontiguousarray(face[:, ::-1]))) / 2
    assert probabilities[0] == pytest.approx(np.maximum(mean, MIN_QUANTIZED_PROBABILITY), abs=0.01)
