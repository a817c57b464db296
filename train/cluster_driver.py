"""Train a series on a cluster: one task per run. A lost worker's run continues elsewhere from its last checkpoint."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fer_edge.artifacts.atomic_write import atomic_write
from fer_edge.artifacts.epoch_log import EPOCH_LOG, append_epoch
from fer_edge.artifacts.reporter import Progress, Reporter
from fer_edge.artifacts.run_folder import RUN_FILE, is_run_folder, read_run_record
from fer_edge.train.checkpoint import CHECKPOINT_FILE, StoppedError
from fer_edge.train.cluster import HEAD_RESOURCE, Cluster
from fer_edge.train.cluster_store import EpochStore, Update
from fer_edge.train.cluster_worker import Job, run_job
from fer_edge.train.dataset import FaceDataset
from fer_edge.train.planned_run import PlannedRun
from fer_edge.train.ship import Files, pack_faces, read_source, sources
from fer_edge.train.write_run import start_run

MAX_LOSSES = 3  # of workers of one run in a row without a new epoch: then the run itself is the likely cause
POLL_SECONDS = 0.5
PASSED_ON = ("KERAS_BACKEND", "TF_", "XLA_")  # beginnings of the names of variables that change a training

RunJob = Callable[..., Files]


@dataclass
class _State:
    """The progress of one run.

    Attributes:
        run: The run.
        name: Its name in the log: its folder, relative to that of the log.
        attempt: Number of its current attempt.
        epoch: Number of complete epochs.
        losses: Workers lost since the last new epoch.
        failure: Why it cannot be trained; None while it can.
        finished: Whether its folder is complete.
    """

    run: PlannedRun
    name: str
    attempt: int = 0
    epoch: int = 0
    losses: int = 0
    failure: str | None = None
    finished: bool = False


def train_on_cluster(
    cluster: Cluster,
    series: Sequence[PlannedRun],
    faces: FaceDataset,
    command: Sequence[str],
    stop_at: float | None,
    reporter: Reporter,
    job: RunJob = run_job,
) -> None:
    """Train the unfinished runs of a series and write their folders.

    Args:
        cluster: The cluster.
        series: The runs, checked by plan_series.
        faces: The dataset. It is sent to the object store once.
        command: The command line, for run.json.
        stop_at: Time of time.monotonic(), seconds, after which the runs stop at their next checkpoint; None for no limit.
        reporter: Receives each epoch, notes and progress.
        job: What a worker does, see cluster_worker.run_job.

    Raises:
        StoppedError: If the time was up, or Ctrl-C was pressed. Checkpoints of all runs are in their folders.
        RuntimeError: If a run failed, or the cluster was lost.
        ValueError: If no node has the CPUs and GPUs of a run.
    """
    root = Path(os.path.commonpath([run.folder.parent for run in series]))
    states = [_State(run, str(run.folder.relative_to(root))) for run in series if not _is_finished(run.folder)]
    if states:
        _Driver(cluster, states, faces, tuple(command), root, reporter, job).train(stop_at)


def _is_finished(folder: Path) -> bool:
    return is_run_folder(folder) and read_run_record(folder).results is not None


class _Driver:
    """Submits the runs, collects epochs and checkpoints, and submits the runs of lost workers again."""

    def __init__(
        self,
        cluster: Cluster,
        states: Sequence[_State],
        faces: FaceDataset,
        command: tuple[str, ...],
        root: Path,
        reporter: Reporter,
        job: RunJob,
    ) -> None:
        ray = self._ray = cluster.ray
        self._cluster = cluster
        self._states = {state.name: state for state in states}
        self._faces = faces
        self._command = command
        self._root = root
        self._reporter = reporter
        self._cpus, gpus = cluster.share(len(states))
        # A worker of its own per run: a process that has trained keeps the memory of its GPU. Ray does not repeat a task.
        self._task = ray.remote(num_cpus=self._cpus, num_gpus=gpus, max_calls=1, max_retries=0)(_run_task).remote
        store = ray.remote(num_cpus=0, resources={HEAD_RESOURCE: 0.001}, max_concurrency=1)(EpochStore)
        self._store = store.remote()
        self._packed = ray.put(pack_faces(faces))
        self._splits = {id(state.run.split): ray.put(state.run.split) for state in states}
        names = {source for state in states for source in sources(state.run.plan)}
        self._models = {name: ray.put(read_source(name)) for name in names}
        self._job = ray.put(job)
        self._tasks: dict[Any, _State] = {}
        self._stopping = False

    def train(self, stop_at: float | None) -> None:
        """Train until every run has finished, failed or stopped."""
        count = len(self._states)
        self._reporter.note(f"{count} runs on {len(self._cluster.nodes())} nodes, {self._cpus} CPUs each; log: {self._log}")
        try:
            for state in self._states.values():
                self._submit(state)
            with self._reporter.progress(f"training {count} runs") as progress:
                self._wait(stop_at, progress)
        except KeyboardInterrupt as error:
            raise StoppedError(f"interrupted: {self._summary()}") from error
        except self._ray.exceptions.RayError as error:  # of the store, not of a task: the head node is lost
            reason = str(error).partition("\n")[0]
            raise RuntimeError(f"the cluster was lost ({reason}); {self._summary()}") from error
        finally:
            self._cancel()
        self._raise_failures()

    @property
    def _log(self) -> Path:
        return self._root / EPOCH_LOG

    def _submit(self, state: _State) -> None:
        """Start the next attempt at a run, from the checkpoint in its folder."""
        state.attempt += 1
        self._call("start", state.name, state.attempt)
        plan, path = state.run.plan, state.run.folder / CHECKPOINT_FILE
        environment = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
        seconds = self._cluster.resources.checkpoint_seconds
        job = Job(state.name, state.attempt, plan, self._command, self._cpus, seconds, environment)
        names = sources(plan)
        # Top-level arguments: Ray fetches them to the node before the task starts.
        checkpoint = self._ray.put(path.read_bytes()) if path.is_file() else None
        models = [self._models[name] for name in names]
        task = self._task(
            self._job, job, self._packed, self._splits[id(state.run.split)], checkpoint, self._store, names, *models
        )
        self._tasks[task] = state

    def _wait(self, stop_at: float | None, progress: Progress) -> None:
        total = sum(state.run.plan.epochs for state in self._states.values())
        while self._tasks:
            ready, _ = self._ray.wait([*self._tasks], timeout=POLL_SECONDS)
            self._collect()
            for task in ready:
                self._finish(task, self._tasks.pop(task))
            progress(sum(state.epoch for state in self._states.values()), total)
            if stop_at is not None and time.monotonic() >= stop_at:
                stop_at = None
                self._stopping = True
                self._call("stop")

    def _collect(self) -> None:
        """Write what the workers have sent: the log of epochs and the newest checkpoint of each run."""
        update: Update = self._call("take")
        for name, kind, text in update.notes:
            (self._reporter.warn if kind == "warn" else self._reporter.note)(f"{name}: {text}")
        for name, checkpoint in update.checkpoints.items():
            run = self._states[name].run
            if not is_run_folder(run.folder):
                start_run(run.folder, run.plan, self._faces, run.split, self._command)
            atomic_write(run.folder / CHECKPOINT_FILE, checkpoint)
        for record in update.epochs:
            state = self._states[record.run]
            state.epoch, state.losses = record.epoch, 0
            append_epoch(self._log, record)
            values = ", ".join(f"{name} {value:.4f}" for name, value in record.metrics.items())
            self._reporter.result(f"  {record.run} epoch {record.epoch}/{record.epochs}: {values} ({record.host})")

    def _finish(self, task: Any, state: _State) -> None:
        """Take the result of a task that has ended; submit its run again if its worker was lost."""
        exceptions = self._ray.exceptions
        try:
            files: Files = self._ray.get(task)
        except exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            if isinstance(cause, exceptions.RayError):
                self._lose(state, cause)
            elif not isinstance(cause, StoppedError):  # the code of the task raised it
                state.failure = f"{type(cause).__name__}: {cause}"
            return
        for name in sorted(files, key=lambda name: name == RUN_FILE):  # run.json last: with it the run has finished
            atomic_write(state.run.folder / name, files[name])
        (state.run.folder / CHECKPOINT_FILE).unlink(missing_ok=True)
        state.finished, state.epoch = True, state.run.plan.epochs
        done = sum(other.finished for other in self._states.values())
        self._reporter.result(f"  {state.name} has finished ({done} of {len(self._states)} runs)")

    def _lose(self, state: _State, error: Exception) -> None:
        """Continue the run of a lost worker elsewhere, unless it loses every worker."""
        state.losses += 1
        reason = type(error).__name__
        if state.losses >= MAX_LOSSES:
            state.failure = f"{MAX_LOSSES} workers in a row were lost without a new epoch; the last with {reason}: {error}"
        elif not self._stopping:
            self._reporter.warn(f"{state.name}: its worker was lost after epoch {state.epoch} ({reason}). Continuing elsewhere")
            self._submit(state)

    def _cancel(self) -> None:
        """End all workers, and keep the epochs that they have sent."""
        try:
            for task in self._tasks:
                self._ray.cancel(task, force=True)
            self._collect()
            self._ray.kill(self._store)
        except (self._ray.exceptions.RayError, ConnectionError, OSError):
            pass  # the cluster is lost; the checkpoints that were taken are in the folders

    def _call(self, method: str, *arguments: Any) -> Any:
        return self._ray.get(getattr(self._store, method).remote(*arguments))

    def _summary(self) -> str:
        done = sum(state.finished for state in self._states.values())
        return f"{done} of {len(self._states)} runs have finished. Continue with --resume"

    def _raise_failures(self) -> None:
        failures = [f"{state.name}: {state.failure}" for state in self._states.values() if state.failure]
        if failures:
            raise RuntimeError(f"{len(failures)} runs failed; {self._summary()}:\n  " + "\n  ".join(failures))
        if not all(state.finished for state in self._states.values()):
            raise StoppedError(f"time is up: {self._summary()}")


def _run_task(
    job_function: RunJob,
    job: Job,
    packed: Any,
    split: Any,
    checkpoint: bytes | None,
    store: Any,
    names: list[str],
    *models: Files,
) -> Files:
    """Run a job in a worker of Ray."""
    import ray

    def call(method: str, *arguments: Any) -> Any:
        return ray.get(getattr(store, method).remote(*arguments))

    node = ray.get_runtime_context().get_node_id()
    return job_function(job, packed, split, dict(zip(names, models, strict=True)), checkpoint, call, node)
