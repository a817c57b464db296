"""fer_edge.train and fer_edge.evaluate, as the commands call them."""

import subprocess
import sys

import pytest

import fer_edge
from fer_edge.artifacts.reporter import Reporter
from fer_edge.artifacts.run_folder import read_run_record
from fer_edge.train.series import TrainOptions

pytestmark = pytest.mark.tensorflow


class Messages(Reporter):
    """Keeps results and warnings."""

    def __init__(self):
        self.results = []
        self.warnings = []

    def result(self, text):
        self.results.append(text)

    def warn(self, text):
        self.warnings.append(text)


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """Two seeds of cnn_nano, and the messages of their training."""
    messages = Messages()
    options = TrainOptions(
        image_size=32, epochs=1, seeds=(0, 1), protocol="paper", weights=("none",), out=tmp_path_factory.mktemp("series")
    )
    command = ("fer-edge", "train", "cnn_nano", "--data", "/home/me/faces.zip")
    return fer_edge.train("cnn_nano", "synthetic:10", options, command=command, reporter=messages), messages


def test_a_series_has_one_finished_run_per_seed(series):
    runs, _ = series
    assert [run.folder.name for run in runs] == [f"cnn_nano-synthetic-edge-paper-s{seed}" for seed in (0, 1)]
    assert [read_run_record(run.folder) for run in runs] == [run.record for run in runs]
    assert all(run.results == run.record.results for run in runs)


def test_a_run_stores_its_command_without_the_folders_of_the_user(series):
    runs, _ = series
    assert runs[0].record.command == ("fer-edge", "train", "cnn_nano", "--data", "faces.zip")


def test_a_series_reports_each_test_accuracy_and_their_mean(series):
    runs, messages = series
    accuracies = [run.results.metrics.test.accuracy for run in runs]
    for run, accuracy in zip(runs, accuracies, strict=True):
        assert any(line.startswith(f"cnn_nano: test accuracy {accuracy:.4f}") for line in messages.results)
        assert any(line.endswith(f"-> {run.folder}") for line in messages.results)
    assert f"accuracy {sum(accuracies) / 2:.4f} ± " in messages.results[-1]


def test_a_leaky_protocol_is_warned_about(series):
    _, messages = series
    assert [warning.startswith("leaky split: ") for warning in messages.warnings] == [True]


def test_evaluate_measures_a_run_like_its_training_and_adds_the_ensemble(series):
    runs, _ = series
    first, second, ensemble = fer_edge.evaluate(
        [run.folder for run in runs], "synthetic:10", protocol="paper", seed=0, ensemble=True
    )
    assert first.record.metrics == runs[0].results.metrics.test
    assert "another split" in second.record.warning
    assert ensemble.record.title == "ensemble of 2"
    assert ensemble.probabilities == pytest.approx((first.probabilities + second.probabilities) / 2)


def test_a_misspelled_option_is_reported_without_importing_keras():
    code = (
        "import sys\nfrom fer_edge.main import main\ntry: main(['train', 'resnet', '--data', 'synthetic'])\n"
        "finally: sys.exit('keras' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "unknown network 'resnet'" in result.stderr
    assert result.returncode == 0
