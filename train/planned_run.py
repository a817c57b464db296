"""A run of a series, before and after its training."""

from dataclasses import dataclass
from pathlib import Path

from fer_edge.artifacts.run_folder import RunRecord, TrainingResults, read_finished_run
from fer_edge.artifacts.training_plan import Plan
from fer_edge.train.splits import Split


@dataclass(frozen=True)
class PlannedRun:
    """A run that was checked and can start.

    Attributes:
        plan: What is trained.
        split: How the dataset is divided.
        folder: The run folder.
    """

    plan: Plan
    split: Split
    folder: Path


@dataclass(frozen=True)
class TrainedRun:
    """A finished run of a series.

    Attributes:
        folder: The run folder.
        record: The content of its run.json.
        results: The results in it.
    """

    folder: Path
    record: RunRecord
    results: TrainingResults


def read_trained_run(folder: Path) -> TrainedRun:
    """Read a finished run from its folder.

    Raises:
        FileNotFoundError: If it is not a run folder or the run has not finished.
        ValueError: If it is damaged.
    """
    return TrainedRun(folder, *read_finished_run(folder))
