"""Model files that are measured in turn, and fer-edge bench compare with files instead of records."""

import pytest

from fer_edge import compare_files as module
from fer_edge.artifacts.contract import ModelError
from fer_edge.artifacts.latency_records import LatencyProtocol
from fer_edge.benchmarks.measure_in_turn import measure_in_turn
from fer_edge.benchmarks.record_comparison import AllowedChange
from fer_edge.benchmarks.timing import time_in_turn
from fer_edge.compare_files import compare_files
from fer_edge.edge_runtime.find_model import bundled_models

SHORT = LatencyProtocol(warmup_runs=1, min_runs=3, min_seconds=0.0)


class Calls:
    """Two calls that take 1 and 2 ms on a clock of their own."""

    def __init__(self):
        self.now_ns = 0
        self.order = []

    def call(self, name, milliseconds):
        self.order.append(name)
        self.now_ns += milliseconds * 1_000_000

    def timed(self, *limits):
        pair = (lambda: self.call("old", 1), lambda: self.call("new", 2))
        return time_in_turn(pair, *limits, clock_ns=lambda: self.now_ns)


def test_the_first_call_changes_from_pair_to_pair():
    calls = Calls()
    assert calls.timed(2, 3, 0.0) == ((1.0, 1.0, 1.0), (2.0, 2.0, 2.0))
    assert calls.order == ["old", "new"] * 2 + ["old", "new", "new", "old", "old", "new"]


def test_both_minima_are_reached():
    old, new = Calls().timed(0, 3, 0.030)
    assert len(old) == len(new) == 10  # 3 ms for each pair


def test_files_are_measured_in_a_new_process(int8_model):
    old, new = measure_in_turn(int8_model, bundled_models()["mobilenet_v2_fer2013"], protocol=SHORT)
    assert (len(old), len(new)) == (3, 3)
    assert min(*old, *new) > 0


def test_a_file_that_is_no_model_is_an_error(int8_model, tmp_path):
    (tmp_path / "x.tflite").write_bytes(b"no model")
    with pytest.raises(ModelError, match=r"x\.tflite' cannot be measured: not a \.tflite file"):
        measure_in_turn(int8_model, tmp_path / "x.tflite", protocol=SHORT)


@pytest.fixture
def folders(tmp_path, int8_model, monkeypatch):
    """Two folders with one file in common, whose new version takes 1.3 times as long, and the pairs that were measured."""
    for folder, names in (("old", ("a", "gone")), ("new", ("a", "added"))):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / f"{name}.tflite").write_bytes(int8_model.read_bytes())
    measured = []

    def measure(old, new, threads, protocol):
        measured.append((old, new))
        return (1.0, 1.01, 0.99) * 100, (1.3, 1.31, 1.29) * 100

    monkeypatch.setattr(module, "measure_in_turn", measure)
    return tmp_path / "old", tmp_path / "new", measured


def test_files_of_the_same_name_in_two_folders_are_compared(folders):
    old, new, measured = folders
    (file,) = compare_files(old, new, AllowedChange(latency=0.2)).files
    assert measured == [(old / "a.tflite", new / "a.tflite")]
    assert file.ratio.value == pytest.approx(1.3)
    assert file.slower
    assert not compare_files(old, new, AllowedChange(latency=0.5)).files[0].slower


def test_a_slower_file_ends_the_command_with_status_1(folders, invoke):
    old, new, _ = folders
    worse, allowed = (invoke("bench", "compare", old, new, "--allow", percent) for percent in (20, 50))
    assert (worse.exit_code, allowed.exit_code) == (1, 0)
    assert "1.30" in worse.stdout


def test_a_file_is_not_compared_with_a_folder_nor_folders_without_a_common_file(folders, int8_model):
    old, new, _ = folders
    with pytest.raises(ValueError, match="a folder is compared with a folder, and a file with a file"):
        compare_files(int8_model, new, AllowedChange())
    (new / "a.tflite").unlink()
    with pytest.raises(ValueError, match=r"have no \.tflite file of the same name"):
        compare_files(old, new, AllowedChange())
