import shutil
from dataclasses import replace

import numpy as np
import pytest

from fer_edge.artifacts.run_folder import read_run_record
from fer_edge.train.distill import check_teachers, teacher_labels
from fer_edge.train.fit import train_run
from fer_edge.train.plan import make_plan
from fer_edge.train.recipes import RECIPES
from fer_edge.train.soft_labels import training_targets
from fer_edge.train.splits import make_split
from fer_edge.train.synthetic import synthetic_faces
from fer_edge.train.weights import check_no_leakage
from fer_edge.train.write_run import check_resumable, start_run


def test_teachers_are_cached_and_their_mean_is_mixed_into_the_labels(run_folder, faces, tmp_path):
    split = make_split(faces, "subject", seed=1)
    recipe = replace(RECIPES["edge"], distillation_weight=0.25, teacher_temperature=1.0)
    plan = make_plan("cnn", recipe, image_size=32, seed=1, teachers=[str(run_folder), str(run_folder)])
    labels = training_targets(plan, faces, split, tmp_path).labels
    soft = teacher_labels([str(run_folder)], faces, split.train, 1.0, tmp_path)
    hard = np.eye(len(faces.labels))[faces.targets[split.train]]
    assert labels == pytest.approx(0.75 * hard + 0.25 * soft, abs=1e-6)
    assert labels.sum(axis=1) == pytest.approx(np.ones(len(labels)), abs=1e-5)
    (cached,) = (tmp_path / ".teacher_cache").iterdir()
    np.save(cached, np.zeros((len(faces), len(faces.labels)), np.float32) + 1 / len(faces.labels))
    asked_again = teacher_labels([str(run_folder)], faces, split.train, 1.0, tmp_path)
    assert asked_again == pytest.approx(np.full_like(asked_again, 1 / len(faces.labels)))


def test_a_teacher_that_has_seen_the_test_faces_is_rejected(run_folder, faces, tmp_path):
    def check(teacher, faces, split):
        check_teachers(make_plan("cnn", RECIPES["edge"], teachers=[str(teacher)]), faces, split)

    with pytest.raises(ValueError, match=r"was trained on \d+ faces that are validation or test here"):
        check(run_folder, faces, make_split(faces, "subject", seed=2))
    two = faces.with_labels(("happy", "sad"))
    with pytest.raises(ValueError, match=r"has the labels angry, .*the data has happy, sad"):
        check(run_folder, two, make_split(two, "subject"))
    with pytest.raises(FileNotFoundError, match="is not a run folder"):
        check(tmp_path, faces, make_split(faces, "subject"))
    check(run_folder, synthetic_faces(10), make_split(synthetic_faces(10), "subject"))


def test_initial_weights_of_a_run_that_has_seen_the_test_faces_are_rejected(run_folder, faces, tmp_path, error_of):
    other, same = make_split(faces, "subject", seed=2), make_split(faces, "subject", seed=1)
    for source in (run_folder, run_folder / "model.keras"):
        with pytest.raises(ValueError, match=r"of --weights was trained on \d+ faces that are validation or test here. Use"):
            check_no_leakage(str(source), faces, other)
        check_no_leakage(str(source), faces, same)
    for source in ("auto", "none", str(tmp_path / "imagenet.h5")):
        check_no_leakage(source, faces, other)
    plan = make_plan("cnn", RECIPES["paper"], image_size=32, epochs=1, weights=str(run_folder))
    with pytest.raises(ValueError, match="faces that are validation or test here"):
        train_run(plan, faces, other, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    options = ("--data", "synthetic:12", "--protocol", "subject", "--seed", "2", "--weights", run_folder, "--out", tmp_path)
    assert "faces that are validation or test here" in error_of("train", "cnn", *options)


def test_a_run_does_not_resume_with_a_replaced_teacher(run_folder, faces, tmp_path):
    folder = shutil.copytree(run_folder, tmp_path / "teacher")
    split = make_split(faces, "subject", seed=1)

    def plan():
        return make_plan("cnn_nano", RECIPES["edge"], image_size=32, epochs=1, seed=1, weights="none", teachers=[str(folder)])

    first = plan()
    assert first.parent_digests == (None, read_run_record(run_folder).results.model_digest)
    start_run(tmp_path / "run", first, faces, split)
    assert check_resumable(tmp_path / "run", plan(), faces, resume=True) is None
    (folder / "model.keras").write_bytes(b"another model")
    with pytest.raises(ValueError, match=r"other settings \('.*teacher' was another model\)"):
        check_resumable(tmp_path / "run", plan(), faces, resume=True)


def test_a_student_is_trained_and_its_run_names_its_teacher_and_its_temperature(run_folder, faces, tmp_path):
    plan = make_plan("cnn_nano", RECIPES["edge"], image_size=32, epochs=1, seed=1, teachers=[str(run_folder)])
    run = train_run(plan, faces, make_split(faces, "subject", seed=1), tmp_path / "student")
    assert run.plan.teachers == (str(run_folder),)
    assert 0.25 <= run.results.temperature <= 4
    assert read_run_record(tmp_path / "student") == run
