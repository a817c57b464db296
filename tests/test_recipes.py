import re
from dataclasses import replace

import pytest

from fer_edge.train.recipes import RECIPES, find_recipe, override, recipe_changes


def test_per_network_overrides_change_only_their_recipe_and_network():
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
def test_settings_of_another_type_are_rejected(pair):
    with pytest.raises(ValueError, match=rf"NAME=VALUE.*Received: '{pair}'"):
        override(RECIPES["edge"], [pair])
    with pytest.raises(
        ValueError, match="unknown setting 'epochs'; choose one of: batch_norm, batch_size, bn_momentum, brightness"
    ):
        override(RECIPES["edge"], ["epochs=3"])


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["schedule=cosin"], "unknown schedule 'cosin'; choose one of: constant, cosine"),
        (["optimizer=lion"], "unknown optimizer 'lion'; choose one of: adam, adamw, sgd"),
        (["momentum=1"], "momentum must be at least 0 and below 1. Received: 1"),
        (["head_dropout=1"], "head_dropout must be at least 0 and below 1. Received: 1"),
        (["random_crop=1"], "random_crop must be below 1. Received: 1"),
        (["batch_size=0"], "batch_size must be at least 1. Received: 0"),
        (["learning_rate=0"], "learning_rate must be above 0. Received: 0"),
        (["learning_rate=NaN"], "learning_rate must be above 0. Received: nan"),
        (["class_weight_power=-1"], "class_weight_power must not be negative. Received: -1"),
        (["distillation_weight=1.5"], "distillation_weight must be a fraction from 0 to 1. Received: 1.5"),
        (["ema_momentum=1"], "ema_momentum must be at least 0 and below 1. Received: 1"),
        (["erase=35"], "erase must be a fraction from 0 to 1. Received: 35"),
        (["rotation_degrees=-5"], "rotation_degrees must be between 0 and 180. Received: -5"),
        (["mixup=0.6", "cutmix=0.6"], "mixup and cutmix must not exceed 1 together. Received: 0.6 and 0.6"),
    ],
)
def test_settings_out_of_their_bounds_are_rejected(pairs, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        override(RECIPES["edge"], pairs)


@pytest.mark.parametrize("network", ["cnn", "cnn_nano"])
def test_recipe_changes_are_the_overridden_settings(network):
    settings = ["learning_rate=0.002", "schedule=constant", "calibrate=false", "flip=false", "mixup=0.3"]
    assert set(recipe_changes(network, override(find_recipe("edge", network), settings))) == set(settings)


def test_an_unchanged_recipe_has_no_changes():
    assert recipe_changes("cnn_nano", find_recipe("edge", "cnn_nano")) == ()


def test_an_unnamed_recipe_has_no_changes():
    assert recipe_changes("cnn", replace(RECIPES["edge"], name="mine", batch_size=1)) == ()
