import numpy as np
import pytest
from conftest import make_faces

from fer_edge.benchmarks.accuracy import summarise
from fer_edge.benchmarks.estimate import estimate
from fer_edge.train.cross_validate import make_splits
from fer_edge.train.recipes import RECIPES, find_recipe, with_settings


def test_a_network_s_own_settings_change_its_recipe_and_no_other():
    assert find_recipe("edge", "cnn_nano").learning_rate == 0.003
    assert find_recipe("edge", "vgg16") == RECIPES["edge"]
    assert find_recipe("paper", "cnn_nano") == RECIPES["paper"]


def test_settings_change_a_recipe_and_its_name():
    changed = with_settings(RECIPES["edge"], ["batch_size=256", "mixup=0.5", "flip=false", "schedule=constant"])
    assert (changed.batch_size, changed.augmentation.mixup, changed.augmentation.flip) == (256, 0.5, False)
    assert (changed.schedule, changed.name) == ("constant", "edge-changed")
    assert with_settings(RECIPES["edge"], ["learning_rate=1"]).learning_rate == 1.0
    assert with_settings(RECIPES["edge"], []) is RECIPES["edge"]


@pytest.mark.parametrize("pair", ["batch_size=0.5", "batch_size=x", "batch_size", "flip=1"])
def test_settings_of_another_kind_are_refused(pair):
    with pytest.raises(ValueError, match=rf"NAME=VALUE.*Received: '{pair}'"):
        with_settings(RECIPES["edge"], [pair])
    with pytest.raises(
        ValueError, match="unknown setting 'epochs'; choose one of: balance, batch_size, bn_momentum, brightness"
    ):
        with_settings(RECIPES["edge"], ["epochs=3"])


def test_folds_without_a_fold_are_all_folds_of_every_seed():
    people = [f"S{number // 2}" for number in range(24)]
    faces = make_faces(["happy", "sad"], [0, 1] * 12, subjects=people)
    splits = make_splits(faces, "subject", [0, 7], 3, None)
    assert [(seed, split.fold) for seed, split in splits] == [(0, 0), (0, 1), (0, 2), (7, 0), (7, 1), (7, 2)]
    tested = np.sort(np.concatenate([split.test for seed, split in splits if seed == 0]))
    assert tested.tolist() == list(range(24))  # each face is tested once
    assert [split.fold for _, split in make_splits(faces, "subject", [0], 3, 1)] == [1]
    with pytest.raises(ValueError, match="each seed must come once"):
        make_splits(faces, "paper", [1, 1], None, None)


def test_the_interval_of_a_mean_is_student_s():
    got = estimate([0.90, 0.92, 0.94])
    assert (got.mean, got.runs) == (pytest.approx(0.92), 3)
    assert got.high - got.mean == pytest.approx(4.302653 * 0.02 / 3**0.5, rel=1e-5)
    assert got.mean - got.low == pytest.approx(got.high - got.mean)
    assert str(estimate([0.5])) == "0.5000"
    with pytest.raises(ValueError, match="no runs"):
        estimate([])


def test_runs_are_summarised_by_their_test_figures():
    runs = [{"metrics": {"test": {"accuracy": a, "loss": 1.0, "ece": 0.1, "macro": {"f1": a}}}} for a in (0.6, 0.8)]
    assert summarise(runs)["accuracy"].mean == pytest.approx(0.7)
    assert summarise(runs)["loss"].deviation == 0
