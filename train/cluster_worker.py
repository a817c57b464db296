"""What a worker of a cluster does: train one run in a temporary folder and send its checkpoints and its files."""

import os
import socket
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fer_edge import __version__
from fer_edge.artifacts.epoch_log import EpochRecord
from fer_edge.artifacts.reporter import Reporter
from fer_edge.artifacts.run_folder import RunRecord, read_run_record, write_run_record
from fer_edge.artifacts.training_plan import Plan
from fer_edge.train.checkpoint import CHECKPOINT_FILE, StoppedError
from fer_edge.train.cluster_store import STOP, SUPERSEDED
from fer_edge.train.fit import train_run
from fer_edge.train.ship import (
    Files,
    PackedFaces,
    read_files,
    unpack_faces,
    with_local_sources,
    with_original_sources,
    write_sources,
)
from fer_edge.train.splits import Split
from fer_edge.train.start_keras import start_keras

Call = Callable[..., Any]  # of a method of the store: (name, *arguments) -> result


@dataclass(frozen=True)
class Job:
    """One attempt at one run.

    Attributes:
        run: Name of the run, unique in the series.
        attempt: 1, and one more after each loss of a worker.
        plan: What is trained.
        command: The command line, for run.json.
        cpus: Number of CPUs.
        checkpoint_seconds: Minimum time between two checkpoints that are sent, seconds.
        environment: Environment variables of the driver that change the training.
        version: Version of fer-edge of the driver.
    """

    run: str
    attempt: int
    plan: Plan
    command: tuple[str, ...]
    cpus: int
    checkpoint_seconds: float
    environment: dict[str, str]
    version: str = __version__


class VersionError(RuntimeError):
    """A worker has another version of fer-edge than the driver."""


class StoreReporter(Reporter):
    """Sends notes and warnings of a run to the store. Epochs go there anyway."""

    def __init__(self, call: Call, job: Job) -> None:
        """Keep where to send.

        Args:
            call: Calls a method of the store.
            job: The job.
        """
        self._call = call
        self._job = job

    def note(self, text: str) -> None:
        """Send a note."""
        self._call("note", self._job.run, self._job.attempt, "note", text)

    def warn(self, text: str) -> None:
        """Send a warning."""
        self._call("note", self._job.run, self._job.attempt, "warn", text)


def run_job(
    job: Job,
    packed: PackedFaces,
    split: Split,
    models: Mapping[str, Files],
    checkpoint: bytes | None,
    call: Call,
    node: str = "",
) -> Files:
    """Train a run from its checkpoint to its end.

    Args:
        job: What to train.
        packed: The dataset.
        split: Its division.
        models: The files of the initial weights and teachers.
        checkpoint: The newest checkpoint of the run; None to start it.
        call: Calls a method of the store and returns its answer.
        node: Ray's id of this node, for the log.

    Returns:
        The files of the finished run folder.

    Raises:
        VersionError: If this machine has another version of fer-edge.
        StoppedError: If the store asked to stop, or another worker has taken over the run.
    """
    if job.version != __version__:
        raise VersionError(
            f"{socket.gethostname()} has fer-edge {__version__}, not {job.version}. Install the same version there"
        )
    obey(call("begin", job.run, job.attempt), job, "before its first epoch here")
    os.environ.update(job.environment)
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(job.cpus)  # otherwise every run would use all cores of its node
    os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"  # runs may share a GPU
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    start_keras()
    with tempfile.TemporaryDirectory(prefix="fer-edge-") as temporary:
        plan = with_local_sources(job.plan, write_sources(models, Path(temporary)))
        folder = Path(temporary) / "run"
        folder.mkdir()
        if checkpoint is not None:
            (folder / CHECKPOINT_FILE).write_bytes(checkpoint)
        train_run(
            plan,
            unpack_faces(packed),
            split,
            folder,
            on_epoch=_epoch_sender(job, folder, call, node),
            command=job.command,
            reporter=StoreReporter(call, job),
        )
        record: RunRecord = with_original_sources(read_run_record(folder), job.plan, plan)
        write_run_record(folder, record)
        return read_files(folder, without=[CHECKPOINT_FILE])


def _epoch_sender(job: Job, folder: Path, call: Call, node: str) -> Callable[[int, dict[str, float]], None]:
    """Return a function that sends an epoch, with its checkpoint where it is time for one, before the next one starts."""
    sent = -job.checkpoint_seconds

    def send(epoch: int, metrics: dict[str, float]) -> None:
        nonlocal sent
        due = time.monotonic() - sent >= job.checkpoint_seconds or epoch == job.plan.epochs
        finished = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        record = EpochRecord(
            job.run, job.attempt, epoch, job.plan.epochs, metrics, socket.gethostname(), node, os.getpid(), finished
        )
        answer = call("save", record, (folder / CHECKPOINT_FILE).read_bytes() if due else None)
        sent = time.monotonic() if due else sent
        obey(answer, job, f"after epoch {epoch} of {job.plan.epochs}")

    return send


def obey(answer: str, job: Job, when: str) -> None:
    """End the run if the store says so.

    Args:
        answer: From the store.
        job: The job.
        when: The epoch, for the message.

    Raises:
        StoppedError: If the store asked to stop, or another worker has taken over the run.
    """
    if answer == SUPERSEDED:
        raise StoppedError(f"another worker has taken over {job.run}")
    if answer == STOP:
        raise StoppedError(f"{job.run} stopped {when}")
