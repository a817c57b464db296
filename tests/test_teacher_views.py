"""Teachers that see what the network sees: in the graph of each step, or once for stored views."""

import time

import keras
import numpy as np
import pytest
from keras import layers

from fer_edge.artifacts.reporter import SILENT
from fer_edge.artifacts.training_plan import Augmentation
from fer_edge.train.checkpoint import CHECKPOINT_FILE, StoppedError
from fer_edge.train.distill import check_teachers
from fer_edge.train.draws import ViewDraws
from fer_edge.train.fit import train_run
from fer_edge.train.networks import build_network, count_parameters
from fer_edge.train.plan import make_plan
from fer_edge.train.recipes import RECIPES, override
from fer_edge.train.series import TrainOptions, make_plans
from fer_edge.train.soft_labels import TrainingTargets, label_distributions, training_targets
from fer_edge.train.splits import make_split
from fer_edge.train.teacher_views import check_views, header_of, quantize, read_views, store_views
from fer_edge.train.teachers import mean_probabilities
from fer_edge.train.trainer import build_trainer

STRONG = ["rotation_degrees=40", "shift=0.2", "zoom=0.3", "contrast=0.5", "erase=0.5", "noise=0.1", "mixup=0", "cutmix=0"]
TEACHERS_ALONE = ["distillation_weight=1", "teacher_temperature=1", "label_smoothing=0"]


def pixel_teacher(side):
    """A model with 8 classes whose probabilities change with every pixel."""
    keras.utils.set_random_seed(3)
    rgb = keras.Input((side, side, 3))
    x = layers.Flatten()(layers.AveragePooling2D(side // 16)(layers.Rescaling(1 / 255)(rgb)))
    kernel = keras.initializers.RandomNormal(stddev=0.3)
    return keras.Model(rgb, layers.Dense(8, activation="softmax", kernel_initializer=kernel)(x))


class InterruptedByTestError(Exception):
    pass


@pytest.fixture(scope="module")
def split(faces):
    return make_split(faces, "subject", seed=1)


def seen_and_learned(trainer, indices):
    """The RGB faces that the network sees in one step of training, and its targets."""
    step = keras.Model(trainer.input, [trainer.get_layer("as_rgb").output, trainer.output])
    rgb, outputs = (np.asarray(tensor, np.float32) for tensor in step(indices, training=True))
    return rgb, outputs[:, 8:]


def reference(face, view, number):
    """The uniform number of a view, by the arithmetic of numpy."""

    def finalize(value):
        value = np.uint32(value)
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
            value = np.uint32((int(value ^ (value >> np.uint32(shift))) * factor) % 2**32)
        return value ^ (value >> np.uint32(16))

    key = int(finalize((int(finalize(view)) + face * 0x9E3779B9) % 2**32))
    return int(finalize((key + number * 0x9E3779B9) % 2**32) >> np.uint32(8)) / 2**24


def test_the_numbers_of_a_view_depend_on_face_and_view_only():
    draws = ViewDraws(np.array([5, 0, 25_867], np.int32), np.array([63, 0, 7], np.int32))
    first, second = np.asarray(draws.uniform((3, 2))), np.asarray(draws.uniform((4, 3), -1.0, 1.0, axis=1))
    assert first[0] == pytest.approx([reference(5, 63, 1), reference(5, 63, 2)], abs=1e-7)
    assert second[:, 2] == pytest.approx([2 * reference(25_867, 7, number) - 1 for number in range(3, 7)], abs=1e-6)
    alone = ViewDraws(np.array([25_867], np.int32), np.array([7], np.int32))
    alone.uniform((1, 2))
    assert np.asarray(alone.uniform((4, 1), -1.0, 1.0, axis=1))[:, 0] == pytest.approx(second[:, 2])


def test_the_numbers_of_views_are_uniform_and_normal_and_independent():
    faces, views = (np.ravel(grid).astype(np.int32) for grid in np.meshgrid(np.arange(400), np.arange(50)))
    draws = ViewDraws(faces, views)
    uniform, normal = np.asarray(draws.uniform((len(faces), 2))), np.asarray(draws.normal((len(faces),)))
    assert np.histogram(uniform[:, 0], 20, (0, 1))[0] == pytest.approx(np.full(20, 1000), abs=130)
    assert abs(np.corrcoef(uniform.T)[0, 1]) < 0.03
    assert abs(np.corrcoef(uniform[:-50, 0], uniform[50:, 0])[0, 1]) < 0.03
    assert (normal.mean(), normal.std()) == pytest.approx((0, 1), abs=0.03)


@pytest.mark.parametrize("side", [32, 64])
def test_a_teacher_classifies_the_pixels_that_the_network_sees(faces, split, side):
    mixed = [*STRONG[:-2], "mixup=0.5", "cutmix=0.5"]
    recipe = override(RECIPES["edge"], [*mixed, "distillation_weight=0.75", "teacher_temperature=2"])
    plan = make_plan("cnn_nano", recipe, image_size=48, epochs=1, teachers=["x"], teacher_views="same", weights="none")
    teacher = pixel_teacher(side)
    targets = TrainingTargets(label_distributions(faces.subset(split.train)), teachers=[teacher])
    trainer, network, _ = build_trainer(plan, faces, split, targets)
    assert len(trainer.trainable_variables) == len(network.trainable_variables)  # without those of the teacher
    indices = np.arange(16, dtype=np.int32)
    rgb, learned = seen_and_learned(trainer, indices)
    softened = np.sqrt(np.asarray(mean_probabilities([teacher], rgb)))
    labels = (learned - 0.75 * softened / softened.sum(axis=1, keepdims=True)) / 0.25
    assert labels.sum(axis=1) == pytest.approx(np.ones(16), abs=1e-3)
    assert labels.min() > -1e-3  # the rest is a distribution: the mixed labels
    assert ((labels > 0.01).sum(axis=1) == 2).any()
    again, _ = seen_and_learned(trainer, indices)
    assert np.abs(again - rgb).max() > 50  # another step shows other pixels
    assert np.asarray(trainer(indices, training=False))[:, 8:] == pytest.approx(targets.labels[indices])


def test_a_network_sees_the_pixels_whose_outputs_are_stored(faces, split, tmp_path):
    recipe = override(RECIPES["edge"], [*STRONG, *TEACHERS_ALONE])
    plan = make_plan("cnn_nano", recipe, image_size=48, epochs=1, teachers=["x"], teacher_views="4", weights="none")
    teacher = pixel_teacher(48)
    header = header_of(faces, split, recipe.augmentation, 48, 4)
    path = store_views(header, lambda: [teacher], faces, split, tmp_path, None, SILENT)
    stored = read_views(path)
    targets = TrainingTargets(label_distributions(faces.subset(split.train)), views=stored)
    trainer, _, _ = build_trainer(plan, faces, split, targets)
    indices = np.array([40, 3, 3, 3, 3, 3, 3, 3, 3, 17], np.int32)
    rgb, learned = seen_and_learned(trainer, indices)
    assert learned == pytest.approx(np.asarray(teacher(rgb)), rel=0.035, abs=4e-4)
    views = {np.round(row, 4).tobytes() for row in learned[1:9]}
    assert 2 <= len(views) <= 4
    outputs = np.exp(stored.outputs / -32.0)
    assert np.abs(outputs[3, 0] - outputs[3, 1]).max() > 0.05  # the views of a face differ, so the right one was compared


def test_storing_stops_and_continues(faces, split, tmp_path):
    header = header_of(faces, split, RECIPES["edge"].augmentation, 32, 3)
    teacher = pixel_teacher(32)
    arguments = (header, lambda: [teacher], faces, split, tmp_path)
    with pytest.raises(StoppedError, match=r"the teachers saw 1 of 3 views. Continue with --resume"):
        store_views(*arguments, time.monotonic() - 1, SILENT)
    (path,) = tmp_path.iterdir()
    with pytest.raises(ValueError, match=r"has only 1 of 3 views\. Repeat the command"):
        check_views(path, header)
    assert store_views(*arguments, None, SILENT) == path
    continued = read_views(path)
    path.unlink()
    whole = read_views(store_views(*arguments, None, SILENT))
    assert np.array_equal(continued.outputs, whole.outputs)
    assert whole.outputs.dtype == np.uint8
    never_called = (header, None, faces, split, tmp_path, None, SILENT)
    assert store_views(*never_called) == path


def test_a_stored_probability_is_rounded_by_less_than_two_percent():
    probabilities = np.geomspace(0.0004, 1, 500).astype(np.float32)
    assert np.exp(quantize(probabilities) / -32.0) == pytest.approx(probabilities, rel=0.016)
    assert quantize(np.zeros(1, np.float32)) == 255


def test_stored_outputs_of_other_views_or_faces_are_rejected(faces, split, tmp_path):
    edge = RECIPES["edge"].augmentation
    header = header_of(faces, split, edge, 32, 1)
    path = store_views(header, lambda: [pixel_teacher(32)], faces, split, tmp_path, None, SILENT)
    check_views(path, header_of(faces, split, edge, 64, 1))
    with pytest.raises(ValueError, match=r"fit this training: rotation_degrees 15.0, not 0.0; .*Set the same with --set"):
        check_views(path, header_of(faces, split, Augmentation(), 32, 1))
    with pytest.raises(ValueError, match=r"other training faces \(data, protocol, seed or fold\)"):
        check_views(path, header_of(faces, make_split(faces, "subject", seed=2), edge, 32, 1))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="has no teachers' outputs, or is damaged"):
        check_views(path, header)
    with pytest.raises(FileNotFoundError, match=r"no file 'x\.npz' with teachers' outputs"):
        read_views(path.with_name("x.npz").relative_to(tmp_path))
    with pytest.raises(ValueError, match=r"Use --set occlusion=0, or --teacher-views same"):
        header_of(faces, split, Augmentation(occlusion=0.2), 32, 1)


@pytest.mark.parametrize(
    ("views", "teachers", "devices", "message"),
    [
        ("all", ["t"], 1, r"--teacher-views takes same, clean or a number from 1 to 1024. Received: 'all'"),
        ("0", ["t"], 1, "Received: '0'"),
        ("same", [], 1, "--teacher-views same needs a teacher. Name one with --teacher"),
        ("same", ["views.npz"], 1, "has outputs of teachers for stored views, so it must be the only teacher"),
        ("64", ["views.npz", "t"], 1, "Received: 2 teachers, --teacher-views 64"),
        ("same", ["t"], 2, "--teacher-views same runs on one device. Use --teacher-views 64"),
    ],
)
def test_views_that_do_not_fit_the_teachers_are_rejected(views, teachers, devices, message):
    with pytest.raises(ValueError, match=message):
        make_plan("cnn", RECIPES["edge"], teachers=teachers, teacher_views=views, devices=devices)


def test_teachers_that_see_what_the_network_sees_replace_the_label_unless_set(tmp_path):
    def recipe(views, *settings):
        options = TrainOptions(teachers=["cnn_nano"], teacher_views=views, settings=settings, out=tmp_path)
        return make_plans("cnn", options)[0].recipe

    assert (recipe("clean").distillation_weight, recipe("clean").name) == (0.7, "edge")
    assert (recipe("same").distillation_weight, recipe("same").label_smoothing, recipe("64").name) == (1.0, 0.0, "edge-changed")
    assert recipe("64", "distillation_weight=0.9").distillation_weight == 0.9


def test_a_student_of_a_run_is_trained_stopped_and_resumed(run_folder, faces, split, tmp_path):
    settings = ["optimizer=sgd", "learning_rate=0.01", "head_dropout=0.3", "random_crop=0.1", "last_filters=104"]
    recipe = override(RECIPES["edge"], [*settings, "batch_size=64"])
    teachers = [str(run_folder)]
    plan = make_plan("cnn_nano", recipe, image_size=48, epochs=2, seed=1, teachers=teachers, teacher_views="same")

    def stop(epoch, metrics):
        raise InterruptedByTestError

    with pytest.raises(InterruptedByTestError):
        train_run(plan, faces, split, tmp_path / "run", on_epoch=stop)
    with np.load(tmp_path / "run" / CHECKPOINT_FILE) as content:
        assert not [name for name in content if "block1_conv_a" in name]  # of the teacher, a cnn
        assert [name for name in content if "block1_a_conv" in name]
    run = train_run(plan, faces, split, tmp_path / "run", resume=True)
    assert len(run.results.history["loss"]) == 2
    assert run.plan.teacher_views == "same"
    assert run.results.parameters == count_parameters(build_network("cnn_nano", 48, 8, last_filters=104))


def test_outputs_of_a_run_and_of_a_file_are_stored_once_and_replace_them(run_folder, int8_model, faces, split, tmp_path):
    def plan(*teachers):
        return make_plan("cnn", RECIPES["edge"], image_size=32, seed=1, teachers=teachers, teacher_views="1")

    stored = training_targets(plan(str(run_folder), str(int8_model)), faces, split, tmp_path).views
    assert stored.outputs.shape == (len(split.train), 1, 8)
    assert np.exp(stored.outputs / -32.0).sum(axis=2) == pytest.approx(np.ones((len(split.train), 1)), abs=0.05)
    assert stored.header.teachers == (str(run_folder), str(int8_model))
    (file,) = (tmp_path / ".teacher_cache").iterdir()
    check_teachers(plan(str(file)), faces, split)
    again = training_targets(plan(str(file)), faces, split, tmp_path / "other").views
    assert np.array_equal(again.outputs, stored.outputs)


def test_the_first_step_is_traced_once(faces, split):
    plan = make_plan("cnn_nano", RECIPES["edge"], image_size=48, epochs=1, weights="none")
    labels = label_distributions(faces.subset(split.train))
    trainer, _, _ = build_trainer(plan, faces, split, TrainingTargets(labels))
    step, traced = trainer.train_step, []
    trainer.train_step = lambda data: traced.append(data) or step(data)
    for _ in range(2):
        trainer.train_on_batch(np.arange(64, dtype=np.int32), labels[:64])
    assert len(traced) == 1
    assert float(trainer.optimizer.iterations) == 2
