import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import fer_edge
from fer_edge.artifacts.conversion import Thresholds
from fer_edge.artifacts.run_folder import read_run
from fer_edge.convert.convert_run import convert_run
from fer_edge.convert.prepare_run import prepare_run
from fer_edge.convert.quantization_recipes import find_recipe
from fer_edge.edge_runtime.images import write_image
from fer_edge.main import main
from fer_edge.train.dataset import FaceDataset
from fer_edge.train.fit import train_run
from fer_edge.train.plan import make_plan
from fer_edge.train.recipes import RECIPES
from fer_edge.train.splits import make_split
from fer_edge.train.synthetic import synthetic_faces

# A network trained for two epochs is near chance, so the effect of int8 on it means nothing.
NO_LIMITS = Thresholds(accuracy_points=100, recall_points=100, agreement_percent=0)
PRECISIONS = ("float32", "float16", "dynamic", "int8")


def pytest_configure():
    # A test of the wheel must not import the checkout.
    wheel = os.environ.get("FER_EDGE_FROM")
    if wheel and not Path(fer_edge.__file__).is_relative_to(wheel):
        sys.exit(f"the tests import {fer_edge.__file__}, not the wheel in {wheel}")


@pytest.fixture(scope="session")
def faces():
    return synthetic_faces(12)


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory, faces):
    folder = tmp_path_factory.mktemp("runs") / "cnn-run"
    # float32 on every CPU: after two epochs in bfloat16 the network predicts the same label for every face.
    plan = make_plan("cnn", RECIPES["paper"], image_size=32, epochs=2, seed=1, precision="float32")
    train_run(plan, faces, make_split(faces, "subject", seed=1), folder)
    return folder


@pytest.fixture(scope="session")
def source(run_folder, tmp_path_factory):
    return prepare_run(read_run(run_folder), tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def models(source):
    recipes = [find_recipe(precision) for precision in PRECISIONS]
    converted = convert_run(source, recipes, NO_LIMITS)
    return {file.contract.precision: file.path for file in converted}


@pytest.fixture
def invoke():
    """Run fer-edge with arguments; an exception that escapes fails the test."""

    def call(*arguments):
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


@pytest.fixture
def error_of(invoke):
    """Run fer-edge, expect exit code 1 and return the text of its error."""

    def call(*arguments):
        result = invoke(*arguments)
        assert result.exit_code == 1, result.output
        assert result.stderr.strip().splitlines()[-1].startswith("Error: "), result.stderr
        return result.stderr

    return call


def make_faces(labels, targets, subjects=None, official_split=None, images=None):
    """Return a tiny dataset; its images are all different unless given."""
    count = len(targets)
    return FaceDataset(
        name="tiny",
        labels=tuple(labels),
        ids=tuple(f"face{number}" for number in range(count)),
        images=tuple(images or (np.full((4, 4), number, np.uint8) for number in range(count))),
        targets=np.array(targets, np.int64),
        subjects=tuple(subjects or [None] * count),
        official_split=tuple(official_split or [None] * count),
    )


def write_class_folders(root, classes, count=3, side=8):
    """Write gray PNG faces, CLASS/N.png."""
    rng = np.random.default_rng(0)
    for name in classes:
        for number in range(count):
            write_image(root / name / f"{number}.png", rng.integers(0, 256, (side, side), np.uint8))
    return root


def json_lines(text):
    return [json.loads(line) for line in text.splitlines()]
