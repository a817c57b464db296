import io
import time

import keras
import numpy as np
import pytest
from conftest import make_faces

from fer_edge.artifacts.metrics import classification_metrics
from fer_edge.artifacts.run_folder import read_run_record
from fer_edge.artifacts.training_plan import Augmentation
from fer_edge.train.augment import augment, mix
from fer_edge.train.calibration_faces import calibration_faces, choose_calibration
from fer_edge.train.checkpoint import CHECKPOINT_FILE, StoppedError
from fer_edge.train.draws import StepDraws
from fer_edge.train.fit import train_run
from fer_edge.train.networks import NETWORKS, build_network
from fer_edge.train.optimizer import build_optimizer
from fer_edge.train.plan import make_plan
from fer_edge.train.precision import choose_precision
from fer_edge.train.predict import keras_probabilities
from fer_edge.train.recipes import RECIPES, override
from fer_edge.train.splits import make_split
from fer_edge.train.unsure_threshold import unsure_threshold
from fer_edge.train.write_run import start_run


def test_the_paper_recipe_is_the_published_one():
    recipe = RECIPES["paper"]
    assert (recipe.optimizer, recipe.learning_rate, recipe.schedule, recipe.batch_size) == ("adam", 0.001, "constant", 32)
    published = {name: count for name, count in recipe.epochs.items() if NETWORKS[name].compared}
    assert published == {"cnn": 30, "vgg16": 30, "inception_v3": 10, "mobilenet_v2": 10, "densenet121": 10}
    assert recipe.augmentation == Augmentation(rotation_degrees=15, shift=0.15, shear=0.15, zoom=0.15, flip=True)


def test_a_run_folder_holds_what_later_stages_need(run_folder, faces):
    run = read_run_record(run_folder)
    split = make_split(faces, "subject", seed=1)
    assert run.ids == split.ids(faces)
    assert run.data.fingerprint == faces.fingerprint
    assert len(run.results.history["val_accuracy"]) == 2
    assert run.results.metrics.test.count == len(split.test)
    names = {path.name for path in run_folder.iterdir()}
    assert names == {"model.keras", "run.json", "calibration.npz", "held_out.npz", "curves.png", "confusion.png"}


def test_few_training_faces_calibrate_together_with_their_mirror_images():
    images = [np.array([[number, 100 + number]], np.uint8) for number in range(20)]
    few = make_faces(["bored", "calm"], [0, 1] * 10, images=images)
    split = make_split(few, "paper", seed=0)
    stored = calibration_faces(few, split, seed=0)
    own = {few.images[i].tobytes() for i in split.train}
    assert len(stored.images) == 2 * len(split.train)
    assert {image.tobytes() for image in stored.images} == own | {value[::-1] for value in own}
    assert np.bincount(stored.targets).tolist() == [len(split.train)] * 2


def test_calibration_faces_are_distinct_training_faces_of_every_class(faces):
    split = make_split(faces, "paper")
    chosen = choose_calibration(faces, split, seed=0)
    assert set(chosen) <= set(split.train.tolist())
    assert len({faces.digests[i] for i in chosen}) == len(chosen)
    counts = np.bincount(faces.targets[chosen], minlength=8)
    assert counts.max() - counts.min() <= 3


class InterruptedByTestError(Exception):
    pass


def without(checkpoint, name):
    """A checkpoint that lacks the arrays whose names contain ``name``."""
    with np.load(io.BytesIO(checkpoint)) as content:
        arrays = {key: values for key, values in content.items() if name not in key}
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def test_a_stopped_run_resumes_at_its_last_whole_epoch(tmp_path, faces):
    recipe = override(RECIPES["paper"], ["batch_size=8"])  # enough steps for an average of the weights
    plan = make_plan("cnn_nano", recipe, image_size=32, epochs=3)
    split = make_split(faces, "subject")

    def stop_after_two(epoch, metrics):
        if epoch == 2:
            raise InterruptedByTestError

    with pytest.raises(InterruptedByTestError):
        train_run(plan, faces, split, tmp_path / "run", on_epoch=stop_after_two)
    with pytest.raises(FileExistsError, match="Continue it with --resume"):
        train_run(plan, faces, split, tmp_path / "run")
    other = make_plan("cnn_nano", recipe, image_size=32, epochs=4)
    with pytest.raises(ValueError, match=r"started with other settings \(epochs 3, not 4\)"):
        train_run(other, faces, split, tmp_path / "run", resume=True)
    whole = (tmp_path / "run" / CHECKPOINT_FILE).read_bytes()
    different = "was written by a different version"
    for content, message in (
        (whole[:1000], "cannot be read"),
        (without(whole, "state"), "cannot be read"),
        (without(whole, "adam/"), different),
        (without(whole, "probabilities/kernel"), different),
    ):
        (tmp_path / "run" / CHECKPOINT_FILE).write_bytes(content)
        with pytest.raises(ValueError, match=f"checkpoint .* {message}.*Remove its folder and train again"):
            train_run(plan, faces, split, tmp_path / "run", resume=True)
    (tmp_path / "run" / CHECKPOINT_FILE).write_bytes(whole)
    seen = []
    run = train_run(plan, faces, split, tmp_path / "run", resume=True, on_epoch=lambda epoch, metrics: seen.append(epoch))
    assert seen == [3]
    assert len(run.results.history["loss"]) == 3
    assert train_run(plan, faces, split, tmp_path / "run", resume=True) == run  # a finished run is not trained again


def test_a_run_does_not_resume_with_other_settings(tmp_path, faces):
    split = make_split(faces, "subject")
    start_run(tmp_path, make_plan("cnn", RECIPES["paper"], image_size=32, epochs=2), faces, split)
    other = make_plan("cnn", override(RECIPES["paper"], ["erase=0.5"]), image_size=32, epochs=2)
    with pytest.raises(ValueError, match=r"other settings \(name paper, not paper-changed; erase 0\.0, not 0\.5\)"):
        train_run(other, faces, split, tmp_path, resume=True)


@pytest.mark.parametrize(("steps", "momentum"), [(10_000, 0.98), (100, 0.9), (11, 1 / 11), (10, 0), (1, 0)])
def test_the_moving_average_forgets_the_initial_weights(steps, momentum):
    optimizer = build_optimizer(RECIPES["edge"], steps)
    assert (optimizer.ema_momentum if optimizer.use_ema else 0) == pytest.approx(momentum)
    assert momentum**steps < 1e-4  # their remaining weight
    assert not build_optimizer(override(RECIPES["edge"], ["ema_momentum=0"]), steps).use_ema


def test_a_run_that_cannot_start_leaves_no_folder(tmp_path, faces):
    plan = make_plan("mobilenet_v2", RECIPES["paper"], image_size=32, epochs=1, weights=str(tmp_path / "none.h5"))
    with pytest.raises(FileNotFoundError, match="no weights at"):
        train_run(plan, faces, make_split(faces, "subject"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("network", "flags", "precision"),
    [
        ("vgg16", "avx2 amx_bf16", "mixed_bfloat16"),
        ("cnn", "avx2 avx512_bf16", "mixed_bfloat16"),
        ("cnn", "avx2 avx512f", "float32"),
        ("mobilenet_v2", "avx2 avx512_bf16", "float32"),
    ],
)
def test_bfloat16_is_chosen_where_it_is_faster(monkeypatch, network, flags, precision):
    monkeypatch.setattr("fer_edge.train.precision._has_gpu", lambda: False)
    monkeypatch.setattr("pathlib.Path.is_file", lambda self: True)
    monkeypatch.setattr("pathlib.Path.read_text", lambda self: f"processor : 0\nflags : fpu {flags}\n")
    assert choose_precision(network, "auto") == precision


def test_mixed_precision_reaches_the_layers_and_the_kept_model_is_float32(tmp_path, faces):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = build_network("cnn", 32, 3)
        assert model.get_layer("block1_conv_a").compute_dtype == "bfloat16"
        assert model.get_layer("probabilities").compute_dtype == "float32"
    finally:
        keras.config.set_dtype_policy("float32")
    plan = make_plan("cnn_nano", RECIPES["edge"], image_size=32, epochs=1, precision="mixed_bfloat16")
    train_run(plan, faces, make_split(faces, "subject"), tmp_path / "run")
    kept = keras.models.load_model(tmp_path / "run" / "model.keras", compile=False)
    assert {layer.compute_dtype for layer in kept.layers} == {"float32"}


@pytest.fixture
def squares():
    """64 black faces of 32 pixels with a white square in the middle."""
    faces = np.zeros((64, 32, 32, 1), np.float32)
    faces[:, 14:18, 14:18] = 255
    return faces


def test_augmentation_is_off_by_default(squares):
    assert augment(squares, Augmentation(), StepDraws(keras.random.SeedGenerator(0))) is squares


def test_shift_moves_faces_within_its_range(squares):
    moved = np.asarray(augment(squares, Augmentation(shift=0.25), StepDraws(keras.random.SeedGenerator(0))))
    rows = (moved.sum(axis=(2, 3)) * np.arange(32)).sum(axis=1) / moved.sum(axis=(1, 2, 3))
    assert 4 < np.abs(rows - 15.5).max() <= 8.1


def test_a_warp_keeps_the_range_of_the_pixels(squares):
    ranges = Augmentation(rotation_degrees=30, shift=0.25, shear=0.2, zoom=0.2, flip=True)
    moved = np.asarray(augment(squares, ranges, StepDraws(keras.random.SeedGenerator(0))))
    assert moved.min() >= 0
    assert 200 < moved.max() <= 255.01


def test_flipping_keeps_the_rows(squares):
    ramp = squares + np.arange(32, dtype=np.float32)[:, None, None]  # brighter from row to row, equal within each
    flipped = np.asarray(augment(ramp, Augmentation(flip=True), StepDraws(keras.random.SeedGenerator(0))))
    assert flipped == pytest.approx(ramp, abs=1e-3)  # the square is symmetric


def test_flipping_mirrors_about_half_of_the_faces():
    ramp = np.tile(np.arange(16, dtype=np.float32)[None, None, :, None], (200, 16, 1, 1))
    flipped = np.asarray(augment(ramp, Augmentation(flip=True), StepDraws(keras.random.SeedGenerator(1))))
    mirrored = [np.allclose(face, ramp[0, :, ::-1], atol=1e-3) for face in flipped]
    kept = [np.allclose(face, ramp[0], atol=1e-3) for face in flipped]
    assert sum(mirrored) + sum(kept) == 200
    assert 70 < sum(mirrored) < 130


def test_bad_settings_are_rejected():
    with pytest.raises(ValueError, match="unknown network 'vgg'; choose one of: cnn, vgg16"):
        make_plan("vgg", RECIPES["edge"])
    with pytest.raises(ValueError, match="epochs must be at least 1"):
        make_plan("cnn", RECIPES["edge"], epochs=0)


def test_mixup_weights_labels_like_pixels():
    faces = np.repeat(np.arange(0, 200, dtype=np.float32)[:, None, None, None], 8, axis=1).repeat(8, axis=2)
    labels = np.eye(200, dtype=np.float32)
    mixed, shares = (np.asarray(x) for x in mix(faces, labels, Augmentation(mixup=0.5), keras.random.SeedGenerator(0)))
    assert shares.sum(axis=1) == pytest.approx(np.ones(200), abs=1e-5)
    # Every face has one tone, its number: a mixed one has the mean of two numbers, weighted as its label is.
    assert mixed[:, 0, 0, 0] == pytest.approx(shares @ np.arange(200), abs=1e-2)
    assert 60 < (shares.max(axis=1) < 1).sum() < 140


def test_cutmix_pastes_a_rectangle_and_counts_its_area_in_the_label():
    faces = np.zeros((100, 16, 16, 1), np.float32)
    faces[::2] = 100.0
    labels = np.eye(2, dtype=np.float32)[np.arange(100) % 2]
    mixed, shares = (np.asarray(x) for x in mix(faces, labels, Augmentation(cutmix=1.0), keras.random.SeedGenerator(0)))
    assert set(np.unique(mixed)) == {0.0, 100.0}
    assert (mixed == 100.0).mean(axis=(1, 2, 3)) == pytest.approx(shares[:, 0], abs=1e-5)
    assert len(np.unique(shares)) > 20


def test_mixing_is_off_by_default():
    faces, labels = np.ones((4, 8, 8, 1), np.float32), np.eye(4, dtype=np.float32)
    same_faces, same_labels = mix(faces, labels, Augmentation(erase=0.5), keras.random.SeedGenerator(0))
    assert same_faces is faces
    assert same_labels is labels


def test_a_run_that_ran_out_of_time_keeps_a_checkpoint_and_resumes(tmp_path, faces, monkeypatch):
    recipe = override(RECIPES["edge"], ["mixup=0.3", "cutmix=0.3"])
    plan = make_plan("cnn_nano", recipe, image_size=32, epochs=3)
    split = make_split(faces, "subject")
    with pytest.raises(StoppedError, match=r"stopped after epoch 1 of 3. Continue with --resume"):
        train_run(plan, faces, split, tmp_path / "run", stop_at=time.monotonic() + 0.2)
    with pytest.raises(StoppedError, match="was not started"):
        train_run(plan, faces, split, tmp_path / "run", resume=True, stop_at=0.0)
    predicted = []

    def predict(model, subset, resolution_px):
        predicted.append(len(subset))
        return keras_probabilities(model, subset, resolution_px)

    monkeypatch.setattr("fer_edge.train.fit.keras_probabilities", predict)
    run = train_run(plan, faces, split, tmp_path / "run", resume=True)
    assert len(run.results.history["loss"]) == 3
    assert run.plan.recipe.name == "edge-changed"
    # Each part is predicted once, and the metrics are those of the calibrated model in the folder.
    assert sorted(predicted) == sorted(len(part) for part in (split.train, split.validation, split.test))
    assert run.results.temperature != 1
    kept = keras.models.load_model(tmp_path / "run" / "model.keras", compile=False)
    validation = faces.subset(split.validation)
    probabilities = keras_probabilities(kept, validation, faces.resolution_px)
    stored = run.results.metrics.validation
    assert stored.loss == pytest.approx(classification_metrics(probabilities, validation.targets, faces.labels).loss, abs=1e-4)
    assert run.results.unsure_threshold == pytest.approx(unsure_threshold(probabilities, validation.targets), abs=1e-3)
