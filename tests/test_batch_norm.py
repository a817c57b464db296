from dataclasses import replace

import keras
import numpy as np
import pytest

from fer_edge.artifacts.run_folder import MODEL_FILE
from fer_edge.train.batch_norm import fold_batch_norm, insert_batch_norm
from fer_edge.train.device_dataset import pad_to_full_batches
from fer_edge.train.fit import train_run
from fer_edge.train.networks import NETWORKS, OUTPUT_LAYER, build_network
from fer_edge.train.plan import make_plan
from fer_edge.train.recipes import find_recipe
from fer_edge.train.splits import make_split

SIDE = 32


def norms_of(model):
    return [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]


@pytest.fixture(scope="module")
def plain():
    keras.utils.set_random_seed(0)
    return build_network("vgg16", SIDE, 7)


@pytest.fixture(scope="module")
def gray():
    return np.random.default_rng(0).integers(0, 256, (24, SIDE, SIDE, 1), np.uint8)


def answer(model, gray):
    return np.asarray(model(np.repeat(gray, 3, axis=-1).astype(np.float32), training=False))


def test_norms_inserted_with_faces_keep_the_output_and_measure_their_inputs(plain, gray):
    trained = insert_batch_norm(plain, 0.9, gray)
    assert len(norms_of(trained)) == 13
    assert {norm.momentum for norm in norms_of(trained)} == {0.9}
    assert answer(trained, gray) == pytest.approx(answer(plain, gray), abs=1e-5)
    # In training, too: each is given its inputs' own mean and variance.
    rgb = np.repeat(gray, 3, axis=-1).astype(np.float32)
    first = norms_of(trained)[0]
    inputs = np.asarray(keras.Model(trained.input, first.input)(rgb)).reshape(-1, 64)
    assert np.asarray(first.moving_mean) == pytest.approx(inputs.mean(axis=0), abs=1e-4)
    assert np.asarray(first.moving_variance) == pytest.approx(inputs.var(axis=0), rel=1e-3)


def test_norms_inserted_without_faces_start_at_1_and_0(plain, gray):
    trained = insert_batch_norm(plain, 0.9, None)
    assert np.abs(answer(trained, gray) - answer(plain, gray)).max() > 1e-3
    assert all(np.all(norm.gamma == 1) and np.all(norm.beta == 0) for norm in norms_of(trained))


def test_folded_norms_keep_the_output(plain, gray):
    trained = insert_batch_norm(plain, 0.9, gray)
    rng = np.random.default_rng(1)
    for norm in norms_of(trained):
        norm.set_weights([values * rng.uniform(0.8, 1.2, values.shape) for values in norm.get_weights()])
    folded = build_network("vgg16", SIDE, 7)
    fold_batch_norm(trained, folded)
    assert answer(folded, gray) == pytest.approx(answer(trained, gray), abs=1e-5)
    assert np.abs(answer(folded, gray) - answer(plain, gray)).max() > 1e-3


def test_a_network_that_has_norms_keeps_them():
    network = build_network("cnn_nano", SIDE, 7)
    assert insert_batch_norm(network, 0.9, None) is network


def test_a_network_trains_with_norms_is_saved_without_and_trains_on(tmp_path, monkeypatch, faces):
    def build(gray, num_classes):
        x = keras.layers.Conv2D(8, 3, strides=2, activation="relu", name="one")(gray)
        x = keras.layers.Conv2D(8, 3, strides=2, activation="relu", name="two")(x)
        x = keras.layers.GlobalAveragePooling2D()(x)
        return keras.layers.Dense(num_classes, activation="softmax", name=OUTPUT_LAYER)(x)

    monkeypatch.setitem(NETWORKS, "vgg16", replace(NETWORKS["vgg16"], build=build))
    split = make_split(faces, "subject", seed=1)
    recipe = replace(find_recipe("edge", "vgg16"), batch_size=16, ema_momentum=0.0, label_smoothing=0.0, calibrate=False)
    plan = make_plan("vgg16", recipe, image_size=SIDE, epochs=2, seed=1, weights="none", precision="float32")
    run = train_run(plan, faces, split, tmp_path / "run")
    model = keras.models.load_model(tmp_path / "run" / MODEL_FILE, compile=False)
    assert not norms_of(model)
    assert run.results.metrics.validation.loss == pytest.approx(run.results.history["val_loss"][-1], abs=1e-3)
    # From there on with norms again, at a rate of next to nothing.
    further = replace(plan, weights=str(tmp_path / "run"), recipe=replace(recipe, learning_rate=1e-9))
    same = train_run(further, faces, split, tmp_path / "further")
    assert same.results.metrics.validation.loss == pytest.approx(run.results.metrics.validation.loss, abs=0.02)


def test_batches_are_full_under_jax_if_there_is_more_than_one(monkeypatch):
    numbers = np.arange(10, dtype=np.int32)
    assert pad_to_full_batches(numbers, 4, seed=0) is numbers
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    filled = pad_to_full_batches(numbers, 4, seed=0)
    assert (len(filled), filled[:10].tolist(), len(set(filled[10:].tolist()))) == (12, list(range(10)), 2)
    assert len(pad_to_full_batches(numbers, 5, seed=0)) == 10
    assert pad_to_full_batches(numbers, 16, seed=0) is numbers
