"""How long runs take on this machine, and how much memory and disk they need: measured on a few batches of each network."""

import json
import os
import resource
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fer_edge.artifacts.atomic_write import atomic_write
from fer_edge.artifacts.reporter import SILENT, Reporter
from fer_edge.artifacts.typed_json import read_json_lines, to_data
from fer_edge.edge_runtime.board import cpu_info
from fer_edge.train.dataset import FaceDataset
from fer_edge.train.networks import count_parameters
from fer_edge.train.planned_run import PlannedRun
from fer_edge.train.soft_labels import TrainingTargets, label_distributions
from fer_edge.train.start_keras import start_keras
from fer_edge.train.trainer import build_trainer, steps_per_epoch

BATCHES = 2  # that are timed, after the first, which includes tracing
# A forward pass takes about a third of a training step, and is traced about as often as a step at the end of a run: for the
# validation faces, and for the metrics of train, validation and test.
FORWARD_SHARE = 1 / 3
FLOAT_BYTES = 4
CHECKPOINT_VALUES = 4  # per parameter: the weight, its two moments and its moving average


@dataclass(frozen=True)
class BatchTime:
    """What training batches of one network cost on this machine.

    Attributes:
        network: Name of the network.
        image_size: Side of the input, pixels.
        batch_size: Faces per batch.
        machine: CPU and number of cores.
        start_s: Time to build the network and to train the first batch, seconds.
        batch_s: Mean time of a batch after that, seconds.
        parameters: Number of weights of the network.
        peak_memory_bytes: Peak memory of this process so far, bytes.
    """

    network: str
    image_size: int
    batch_size: int
    machine: str
    start_s: float
    batch_s: float
    parameters: int
    peak_memory_bytes: int

    @property
    def key(self) -> tuple[object, ...]:
        """What the times depend on."""
        return self.network, self.image_size, self.batch_size, self.machine


def run_seconds(timed: BatchTime, run: PlannedRun) -> float:
    """Return how long a run takes, seconds.

    Args:
        timed: A measurement with the network, input and batch of the run.
        run: The run.
    """
    split, plan = run.split, run.plan
    face_s = timed.batch_s / timed.batch_size * FORWARD_SHARE
    epoch_s = steps_per_epoch(plan, split) * timed.batch_s + len(split.validation) * face_s
    faces = len(split.train) + 2 * len(split.validation) + len(split.test)
    return timed.start_s * (1 + FORWARD_SHARE) + plan.epochs * epoch_s + faces * face_s


def disk_bytes(times: Iterable[tuple[BatchTime, int]]) -> int:
    """Return the disk space that runs need: their models in float32 and int8, and the largest checkpoint.

    Args:
        times: A measurement and the number of runs, per network.
    """
    pairs = list(times)
    models = sum((FLOAT_BYTES + 1) * timed.parameters * count for timed, count in pairs)
    return models + max((CHECKPOINT_VALUES * FLOAT_BYTES * timed.parameters for timed, _ in pairs), default=0)


def measure_batches(
    series: Iterable[PlannedRun], faces: FaceDataset, stored: Path, reporter: Reporter = SILENT
) -> dict[tuple[str, int, int], BatchTime]:
    """Measure two batches of each network, input size and batch size of a series.

    Args:
        series: The runs.
        faces: The dataset.
        stored: JSON-lines file. Measurements of this machine in it are not repeated; new ones are added.
        reporter: Receives progress.

    Returns:
        The measurement by network, image size and batch size.

    Raises:
        ValueError: If the file is damaged, or the initial weights of a run do not fit.
    """
    runs = {(run.plan.network, run.plan.image_size, run.plan.recipe.batch_size): run for run in series}
    machine = f"{cpu_info('model name', 'Model')}, {len(os.sched_getaffinity(0))} cores"
    known = {timed.key: timed for timed in read_json_lines(BatchTime, stored)}
    missing = [key for key in runs if (*key, machine) not in known]
    if missing:
        start_keras()
    with reporter.progress("measuring two batches per network") as progress:
        for number, key in enumerate(missing):
            progress(number, len(missing))
            timed = _measure(runs[key], faces, machine)
            known[timed.key] = timed
            atomic_write(stored, "".join(json.dumps(to_data(entry)) + "\n" for entry in known.values()))
    return {key: known[(*key, machine)] for key in runs}


def _measure(run: PlannedRun, faces: FaceDataset, machine: str) -> BatchTime:
    import keras

    plan, split = run.plan, run.split
    started = time.monotonic()
    trainer, network, _ = build_trainer(plan, faces, split, TrainingTargets(label_distributions(faces.subset(split.train))))
    size = plan.recipe.batch_size
    indices = np.arange(size, dtype=np.int32) % len(split.train)
    labels = np.eye(len(faces.labels), dtype=np.float32)[faces.targets[split.train[indices]]]
    trainer.train_on_batch(indices, labels)
    first = time.monotonic()
    for _ in range(BATCHES):
        trainer.train_on_batch(indices, labels)
    batch_s = (time.monotonic() - first) / BATCHES
    parameters = count_parameters(network)
    del trainer, network
    keras.utils.clear_session()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return BatchTime(
        plan.network, plan.image_size, size, machine, round(first - started, 3), round(batch_s, 5), parameters, peak
    )
