"""Epochs by minutes, and lists of trainings."""

import sys

import pytest

from fer_edge.artifacts.run_folder import read_run_record
from fer_edge.train.budget import epoch_seconds, epochs_that_fit, measure_step
from fer_edge.train.checkpoint import StoppedError
from fer_edge.train.fit import train_run
from fer_edge.train.plan import make_plan
from fer_edge.train.recipes import RECIPES, override
from fer_edge.train.series import TrainOptions, make_plans
from fer_edge.train.splits import make_split
from fer_edge.train.trainer import steps_per_epoch
from fer_edge.training_list import read_trainings

RECORDER = """
import json, sys
open({log!r}, "a").write(json.dumps(sys.argv[1:]) + chr(10))
sys.exit("broken" in sys.argv)
"""


def plan_of(**options):
    recipe = override(RECIPES["paper"], ["batch_size=8", "schedule=cosine"])
    return make_plan("cnn_nano", recipe, image_size=32, weights="none", **options)


@pytest.fixture(scope="module")
def split(faces):
    return make_split(faces, "subject")


def test_as_many_epochs_fit_as_the_time_allows(split):
    plan = plan_of(minutes=1.0)
    epoch_s = epoch_seconds(plan, split, 0.3)
    assert epoch_s == pytest.approx(0.3 * steps_per_epoch(plan, split) + 0.1 / 8 * len(split.validation))
    end_s = 0.1 / 8 * (len(split.train) + 2 * len(split.validation) + len(split.test))
    assert epochs_that_fit(plan, split, 0.3, 7.01 * epoch_s + end_s) == 7
    assert epochs_that_fit(plan, split, 0.3, 6.99 * epoch_s + end_s) == 6
    assert epochs_that_fit(plan, split, 0.3, 0.0) == 1
    cycles = make_plan("cnn_nano", override(RECIPES["edge"], ["cycles=4"]), minutes=1)
    forty = epoch_seconds(cycles, split, 0.3)
    assert [epochs_that_fit(cycles, split, 0.3, factor * forty + 1e3) % 4 for factor in (9, 10, 11)] == [0, 0, 0]
    assert epochs_that_fit(cycles, split, 0.3, 0.0) == 4


@pytest.mark.tensorflow
def test_a_run_with_minutes_keeps_its_number_of_epochs_when_it_is_resumed(faces, split, tmp_path, monkeypatch):
    measured = []

    def measure(trainer, plan, faces, split, max_s):
        result = measure_step(trainer, plan, faces, split, max_s)
        measured.append((max_s, int(trainer.optimizer.iterations.numpy())))
        return result

    def three_fit(plan, split, step_s, left_s):
        assert 0 < step_s < 60
        assert left_s < 60
        return 3

    monkeypatch.setattr("fer_edge.train.budget.measure_step", measure)
    monkeypatch.setattr("fer_edge.train.budget.epochs_that_fit", three_fit)

    def stop(epoch, metrics):
        raise StoppedError

    with pytest.raises(StoppedError):
        train_run(plan_of(minutes=1.0), faces, split, tmp_path / "run", on_epoch=stop)
    assert read_run_record(tmp_path / "run").plan.epochs == 3
    with pytest.raises(ValueError, match=r"started with other settings \(minutes 1\.0, not 2\.0\)"):
        train_run(plan_of(minutes=2.0), faces, split, tmp_path / "run", resume=True)
    run = train_run(plan_of(minutes=1.0), faces, split, tmp_path / "run", resume=True)
    assert (len(run.results.history["loss"]), run.plan.epochs, run.plan.minutes) == (3, 3, 1)
    ((max_s, steps),) = measured  # once
    assert max_s == 3.0  # 5 % of a minute
    assert 5 <= steps <= steps_per_epoch(plan_of(minutes=1.0), split) + 6  # the callback may be late


@pytest.mark.parametrize("options", [{"minutes": 0.0}, {"minutes": float("nan")}, {"minutes": 5, "epochs": 3}])
def test_minutes_that_make_no_sense_are_rejected(options):
    with pytest.raises(ValueError, match=r"--minutes takes a number above 0, and no --epochs. Received: minutes="):
        plan_of(**options)


def test_minutes_are_not_measured_on_a_cluster(tmp_path):
    with pytest.raises(ValueError, match=r"--minutes measures this machine. With --on, use --epochs"):
        make_plans("cnn", TrainOptions(minutes=5, on="ray", out=tmp_path))


@pytest.fixture
def run_list(tmp_path, monkeypatch, invoke):
    """Run a list with a program in place of fer-edge that records its arguments; return the result and the arguments."""
    log = tmp_path / "log"
    monkeypatch.setattr("fer_edge.training_list.TRAIN", (sys.executable, "-c", RECORDER.format(log=str(log))))

    def call(text, *options):
        (tmp_path / "list.txt").write_text(text)
        result = invoke("dev", "train-list", tmp_path / "list.txt", *options)
        calls = log.read_text() if log.is_file() else ""
        log.unlink(missing_ok=True)
        return result, calls.splitlines()

    return call


def test_a_list_runs_its_trainings_in_order_and_goes_on_after_one_that_fails(run_list):
    text = """# first the teacher
fer-edge train cnn --data 'my faces'   # a comment

fer-edge train cnn_nano --data x --out broken \\
    --epochs 2
fer-edge train vgg16 --data d --out broken
fer-edge train vgg16 --data d
"""
    result, calls = run_list(text)
    assert calls == [
        '["cnn", "--data", "my faces", "--resume"]',
        '["cnn_nano", "--data", "x", "--out", "broken", "--epochs", "2", "--resume"]',
        '["vgg16", "--data", "d", "--out", "broken", "--resume"]',
        '["vgg16", "--data", "d", "--resume"]',
    ]
    assert result.exit_code == 1
    assert "2 of 4 trainings failed. Repeat the command to continue; finished runs are skipped" in result.stderr
    assert "failed: line 5: fer-edge train cnn_nano --data x --out broken --epochs 2" in result.stderr
    assert "[1/4] line 2: fer-edge train cnn --data 'my faces'" in result.stdout


def test_a_list_stops_when_its_time_is_up(run_list):
    result, calls = run_list("fer-edge train cnn --data d\n", "--stop-after", "100")
    assert calls[0].startswith('["cnn", "--data", "d", "--resume", "--stop-after", "100"')
    assert result.exit_code == 0
    result, calls = run_list("fer-edge train cnn --data d\n", "--stop-after", "0")
    assert calls == []
    assert "time is up before line 1: fer-edge train cnn --data d. Repeat the command to continue" in result.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# nothing\n", "has no training"),
        ("fer-edge train cnn --data d\nls\n", r"line 2 of .* is not a training: it does not start with 'fer-edge train'"),
        ("fer-edge train cnn --data d --epoch x\n", "line 1 of .* is not a training: .*epoch"),
        ("fer-edge train cnn\n", "Missing option '--data'"),
        ("fer-edge train 'cnn\n", "No closing quotation"),
    ],
)
def test_a_line_that_is_not_a_training_is_rejected_before_anything_runs(tmp_path, text, message):
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_trainings(tmp_path / "list.txt")
    with pytest.raises(FileNotFoundError, match="no list of trainings"):
        read_trainings(tmp_path / "other.txt")
