"""fer-edge reproduce: its plan, its estimate and its pages."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from records import converted, evaluation, latency, training

from fer_edge import reproduction_plan
from fer_edge.artifacts.accuracy_records import read_accuracy_records
from fer_edge.artifacts.run_folder import read_run_record
from fer_edge.benchmarks.paper import reproduction as page
from fer_edge.reproduction_plan import NETWORKS, protocol_options
from fer_edge.train.estimate import BatchTime, disk_bytes, run_seconds
from fer_edge.train.plan import make_plan
from fer_edge.train.planned_run import PlannedRun
from fer_edge.train.recipes import RECIPES
from fer_edge.train.splits import Split

TIMED = BatchTime("cnn", 48, 10, "a PC, 2 cores", start_s=3.0, batch_s=0.3, parameters=1_000_000, peak_memory_bytes=1)


def runs_of(quick):
    options = [options for network in NETWORKS for options in protocol_options(network, Path("runs"), quick)]
    return [(chosen, len(chosen.seeds) * (1 if chosen.fold is not None else chosen.folds or 1)) for chosen in options]


def test_a_reproduction_has_five_seeds_and_ten_folds_of_six_networks():
    runs = runs_of(quick=False)
    assert sum(count for _, count in runs) == 6 * (5 + 10)
    assert {chosen.protocol: count for chosen, count in runs} == {"paper": 5, "subject": 10}
    assert {chosen.epochs for chosen, _ in runs} == {12, 20, 30}


def test_a_quick_reproduction_has_one_seed_and_one_fold():
    runs = runs_of(quick=True)
    assert [count for _, count in runs] == [1] * 12
    assert {(chosen.protocol, chosen.fold, chosen.epochs) for chosen, _ in runs} == {("paper", None, 2), ("subject", 0, 2)}


def test_a_run_takes_its_batches_its_forward_passes_and_its_start():
    split = Split("paper", 0, None, None, *(np.arange(count) for count in (100, 20, 40)))
    plan = make_plan("cnn", replace(RECIPES["paper"], batch_size=10), epochs=2)
    face_s = 0.3 / 10 / 3
    expected = 3 * (1 + 1 / 3) + 2 * (10 * 0.3 + 20 * face_s) + (100 + 40 + 40) * face_s
    assert run_seconds(TIMED, PlannedRun(plan, split, Path("run"))) == pytest.approx(expected)


def test_the_disk_holds_all_models_and_one_checkpoint_of_the_largest():
    small = replace(TIMED, parameters=100_000)
    assert disk_bytes([(TIMED, 3), (small, 2)]) == 5 * 3_200_000 + 16_000_000


def test_a_disk_that_is_too_small_is_reported(tmp_path):
    from fer_edge.reproduce import _check_disk

    _check_disk(tmp_path / "a" / "b", 1)
    with pytest.raises(OSError, match=r"needs 1000000000.0 GB, but .* Choose another folder with --out"):
        _check_disk(tmp_path / "a" / "b", 10**18)


@pytest.mark.parametrize(("seconds", "text"), [(59.4, "59 s"), (150, "2 min"), (7000, "117 min"), (9000, "2.5 h")])
def test_durations_have_a_readable_unit(seconds, text):
    from fer_edge.reproduce import _duration

    assert _duration(seconds) == text


def test_wrong_arguments_are_reported(invoke, error_of, tmp_path):
    assert "'resnet' is not in the comparison; choose from: cnn, vgg16" in error_of(
        "reproduce", "ck48", "--data", "synthetic", "--network", "resnet"
    )
    assert invoke("reproduce", "fer2013", "--data", "synthetic").exit_code == 2


@pytest.fixture
def reproduction(monkeypatch, tmp_path):
    recorded = tmp_path / "recorded.jsonl"
    monkeypatch.setattr(page, "RECORDED", recorded)
    trainings = [
        converted(training("paper", 0.9, data="mine", digest="a"), 0.89),
        converted(training("paper", 0.8, seed=1, data="mine", digest="b"), 0.79),
        training("subject", 0.7, fold=0, folds=10, data="mine", digest="c"),
    ]
    timed = replace(latency(), file_bytes=900_000)
    return page.Reproduction(("cnn", "vgg16"), trainings, [evaluation(data="mine", digest="a")], [timed], ["Data: 981 faces."])


def test_the_page_has_published_and_measured_figures_per_network(reproduction):
    text, tables = page.reproduction_pages(reproduction, "records.jsonl", "tables.md")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    assert rows[2] == ["CNN", "0.980", "0.850 ± 0.071 (2)", "-", "0.700 (1)", "-", "-1.00", "0.90", "2.00"]
    assert rows[3][:3] == ["VGG16", "0.970", "not measured"]
    assert "- Data: 981 faces." in text
    assert "`fer-edge reproduce ck48` wrote this page from the records in `records.jsonl`" in tables
    assert "0.8500 ± 0.0707" in tables


def test_the_summary_fits_a_terminal_of_100_columns(reproduction):
    lines = page.summary_table(reproduction).splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[2].split() == ["CNN", "0.980", "0.850", "(2)", "-", "0.700", "(1)", "-", "-1.00", "2.00"]


@pytest.mark.tensorflow
def test_a_reproduction_of_drawn_faces_ends_with_its_tables_and_is_not_repeated(invoke, tmp_path, monkeypatch):
    monkeypatch.setattr(reproduction_plan, "QUICK_EPOCHS", 1)
    command = ("reproduce", "ck48", "--data", "synthetic:10", "--quick", "--network", "cnn_nano", "--out", tmp_path)
    first = invoke(*command)
    assert first.exit_code == 0, first.output
    assert "2 of 2 runs to train here" in first.stdout
    assert "these are not the 981 faces of CK+48" in first.stderr
    assert "--quick leaves out" in first.stderr
    trainings, _ = read_accuracy_records(tmp_path / "records.jsonl")
    assert sorted(record.split.title for record in trainings) == ["paper", "subject 0/10"]
    assert [len([*(tmp_path / "runs").glob(f"*-{name}*/*_int8.tflite*")]) for name in ("paper-s0", "subject_f0of10")] == [1, 0]
    assert "| cnn_nano" in (tmp_path / "reproduction.md").read_text()
    assert "## Accuracy (published table 5)" in (tmp_path / "tables.md").read_text()
    (folder,) = (tmp_path / "runs").glob("*-paper-s0")
    written = read_run_record(folder).written
    records = (tmp_path / "records.jsonl").read_bytes()
    again = invoke(*command)
    assert "0 of 2 runs to train here" in again.stdout
    assert read_run_record(folder).written == written
    assert (tmp_path / "records.jsonl").read_bytes() == records
