"""Training on a cluster, without Ray: addresses, shares, what travels, the store, and the driver on a fake of Ray."""

import dataclasses
import socket
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import make_faces
from records import training
from toy_job import expected_state, toy_job

from fer_edge.artifacts.epoch_log import EpochRecord, read_epochs
from fer_edge.artifacts.reporter import SILENT, Reporter
from fer_edge.artifacts.run_folder import read_run_record
from fer_edge.train import series
from fer_edge.train.checkpoint import StoppedError
from fer_edge.train.cluster import Cluster, RunResources, open_cluster, parse_address, share
from fer_edge.train.cluster_driver import train_on_cluster
from fer_edge.train.cluster_probe import find_problem
from fer_edge.train.cluster_store import CONTINUE, STOP, SUPERSEDED, EpochStore
from fer_edge.train.plan import make_plan
from fer_edge.train.planned_run import PlannedRun
from fer_edge.train.recipes import RECIPES
from fer_edge.train.ship import pack_faces, read_source, sources, unpack_faces, with_local_sources, write_sources
from fer_edge.train.splits import make_split
from fer_edge.train.vary import combinations, folder_of


@pytest.fixture(scope="module")
def few_faces():
    images = [np.full((8, 8), number, np.uint8) for number in range(40)]
    return make_faces(["happy", "sad"], [0, 1] * 20, images=images)


def planned(faces, folder, seeds=(0, 1), epochs=3, weights="none"):
    split = make_split(faces, "paper")
    return [
        PlannedRun(make_plan("cnn", RECIPES["paper"], epochs=epochs, seed=seed, weights=weights), split, folder / f"run-{seed}")
        for seed in seeds
    ]


class WorkerLostError(Exception):
    pass


class Reference:
    def __init__(self, value=None, run=None):
        self.value = value
        self.run = run


class FakeRay:
    """Runs tasks one after the other in this process. A worker is lost when it sends one of the epochs in ``lost``."""

    class RayError(Exception):
        pass

    class RayTaskError(RayError):
        def __init__(self, cause):
            self.cause = cause

    def __init__(self, lost=(), interrupt_at=None):
        self.exceptions = SimpleNamespace(RayError=self.RayError, RayTaskError=self.RayTaskError)
        self.lost, self.interrupt_at, self.cancelled = list(lost), interrupt_at, []

    def nodes(self):
        return [{"Alive": True, "Resources": {"CPU": 2.0}}]

    def remote(self, **options):
        def decorate(target):
            if isinstance(target, type):
                return SimpleNamespace(remote=lambda: self.actor(target()))
            return SimpleNamespace(remote=lambda *arguments: Reference(run=lambda: target(*map(self.get, arguments))))

        return decorate

    def actor(self, instance):
        handle = type("Handle", (), {})()
        for name in ("start", "begin", "save", "note", "stop", "take"):
            setattr(handle, name, SimpleNamespace(remote=lambda *arguments, name=name: self.call(instance, name, arguments)))
        return handle

    def call(self, instance, name, arguments):
        answer = getattr(instance, name)(*arguments)
        if name == "save":
            key = (arguments[0].run, arguments[0].attempt, arguments[0].epoch)
            if key == self.interrupt_at:
                raise KeyboardInterrupt
            if key in self.lost:
                raise WorkerLostError
        return Reference(answer)

    def put(self, value):
        return Reference(value)

    def get(self, reference):
        if not isinstance(reference, Reference):
            return reference
        if isinstance(reference.value, Exception):
            raise reference.value
        return reference.value

    def wait(self, tasks, timeout):
        task = tasks[0]
        try:
            task.value = task.run()
        except WorkerLostError:
            task.value = self.RayError("the node died")
        except (StoppedError, ValueError) as error:
            task.value = self.RayTaskError(error)
        return [task], tasks[1:]

    def cancel(self, task, force):
        self.cancelled.append(task)

    def kill(self, actor):
        pass

    def get_runtime_context(self):
        return SimpleNamespace(get_node_id=lambda: "node")


class Lines(Reporter):
    def __init__(self):
        self.warnings = []
        self.results = []

    def warn(self, text):
        self.warnings.append(text)

    def result(self, text):
        self.results.append(text)


def train_toys(monkeypatch, ray, faces, series, stop_at=None, reporter=SILENT):
    monkeypatch.setitem(sys.modules, "ray", ray)
    train_on_cluster(Cluster(ray, RunResources()), series, faces, ("fer-edge",), stop_at, reporter, job=toy_job)


def test_a_lost_worker_continues_after_its_last_epoch_and_nothing_is_trained_twice(monkeypatch, tmp_path, few_faces):
    lines = Lines()
    ray = FakeRay(lost=[("run-1", 1, 2)])
    train_toys(monkeypatch, ray, few_faces, planned(few_faces, tmp_path), reporter=lines)
    for seed in (0, 1):
        assert (tmp_path / f"run-{seed}" / "model.keras").read_bytes() == expected_state(seed, 3)
        assert not (tmp_path / f"run-{seed}" / "checkpoint.npz").exists()
    log = [(record.run, record.attempt, record.epoch) for record in read_epochs(tmp_path / "epochs.jsonl")]
    assert log == [("run-0", 1, 1), ("run-0", 1, 2), ("run-0", 1, 3), ("run-1", 1, 1), ("run-1", 1, 2), ("run-1", 2, 3)]
    assert lines.warnings == ["run-1: its worker was lost after epoch 2 (RayError). Continuing elsewhere"]


def test_a_run_that_loses_every_worker_fails_and_the_others_finish(monkeypatch, tmp_path, few_faces):
    ray = FakeRay(lost=[("run-0", attempt, 1) for attempt in (1, 2, 3)])
    ray.call_begin = ray.call

    def call(instance, name, arguments):  # the worker dies before its first epoch
        if name == "begin" and arguments[0] == "run-0":
            raise WorkerLostError
        return ray.call_begin(instance, name, arguments)

    monkeypatch.setattr(ray, "call", call)
    with pytest.raises(RuntimeError, match=r"1 runs failed; 1 of 2 .*\n  run-0: 3 workers in a row .* the node died"):
        train_toys(monkeypatch, ray, few_faces, planned(few_faces, tmp_path))
    assert (tmp_path / "run-1" / "model.keras").is_file()


def test_an_error_of_a_run_is_reported_and_not_repeated(monkeypatch, tmp_path, few_faces):
    with pytest.raises(RuntimeError, match="run-0: ValueError: the weights do not fit"):
        train_toys(monkeypatch, FakeRay(), few_faces, planned(few_faces, tmp_path, weights="fails.h5"))
    assert len(read_epochs(tmp_path / "epochs.jsonl")) == 6  # each epoch of both runs once


def test_ctrl_c_leaves_checkpoints_that_the_next_command_continues(monkeypatch, tmp_path, few_faces):
    series = planned(few_faces, tmp_path)
    with pytest.raises(StoppedError, match=r"interrupted: 1 of 2 runs have finished. Continue with --resume"):
        train_toys(monkeypatch, FakeRay(interrupt_at=("run-1", 1, 2)), few_faces, series)
    assert (tmp_path / "run-1" / "checkpoint.npz").read_bytes().startswith(b"2:")
    assert read_run_record(tmp_path / "run-1").plan == series[1].plan
    train_toys(monkeypatch, FakeRay(), few_faces, series[1:])
    assert (tmp_path / "run-1" / "model.keras").read_bytes() == expected_state(1, 3)
    assert sorted((record.run, record.epoch) for record in read_epochs(tmp_path / "epochs.jsonl")) == [
        (f"run-{seed}", epoch) for seed in (0, 1) for epoch in (1, 2, 3)
    ]


def test_no_run_starts_after_the_time_is_up(monkeypatch, tmp_path, few_faces):
    with pytest.raises(StoppedError, match="time is up: 1 of 2 runs have finished"):
        train_toys(monkeypatch, FakeRay(), few_faces, planned(few_faces, tmp_path), stop_at=0)
    assert not (tmp_path / "run-1").exists()


def record(attempt, epoch):
    return EpochRecord("run", attempt, epoch, 3, {}, "host", "node", 1, "now")


def test_the_store_refuses_a_worker_whose_run_was_taken_over():
    store = EpochStore()
    store.start("run", 1)
    assert store.save(record(1, 1), b"one") == CONTINUE
    store.start("run", 2)
    assert store.begin("run", 2) == CONTINUE
    assert store.save(record(1, 2), b"late") == SUPERSEDED
    assert store.save(record(2, 2), b"two") == CONTINUE
    update = store.take()
    assert [(entry.attempt, entry.epoch) for entry in update.epochs] == [(1, 1), (2, 2)]
    assert update.checkpoints == {"run": b"two"}
    assert store.take().epochs == []


def test_a_stopped_store_ends_runs_after_their_epoch_but_lets_the_last_epoch_finish():
    store = EpochStore()
    store.start("run", 1)
    store.stop()
    assert store.begin("run", 1) == STOP
    assert store.save(record(1, 2), b"") == STOP
    assert store.save(record(1, 3), b"") == CONTINUE


@pytest.mark.parametrize(
    ("on", "address"),
    [("ray", None), ("ray://head", "head:10001"), ("ray://10.0.0.1:99", "10.0.0.1:99"), ("ray://[::1]:99", "[::1]:99")],
)
def test_an_address_is_parsed(on, address):
    assert parse_address(on) == address


@pytest.mark.parametrize("on", ["", "dask", "http://head:1", "ray://", "ray://head:port", "ray://head:1/path", "head:6379"])
def test_a_wrong_address_is_rejected(on):
    with pytest.raises(ValueError, match=r"--on takes ray .* Received: '"):
        parse_address(on)


def test_an_address_without_a_cluster_is_reported_at_once(error_of):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # without listen: connections are refused
        port = unused.getsockname()[1]
        message = error_of("train", "cnn", "--data", "no-such-data", "--on", f"ray://127.0.0.1:{port}")
    assert f"no Ray cluster answers at 127.0.0.1:{port}" in message
    assert "ray start --head" in message


def test_a_missing_ray_is_reported_with_the_extra(monkeypatch, error_of):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert "pip install 'fer-edge[cluster]'" in error_of("train", "cnn", "--data", "no-such-data", "--on", "ray")


def test_without_a_cluster_nothing_is_opened():
    with open_cluster(None, RunResources()) as cluster:
        assert cluster is None


@pytest.mark.parametrize(
    ("nodes", "runs", "resources", "expected"),
    [
        ([{"CPU": 2}], 90, RunResources(), (1, 0.0)),
        ([{"CPU": 64}, {"CPU": 64}], 4, RunResources(), (8, 0.0)),
        ([{"CPU": 4}, {"CPU": 4}], 2, RunResources(), (4, 0.0)),
        ([{"CPU": 16, "GPU": 4.0}], 8, RunResources(), (2, 1.0)),
        ([{"CPU": 16, "GPU": 4.0}], 8, RunResources(devices=2), (2, 2.0)),
        ([{"CPU": 16, "GPU": 4.0}], 8, RunResources(cpus=3, gpus=0.25), (3, 0.25)),
    ],
)
def test_runs_share_the_nodes(nodes, runs, resources, expected):
    assert share(nodes, runs, resources) == expected


def test_a_share_that_no_node_has_is_rejected():
    with pytest.raises(ValueError, match=r"no node .* has 4 CPUs and 0 GPUs, as each.*largest numbers are 2 CPUs"):
        share([{"CPU": 2}, {"CPU": 2}], 1, RunResources(cpus=4))


@pytest.mark.parametrize("wrong", [{"cpus": 0}, {"gpus": -1}, {"gpus": 1.5}, {"checkpoint_seconds": -1}])
def test_impossible_resources_are_rejected(wrong):
    with pytest.raises(ValueError, match="Received"):
        RunResources(**wrong)


def test_a_node_reports_what_it_lacks():
    from fer_edge import __version__

    assert find_problem(__version__, ["json"]) is None
    assert find_problem("9.9", []) == f"it has fer-edge {__version__}, not 9.9"
    assert find_problem(__version__, ["json", "no_such_module"]) == "not installed: no_such_module"


def test_faces_travel_as_one_array(few_faces):
    packed = pack_faces(few_faces)
    assert packed.images.shape == (40, 8, 8)
    assert unpack_faces(packed).fingerprint == few_faces.fingerprint
    mixed = dataclasses.replace(few_faces, images=(np.zeros((2, 3), np.uint8), *few_faces.images[1:]))
    assert unpack_faces(pack_faces(mixed)).fingerprint == mixed.fingerprint


def test_a_worker_trains_from_a_copy_of_the_initial_weights(tmp_path):
    file = tmp_path / "here" / "first.h5"
    file.parent.mkdir()
    file.write_bytes(b"weights")
    plan = make_plan("vgg16", RECIPES["paper"], weights=str(file))
    assert sources(plan) == [str(file)]
    assert sources(dataclasses.replace(plan, weights="imagenet")) == []
    paths = write_sources({str(file): read_source(str(file))}, tmp_path / "there")
    local = with_local_sources(plan, paths)
    assert local.weights != plan.weights
    assert local.weights.endswith("/first.h5")
    assert paths[str(file)].read_bytes() == b"weights"


def test_every_combination_of_varied_settings_gets_a_folder():
    made = combinations(["learning_rate=0.001,0.003", "mixup=0.2"])
    assert made == [("learning_rate=0.001", "mixup=0.2"), ("learning_rate=0.003", "mixup=0.2")]
    assert str(folder_of("runs", made[0])) == "runs/learning_rate=0.001,mixup=0.2"
    assert str(folder_of("runs", combinations([])[0])) == "runs"


@pytest.mark.parametrize("varied", [["mixup"], ["=1,2"], ["mixup=1,,2"], ["mixup=1,1"], ["mixup=1", "mixup=2"]])
def test_a_wrong_variation_is_rejected(varied):
    with pytest.raises(ValueError, match="--vary takes"):
        combinations(varied)


def test_a_series_trains_every_combination_seed_and_fold_and_reports_their_means(monkeypatch, tmp_path):
    trained = []

    def note_run(plan, faces, split, folder, **how):
        trained.append((folder.relative_to(tmp_path).as_posix(), plan.recipe.learning_rate, plan.seed, split.fold))
        assert how["resume"] is True

    def finished(folder):
        result = training("subject", 0.5 + 0.1 * len(trained)).results
        return SimpleNamespace(folder=folder, results=result, record=training("subject", 0.5))

    monkeypatch.setattr(series, "check_keras", lambda: None)
    monkeypatch.setattr(series, "start_keras", lambda: None)
    monkeypatch.setattr(series, "train_run", note_run)
    monkeypatch.setattr(series, "read_trained_run", finished)
    lines = Lines()
    options = series.TrainOptions(
        protocol="subject", folds=2, seeds=(0, 1), vary=("learning_rate=0.001,0.003",), weights=("none",),
        out=tmp_path, resume=True,
    )  # fmt: skip
    runs = series.train("cnn", "synthetic:10", options, reporter=lines)
    names = [f"learning_rate={rate}/cnn-synthetic-edge-changed-subject_f{fold}of2-s{seed}" for rate in ("0.001", "0.003")
             for seed in (0, 1) for fold in (0, 1)]  # fmt: skip
    assert [name for name, *_ in trained] == names
    assert [rest for _, *rest in trained[:4]] == [[0.001, seed, fold] for seed in (0, 1) for fold in (0, 1)]
    assert [run.folder.relative_to(tmp_path).as_posix() for run in runs] == names
    means = [line for line in lines.results if ", mean ± standard deviation" in line]
    assert [line.partition("accuracy ")[2][:6] for line in means] == ["0.7500", "1.1500"]
