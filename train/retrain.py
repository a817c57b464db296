"""The whole training part at the end: a finished run once more, on train and validation together."""

from dataclasses import dataclass, replace
from pathlib import Path

from fer_edge.artifacts.path_names import command_without_folders
from fer_edge.artifacts.reporter import SILENT, Reporter
from fer_edge.artifacts.run_folder import RunRecord, read_finished_run, run_name
from fer_edge.train.dataset import FaceDataset
from fer_edge.train.fit import train_run
from fer_edge.train.model_source import source_digest
from fer_edge.train.planned_run import TrainedRun, read_trained_run
from fer_edge.train.read_dataset import read_training_faces
from fer_edge.train.splits import Split, make_split
from fer_edge.train.start_keras import start_keras
from fer_edge.train.teacher_views import is_views_file


@dataclass(frozen=True)
class RetrainOptions:
    """How a run is trained again.

    Attributes:
        out: Folder for the new run folder.
        resume: Continue a stopped run.
        stop_at: Time of time.monotonic(), seconds, after which training stops with a checkpoint; None for no limit.
        command: The command line, for run.json.
    """

    out: Path
    resume: bool = False
    stop_at: float | None = None
    command: tuple[str, ...] = ()


def retrain(folder: Path, data: str | Path, options: RetrainOptions, reporter: Reporter = SILENT) -> TrainedRun:
    """Train the plan of a finished run again, with the validation faces in training.

    Epochs, temperature, threshold for "unsure" and number of averaged cycles are those of the run: its validation chose them.

    Args:
        folder: The run folder.
        data: The data that it was trained on.
        options: Where and how.
        reporter: Receives notes, progress and results.

    Returns:
        The new run. Its validation metrics are of faces that it was trained on.

    Raises:
        FileExistsError: If the new run exists and ``resume`` is off.
        FileNotFoundError: If the run, the data or a teacher does not exist.
        ValueError: If the data, the initial weights or a teacher differ from those of the run.
        StoppedError: If the time was up before the last epoch.
    """
    run, results = read_finished_run(folder)
    plan = run.plan
    if run.split.validation_in_training:
        raise ValueError(f"{folder} was trained on its validation faces already. Give the run that they validated")
    if any(is_views_file(teacher) for teacher in plan.teachers):
        raise ValueError(f"the stored views of {folder} lack its validation faces. Train it with the teachers themselves")
    digests = tuple(source_digest(source) for source in (plan.weights, *plan.teachers))
    if digests != plan.parent_digests:
        raise ValueError(f"initial weights or a teacher of {folder} are missing or were replaced. Give the same models")
    faces = read_training_faces(data, run, reporter)
    if faces.fingerprint != run.data.fingerprint:
        raise ValueError(f"{folder} was trained on other data than '{data}'. Give the data that it was trained on")
    split = _split_of(run, faces)
    start_keras()
    name = run_name(plan.network, plan.recipe.name, faces.name, run.split, plan.seed)
    new = options.out / name
    if new.resolve() == folder.resolve():
        raise ValueError(f"the new run needs another folder than {folder}. Give --out")
    train_run(
        replace(plan, minutes=None, validated_by=results.model_digest),
        faces,
        split,
        new,
        resume=options.resume,
        stop_at=options.stop_at,
        validated=results,
        command=command_without_folders(options.command),
        reporter=reporter,
    )
    return read_trained_run(new)


def _split_of(run: RunRecord, faces: FaceDataset) -> Split:
    """Divide the faces as the run did, and check that the division is the same."""
    summary = run.split
    split = make_split(faces, summary.protocol, summary.seed, summary.fold, summary.folds)
    if split.ids(faces) != run.ids:
        raise ValueError("the data is divided in another way than in the run. Use the version of fer-edge that trained it")
    return split
