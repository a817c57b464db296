import json
import math
import re
from dataclasses import asdict, replace

import numpy as np
import pytest
from conftest import make_faces

from fer_edge.artifacts.mean_ci import estimate
from fer_edge.benchmarks.experiment_log import summarise
from fer_edge.train.cross_validate import make_splits
from fer_edge.train.dataset import DataError
from fer_edge.train.recipes import RECIPES, find_recipe, override, to_cli_args


def test_a_network_s_own_settings_change_its_recipe_and_no_other():
    assert find_recipe("edge", "cnn_nano").learning_rate == 0.003
    assert find_recipe("edge", "vgg16") == replace(RECIPES["edge"], batch_norm=True)
    assert find_recipe("edge", "densenet121") == RECIPES["edge"]
    assert find_recipe("paper", "cnn_nano") == RECIPES["paper"]


def test_settings_change_a_recipe_and_its_name():
    changed = override(RECIPES["edge"], ["batch_size=256", "mixup=0.5", "flip=false", "schedule=constant"])
    assert (changed.batch_size, changed.augmentation.mixup, changed.augmentation.flip) == (256, 0.5, False)
    assert (changed.schedule, changed.name) == ("constant", "edge-changed")
    assert override(RECIPES["edge"], ["learning_rate=1"]).learning_rate == 1.0
    assert override(RECIPES["edge"], []) is RECIPES["edge"]


@pytest.mark.parametrize("pair", ["batch_size=0.5", "batch_size=x", "batch_size", "flip=1"])
def test_settings_of_another_kind_are_refused(pair):
    with pytest.raises(ValueError, match=rf"NAME=VALUE.*Received: '{pair}'"):
        override(RECIPES["edge"], [pair])
    with pytest.raises(
        ValueError, match="unknown setting 'epochs'; choose one of: balance, batch_norm, batch_size, bn_momentum, brightness"
    ):
        override(RECIPES["edge"], ["epochs=3"])


@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        (["schedule=cosin"], "unknown schedule 'cosin'; choose one of: constant, cosine"),
        (["optimizer=sgd"], "unknown optimizer 'sgd'; choose one of: adam, adamw"),
        (["batch_size=0"], "batch_size must be at least 1. Received: 0"),
        (["learning_rate=0"], "learning_rate must be above 0. Received: 0"),
        (["learning_rate=NaN"], "learning_rate must be above 0. Received: nan"),
        (["balance=-1"], "balance must not be negative. Received: -1"),
        (["teacher_share=1.5"], "teacher_share is a share from 0 to 1. Received: 1.5"),
        (["ema_momentum=1"], "ema_momentum must be from 0 to below 1. Received: 1"),
        (["erase=35"], "erase is a share from 0 to 1. Received: 35"),
        (["rotation_degrees=-5"], "rotation_degrees goes from 0 to 180. Received: -5"),
        (["mixup=0.6", "cutmix=0.6"], "mixup and cutmix are together at most 1. Received: 0.6 and 0.6"),
    ],
)
def test_settings_out_of_their_bounds_are_refused(pairs, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        override(RECIPES["edge"], pairs)


def test_a_recipe_s_options_make_it_again():
    settings = ["learning_rate=0.002", "schedule=constant", "calibrate=false", "flip=false", "mixup=0.3"]
    for network in ("cnn", "cnn_nano"):
        changed = override(find_recipe("edge", network), settings)
        options = to_cli_args(network, json.loads(json.dumps(asdict(changed))))
        assert options[:2] == ["--recipe", "edge"]
        assert set(options[2::2]) == {"--set"}
        assert set(options[3::2]) == set(settings)
        assert override(find_recipe(options[1], network), options[3::2]) == changed
    assert to_cli_args("cnn_nano", asdict(find_recipe("edge", "cnn_nano"))) == ["--recipe", "edge"]


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
    with pytest.raises(DataError, match=r"at least 2 classes; .* has 'happy' only"):
        make_splits(make_faces(["happy"], [0] * 24, subjects=people), "paper", [0], None, None)


def test_the_interval_of_a_mean_is_student_s():
    got = estimate([0.90, 0.92, 0.94])
    assert (got.mean, got.runs) == (pytest.approx(0.92), 3)
    assert got.high - got.mean == pytest.approx(4.302653 * 0.02 / 3**0.5, rel=1e-5)
    assert got.mean - got.low == pytest.approx(got.high - got.mean)
    assert str(estimate([0.5])) == "0.5000"
    assert str(estimate([0.9, 0.94])) == "0.9200 ± 0.0283 (0.6659 to 1.0000, 2 runs)"  # no share is above 1
    assert str(estimate([0.9, 0.1], highest=math.inf)) == "0.5000 ± 0.5657 (0.0000 to 5.5825, 2 runs)"
    with pytest.raises(ValueError, match="no runs"):
        estimate([])


def test_runs_are_summarised_by_their_test_figures():
    runs = [{"metrics": {"test": {"accuracy": a, "loss": 1.0, "ece": 0.1, "macro": {"f1": a}}}} for a in (0.6, 0.8)]
    assert summarise(runs)["accuracy"].mean == pytest.approx(0.7)
    assert summarise(runs)["loss"].deviation == 0
