import json
import os
import re
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import fer_edge
from fer_edge.edge_runtime.find_model import default_model
from fer_edge.edge_runtime.images import write_image
from fer_edge.main import main
from fer_edge.preview_screenshots import find_chromium

PRECISIONS = ("float32", "float16", "dynamic", "int8")
# Of the extras but edge.
OPTIONAL_PACKAGES = {"aiohttp", "bokeh", "jinja2", "matplotlib", "optuna", "paho", "ray", "rich", "scipy", "sklearn"}
TOKEN = "the-right-token-of-this-test"
TENSORFLOW_FIXTURES = {"run_folder", "prepared", "models"}
TENSORFLOW_IMPORT = re.compile(r"^(from|import) (keras|tensorflow)\b", re.MULTILINE)


def pytest_configure(config):
    if config.getoption("markexpr") == "not tensorflow":
        # A test without the marker that imports TensorFlow fails here as it does in an installation of fer-edge[edge].
        sys.modules.update(tensorflow=None, keras=None)
    # When the wheel is under test, the tests must not import the checkout.
    wheel = os.environ.get("FER_EDGE_FROM")
    if wheel and not Path(fer_edge.__file__).is_relative_to(wheel):
        sys.exit(f"the tests import {fer_edge.__file__}, not the wheel in {wheel}")


@cache
def imports_tensorflow(path):
    return bool(TENSORFLOW_IMPORT.search(path.read_text()))


def pytest_ignore_collect(collection_path):
    # Collecting a module imports it.
    if not find_spec("tensorflow") and collection_path.suffix == ".py" and imports_tensorflow(collection_path):
        return True
    return None


def pytest_collection_modifyitems(items):
    for item in items:
        if imports_tensorflow(item.path) or TENSORFLOW_FIXTURES & set(item.fixturenames):
            item.add_marker("tensorflow")
        if item.get_closest_marker("tensorflow") and not find_spec("tensorflow"):
            item.add_marker(pytest.mark.skip(reason="tensorflow is not installed: pip install 'fer-edge[train,convert]'"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    return (yield from _skip_without_optional_package())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    return (yield from _skip_without_optional_package())


def _skip_without_optional_package():
    try:
        return (yield)
    except ImportError as error:
        for name in {error.name, getattr(error.__cause__, "name", None)} & OPTIONAL_PACKAGES:
            if not find_spec(name):
                pytest.skip(f"{name} is not installed")
        raise


@pytest.fixture(autouse=True, scope="session")
def _own_config_folder(tmp_path_factory):
    """Keep the tests away from the user's own token and personal files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        patch.delenv("FER_EDGE_TOKEN", raising=False)
        yield


@pytest.fixture(scope="session")
def faces():
    from fer_edge.train.synthetic import synthetic_faces

    return synthetic_faces(12)


@pytest.fixture(scope="session")
def int8_model():
    """The bundled model file, for tests that need any int8 model."""
    return default_model()


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory, faces):
    from fer_edge.train.fit import train_run
    from fer_edge.train.plan import make_plan
    from fer_edge.train.recipes import RECIPES
    from fer_edge.train.splits import make_split

    folder = tmp_path_factory.mktemp("runs") / "cnn-run"
    # float32 on every CPU: after two epochs in bfloat16 the network returns the same output for every face.
    plan = make_plan("cnn", RECIPES["paper"], image_size=32, epochs=2, seed=1, precision="float32")
    train_run(plan, faces, make_split(faces, "subject", seed=1), folder)
    return folder


@pytest.fixture(scope="session")
def prepared(run_folder, tmp_path_factory):
    from fer_edge.artifacts.run_folder import read_run
    from fer_edge.convert.prepare_run import prepare_run

    return prepare_run(read_run(run_folder), tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def models(prepared):
    from fer_edge.artifacts.gate import Thresholds
    from fer_edge.convert.convert_run import convert_run
    from fer_edge.convert.quantization_recipes import find_quantization_recipe

    # A network of two epochs is near chance level, so quantization may change its labels.
    anything = Thresholds(accuracy_points=100, recall_points=100, agreement_percent=0)
    results = convert_run(prepared, [find_quantization_recipe(precision) for precision in PRECISIONS], anything)
    return {result.contract.precision: result.path for result in results}


@pytest.fixture
def invoke():
    """Run fer-edge with arguments. An uncaught exception fails the test."""

    def call(*arguments):
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


@pytest.fixture
def error_of(invoke):
    """Run fer-edge, expect exit status 1 and return the text of its error."""

    def call(*arguments):
        result = invoke(*arguments)
        assert result.exit_code == 1, result.output
        assert result.stderr.strip().splitlines()[-1].startswith("Error: "), result.stderr
        return result.stderr

    return call


def serve_preview(**options):
    from live import labeled

    from fer_edge.edge_runtime.live.stats import PipelineStats
    from fer_edge.edge_runtime.outputs.preview import PreviewServer

    server = PreviewServer("127.0.0.1:0", PipelineStats(), **options)
    server.write(labeled(1))
    yield server
    server.close(True)


@pytest.fixture
def preview():
    yield from serve_preview()


@pytest.fixture
def guarded():
    yield from serve_preview(token=TOKEN)


def make_faces(labels, targets, subjects=None, official_split=None, images=None):
    """Return a tiny dataset. Its images are all different unless given."""
    from fer_edge.train.dataset import FaceDataset

    count = len(targets)
    return FaceDataset(
        name="tiny",
        labels=tuple(labels),
        ids=tuple(f"face{number}" for number in range(count)),
        images=tuple(images or [np.full((4, 4), number, np.uint8) for number in range(count)]),
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


@pytest.fixture(scope="session")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    program = find_chromium()
    if not program:
        pytest.skip("no Chromium on this machine: sudo apt install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()
