"""A real cluster of two nodes on this machine, one of which is killed midway. ``make test-cluster`` runs these tests."""

import os
import signal
import socket
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from conftest import make_faces
from test_cluster import Lines, planned
from toy_job import expected_state, toy_job

from fer_edge.artifacts.atomic_write import atomic_write
from fer_edge.artifacts.epoch_log import read_epochs
from fer_edge.artifacts.keras_model import load_keras_model
from fer_edge.artifacts.run_folder import read_finished_run
from fer_edge.train.checkpoint import StoppedError
from fer_edge.train.cluster import RunResources, open_cluster
from fer_edge.train.cluster_driver import train_on_cluster
from fer_edge.train.plan import make_plan
from fer_edge.train.recipes import RECIPES, override
from fer_edge.train.splits import make_split

pytest.importorskip("ray", reason="Ray is not installed: pip install 'fer-edge[cluster]', or make test-cluster")

EPOCHS = 8


def free_ports():
    """Ports for the agents of a node. Ray waits 15 s for ports that they choose: too short on a busy machine."""
    names = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in names]
        return {name: opened.getsockname()[1] for name, opened in zip(names, sockets, strict=True)}


@pytest.fixture(scope="module")
def two_nodes():
    """A cluster of two nodes with one CPU each, and its second node. The last test kills it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("TF_TOY_SECONDS", "0.3")
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)  # the workers import toy_job
        from ray.cluster_utils import Cluster

        small = {"num_cpus": 1, "object_store_memory": 80_000_000}
        cluster = Cluster(initialize_head=True, head_node_args={**small, **free_ports(), "include_dashboard": False})
        second = cluster.add_node(**small, **free_ports())
        cluster.wait_for_nodes()
        patch.setenv("RAY_ADDRESS", cluster.address)
        yield cluster, second
        cluster.shutdown()


@pytest.fixture(scope="module")
def few_faces():
    return make_faces(["happy", "sad"], [0, 1] * 20, images=[np.full((8, 8), number, np.uint8) for number in range(40)])


def when_trained(log, nodes, epoch, action):
    """Call ``action`` in a thread when the runs on every one of ``nodes`` nodes have trained some epochs."""

    def watch():
        while True:
            time.sleep(0.1)
            trained = {record.node: record.epoch for record in read_epochs(log)}
            if len(trained) >= nodes and min(trained.values()) >= epoch:
                return action(trained)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def test_ctrl_c_stops_the_workers_and_leaves_every_run_resumable(two_nodes, tmp_path, few_faces):
    log = tmp_path / "epochs.jsonl"
    series = planned(few_faces, tmp_path, seeds=(0, 1), epochs=EPOCHS)
    when_trained(log, 2, 1, lambda trained: os.kill(os.getpid(), signal.SIGINT))
    with open_cluster("ray", RunResources()) as opened, pytest.raises(StoppedError, match="Continue with --resume"):
        train_on_cluster(opened, series, few_faces, (), None, Lines(), job=toy_job)
    before = len(read_epochs(log))
    assert 2 <= before < 2 * EPOCHS
    with open_cluster("ray", RunResources()) as opened:
        train_on_cluster(opened, series, few_faces, (), None, Lines(), job=toy_job)
    for seed in (0, 1):
        assert (tmp_path / f"run-{seed}" / "model.keras").read_bytes() == expected_state(seed, EPOCHS)
    assert len(read_epochs(log)) == 2 * EPOCHS


def test_a_killed_node_changes_no_result_and_repeats_no_epoch(two_nodes, tmp_path, few_faces):
    cluster, second = two_nodes
    lines, log = Lines(), tmp_path / "epochs.jsonl"
    series = planned(few_faces, tmp_path, seeds=(0, 1), epochs=EPOCHS)
    when_trained(log, 2, 2, lambda trained: cluster.remove_node(second, allow_graceful=False))
    with open_cluster("ray", RunResources()) as opened:
        assert len(opened.nodes()) == 2
        train_on_cluster(opened, series, few_faces, (), None, lines, job=toy_job)
    for seed in (0, 1):
        assert (tmp_path / f"run-{seed}" / "model.keras").read_bytes() == expected_state(seed, EPOCHS)
    records = read_epochs(log)
    assert sorted((record.run, record.epoch) for record in records) == [
        (f"run-{seed}", epoch) for seed in (0, 1) for epoch in range(1, EPOCHS + 1)
    ]
    (moved,) = {record.run for record in records if record.attempt == 2}
    assert len({record.node for record in records if record.run == moved}) == 2
    assert len(lines.warnings) == 1
    assert lines.warnings[0].startswith(f"{moved}: its worker was lost after epoch ")


@pytest.mark.tensorflow
def test_a_training_that_moves_to_another_worker_ends_with_the_same_weights(tmp_path, faces):
    # The real job, without Ray: the first worker is lost after two of three epochs.
    import keras

    from fer_edge.train.cluster_store import CONTINUE, SUPERSEDED
    from fer_edge.train.cluster_worker import Job, run_job
    from fer_edge.train.ship import pack_faces

    plan = make_plan("cnn_nano", override(RECIPES["edge"], ["batch_size=16"]), image_size=32, epochs=3, weights="none")
    split, packed = make_split(faces, "subject"), pack_faces(faces)
    sent = {}

    def worker(attempt, checkpoint, last_epoch):
        def call(method, *arguments):
            if method == "save":
                record, sent[attempt, record.epoch] = arguments
                return CONTINUE if record.epoch <= last_epoch else SUPERSEDED
            return CONTINUE

        files = run_job(Job("run", attempt, plan, (), 1, 0.0, {}), packed, split, {}, checkpoint, call, "node")
        for name, content in files.items():
            atomic_write(tmp_path / str(attempt) / name, content)
        return read_finished_run(tmp_path / str(attempt))

    whole, results = worker(1, None, last_epoch=3)
    with pytest.raises(StoppedError, match="another worker has taken over run"):
        worker(2, None, last_epoch=1)
    moved, moved_results = worker(3, sent[2, 2], last_epoch=3)
    assert [key for key in sent if key[0] == 3] == [(3, 3)]
    assert moved.plan == whole.plan == plan
    assert moved_results.history["loss"] == pytest.approx(results.history["loss"], rel=1e-5)
    models = [load_keras_model(keras, tmp_path / attempt / "model.keras") for attempt in ("1", "3")]
    for here, there in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(here, there, rtol=1e-4, atol=1e-6)
