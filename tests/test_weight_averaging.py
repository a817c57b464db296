import time
from dataclasses import replace

import keras
import numpy as np
import pytest

from fer_edge.train.checkpoint import CHECKPOINT_FILE, StoppedError
from fer_edge.train.fit import train_run
from fer_edge.train.networks import build_network
from fer_edge.train.optimizer import build_optimizer
from fer_edge.train.plan import make_plan
from fer_edge.train.predict import keras_probabilities
from fer_edge.train.recipes import RECIPES, override
from fer_edge.train.splits import make_split
from fer_edge.train.weight_averaging import average_snapshots, update_bn


def test_the_learning_rate_restarts_with_each_cycle():
    def rate(optimizer, step):
        optimizer.iterations.assign(step)
        return float(keras.ops.convert_to_numpy(optimizer.learning_rate))

    cycles, once = (build_optimizer(override(RECIPES["edge"], [f"cycles={count}"]), 100 * count) for count in (4, 1))
    rates = {step: rate(cycles, step) for step in (0, 5, 50, 99, 100, 205, 350, 399)}
    alone = {step: rate(once, step) for step in (0, 5, 50, 99)}
    assert list(rates.values()) == [alone[step % 100] for step in rates]
    assert rates[5] == pytest.approx(RECIPES["edge"].learning_rate)
    assert rates[99] < rates[50] / 100


def test_the_learning_rate_is_that_of_keras_with_warm_up():
    optimizer = build_optimizer(override(RECIPES["edge"], ["warmup_share=0.1", "learning_rate=0.01"]), 200)
    expected = keras.optimizers.schedules.CosineDecay(0.0, decay_steps=180, warmup_target=0.01, warmup_steps=20)
    for step in (0, 1, 10, 19, 20, 21, 110, 199):
        optimizer.iterations.assign(step)
        assert float(optimizer.learning_rate) == pytest.approx(float(expected(step)), rel=1e-5, abs=1e-9)


def test_averaging_over_cycles_replaces_the_moving_average():
    assert build_optimizer(RECIPES["edge"], 10_000).use_ema
    assert not build_optimizer(override(RECIPES["edge"], ["cycles=2"]), 10_000).use_ema


def test_update_bn_sets_mean_and_variance_of_the_inputs():
    face = keras.Input((8, 8, 3))
    norm = keras.layers.BatchNormalization(momentum=0.9)
    dropout = keras.layers.Dropout(0.5)  # if active, it would increase the variance
    model = keras.Model(face, norm(dropout(face)))
    images = np.random.default_rng(0).integers(0, 255, (256, 8, 8, 1), np.uint8)
    update_bn(model, images)
    assert np.asarray(norm.moving_mean) == pytest.approx(np.full(3, images.mean()), rel=1e-4)
    assert np.asarray(norm.moving_variance) == pytest.approx(np.full(3, images.var()), rel=1e-2)  # the mean of two batches
    assert (norm.momentum, dropout.rate) == (0.9, 0.5)


def test_validation_chooses_the_number_of_averaged_snapshots(faces):
    # Plain images, brighter from class to class, and a single layer that classifies them without error. No training.
    count = len(faces.labels)
    step = 255 // count
    plain = replace(faces, images=tuple(np.full((32, 32), step * target, np.uint8) for target in faces.targets))
    image = keras.Input((32, 32, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(image)
    model = keras.Model(image, keras.layers.Dense(count, activation="softmax")(pooled))
    classes = np.arange(count, dtype=np.float32)
    good = [np.tile(2 * classes / (3 * step), (3, 1)), -(classes**2)]  # softmax of -(brightness / step - class)**2
    # Two snapshots with opposite errors, and before them one that spoils the average.
    error = [np.random.default_rng(0).standard_normal(value.shape).astype(np.float32) for value in good]
    apart = [[value + sign * wrong for value, wrong in zip(good, error, strict=True)] for sign in (1, -1)]
    opposite = [-5 * value for value in good]
    assert average_snapshots(model, [opposite, *apart], plain, make_split(faces, "subject", seed=1)) == 2
    for kept, value in zip(model.get_weights(), good, strict=True):
        assert kept == pytest.approx(value, abs=1e-4)


def test_a_single_snapshot_is_kept(run_folder, faces):
    trained = keras.models.load_model(run_folder / "model.keras", compile=False)
    split = make_split(faces, "subject", seed=1)
    before = keras_probabilities(trained, faces.subset(split.test), faces.resolution_px)
    snapshot = trained.get_weights()
    other = build_network("cnn", 32, len(faces.labels))
    assert average_snapshots(other, [snapshot], faces, split) == 1
    assert keras_probabilities(other, faces.subset(split.test), faces.resolution_px) == pytest.approx(before, abs=1e-5)


def test_a_stopped_run_of_cycles_resumes_with_its_snapshots(tmp_path, faces):
    recipe = override(RECIPES["edge"], ["cycles=3"])
    plan = make_plan("cnn_nano", recipe, image_size=32, epochs=3)
    split = make_split(faces, "subject")
    with pytest.raises(StoppedError, match="stopped after epoch 1 of 3"):
        train_run(plan, faces, split, tmp_path / "run", stop_at=time.monotonic() + 0.2)
    with np.load(tmp_path / "run" / CHECKPOINT_FILE) as content:
        assert {name.split("/")[1] for name in content.files if name.startswith("snapshot/")} == {"0"}
    resumed = train_run(plan, faces, split, tmp_path / "run", resume=True)
    whole = train_run(plan, faces, split, tmp_path / "whole")
    assert resumed.results.averaged_cycles == whole.results.averaged_cycles
    assert resumed.results.metrics == whole.results.metrics


def test_impossible_cycles_are_rejected():
    with pytest.raises(ValueError, match=r"cycles must be at least 1\. Received: 0"):
        override(RECIPES["edge"], ["cycles=0"])
    with pytest.raises(ValueError, match=r"cycles need schedule=cosine\. Received: schedule=constant, cycles=2"):
        override(RECIPES["paper"], ["cycles=2"])
    with pytest.raises(ValueError, match=r"cnn: 5 epochs cannot be divided into 2 equal cycles.*for example 6"):
        make_plan("cnn", override(RECIPES["edge"], ["cycles=2"]), epochs=5)
