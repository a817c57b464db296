import shutil
import zipfile
from dataclasses import replace

import pytest
from records import evaluation, metrics, training

from fer_edge.artifacts.accuracy_records import read_accuracy_records
from fer_edge.artifacts.file_digest import file_digest
from fer_edge.artifacts.mean_ci import summarize
from fer_edge.artifacts.run_folder import (
    MODEL_FILE,
    RUN_VERSION,
    LoadedWeights,
    RunRecord,
    SplitMetrics,
    read_run_record,
    write_run_record,
)
from fer_edge.artifacts.training_data import DataSummary, SplitIds
from fer_edge.benchmarks.experiment_log import (
    append_evaluations,
    append_trainings,
    deduplicate,
    latest_evaluations,
    training_record,
)
from fer_edge.edge_runtime.find_model import bundled_models


@pytest.fixture
def run(tmp_path):
    """A finished run folder without a usable model."""
    folder = tmp_path / "runs" / "cnn-run"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / MODEL_FILE, "w") as archive:
        archive.writestr("model.weights.h5", b"weights")
    made = training("subject", 0.7)
    one = metrics(0.7)
    of_each = replace(one, per_class=dict.fromkeys(("happy", "sad"), one.per_class["happy"]), confusion=((7, 3), (0, 0)))
    results = replace(
        made.results,
        model_digest=file_digest(folder / MODEL_FILE),
        history={"loss": (1.0,)},
        metrics=SplitMetrics(of_each, of_each, of_each),
    )
    data = DataSummary("ck48", "f", 10, 48)
    record = RunRecord(
        RUN_VERSION, ("happy", "sad"), made.plan, (), data, made.split, SplitIds(("a",), (), ()), {}, "now", results=results
    )  # fmt: skip
    write_run_record(folder, record)
    return folder


def rewrite(folder, **changes):
    write_run_record(folder, replace(read_run_record(folder), **changes))


def test_the_record_of_a_run_is_added_once_and_names_no_folder_of_the_user(run, tmp_path):
    log = tmp_path / "accuracy.jsonl"
    assert append_trainings(log, [run]) == 1
    assert append_trainings(log, [run]) == 0
    model = bundled_models()["cnn_nano_fer2013"]
    shutil.copy(model, run)
    assert append_trainings(log, [run]) == 1  # converted since, so it replaces the earlier record
    (record,) = deduplicate(read_accuracy_records(log)[0])
    (converted,) = record.converted.values()
    assert converted.file_bytes == model.stat().st_size
    assert record.results.metrics.test.accuracy == 0.7
    assert record.results.history == {}
    assert str(tmp_path) not in log.read_text()
    with pytest.raises(FileNotFoundError, match="is not a run folder"):
        append_trainings(log, [tmp_path])


def test_paths_in_a_record_are_reduced_to_names(run):
    earlier = read_run_record(run)
    plan = replace(
        earlier.plan,
        ferplus="/home/me/fer2013new.csv",
        weights="/home/me/runs/first-s0",
        teachers=("/home/me/runs/a/model.keras", "/home/me/a/cnn_int8.tflite", "cnn_nano"),
        parent_digests=("first", "a", "cnn", "nano"),
    )
    results = replace(earlier.results, weights=LoadedWeights("/home/me/runs/first-s0/model.keras"))
    command = ("/usr/bin/fer-edge", "train", "cnn", "--data=/home/me/ck48.zip", "--weights", "/home/me/runs/first-s0", "--set")
    rewrite(
        run, plan=plan, results=results, command=(*command, "mixup=0.2", "--teacher", "models/cnn.tflite", "--out", "../x/y")
    )
    record = training_record(run)
    assert (record.plan.ferplus, record.plan.weights) == ("fer2013new.csv", "first-s0")
    assert record.plan.teachers == ("a", "a/cnn_int8.tflite", "cnn_nano")
    assert record.plan.parent_digests == ("first", "a", "cnn", "nano")
    assert record.results.weights.source == "first-s0"
    assert " ".join(record.command) == (
        "fer-edge train cnn --data=ck48.zip --weights first-s0 --set mixup=0.2 --teacher models/cnn.tflite --out y"
    )


def test_an_unfinished_or_replaced_run_is_not_recorded(run):
    (run / MODEL_FILE).write_bytes(b"other weights")
    with pytest.raises(ValueError, match="is not the model that this run finished with"):
        training_record(run)
    rewrite(run, results=None)
    with pytest.raises(FileNotFoundError, match="has not finished"):
        training_record(run)


def test_the_last_of_equal_evaluations_counts(tmp_path):
    log = tmp_path / "r.jsonl"
    for precision, accuracy in (("int8", 0.1), ("int8-tflite", 0.3), ("int8", 0.2)):
        append_evaluations(log, [evaluation(accuracy, model="/home/me/m.tflite", precision=precision)])
    records = latest_evaluations(read_accuracy_records(log)[1])
    assert [(record.metrics.accuracy, record.model) for record in records] == [(0.2, "m.tflite"), (0.3, "m.tflite")]
    log.write_text('{"kind": "other"}\n')
    with pytest.raises(ValueError, match=r"line 1 of .* is not an accuracy record"):
        read_accuracy_records(log)


def test_runs_are_summarized_by_their_test_metrics():
    summary = summarize([metrics(0.6, loss=1.0), metrics(0.8, loss=1.0)])
    assert summary["accuracy"].mean == pytest.approx(0.7)
    assert summary["macro_f1"].mean == pytest.approx(0.6)
    assert summary["loss"].deviation == 0
