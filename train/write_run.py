"""Writing a run folder: everything that later stages need from one training run."""

import importlib.metadata
import platform
from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from fer_edge.artifacts.run_folder import (
    CALIBRATION_FILE,
    HELD_OUT_FILE,
    RUN_VERSION,
    RunRecord,
    TrainingResults,
    is_run_folder,
    read_run,
    read_run_record,
    write_run_record,
    write_stored_faces,
)
from fer_edge.artifacts.training_plan import Plan
from fer_edge.train.calibration_faces import calibration_faces
from fer_edge.train.dataset import FaceDataset
from fer_edge.train.recipes import recipe_changes
from fer_edge.train.splits import Split

MAX_HELD_OUT_FACES = 4000


def check_resumable(folder: Path, plan: Plan, faces: FaceDataset, resume: bool) -> RunRecord | None:
    """Check that a run can start or resume in a folder.

    Args:
        folder: The run folder.
        plan: What is to be trained.
        faces: The dataset.
        resume: Whether an existing run may be resumed.

    Returns:
        The record of the run if it has finished; None if there is work to do.

    Raises:
        FileExistsError: If the folder has a run and ``resume`` is off.
        ValueError: If its run was started with other data, settings, initial weights or teachers.
    """
    if not is_run_folder(folder):
        return None
    if not resume:
        raise FileExistsError(f"{folder} has a run already. Continue it with --resume, or choose another --out")
    run = read_run_record(folder)
    if plan.minutes is not None:
        plan = replace(plan, epochs=run.plan.epochs)  # chosen when the run started
    before, now = _settings(run.plan), _settings(plan)
    differences = [f"{name} {before[name]}, not {value}" for name, value in now.items() if before[name] != value]
    if not differences:
        sources = zip((plan.weights, *plan.teachers), run.plan.parent_digests, plan.parent_digests, strict=True)
        differences = [f"'{source}' was another model" for source, then, digest in sources if digest and then != digest]
    if run.data.fingerprint != faces.fingerprint:
        differences.append("other images")
    if differences:
        raise ValueError(
            f"the run in {folder} was started with other settings ({'; '.join(differences)}). Resume with those, or choose "
            "another --out"
        )
    return read_run(folder).record if run.results else None


def _settings(plan: Plan) -> dict[str, Any]:
    """Return the settings of a plan by name, those of its recipe and augmentation included."""
    return {
        field.name: getattr(part, field.name)
        for part in (plan, plan.recipe, plan.recipe.augmentation)
        for field in fields(part)
        # The plan has the number of epochs of its network; the recipe has those of all networks.
        if field.name not in ("recipe", "augmentation", "parent_digests") and (part is plan or field.name != "epochs")
    }


def start_run(folder: Path, plan: Plan, faces: FaceDataset, split: Split, command: Sequence[str] = ()) -> None:
    """Write the run.json of a run that starts.

    Args:
        folder: The run folder.
        plan: What is trained.
        faces: The dataset.
        split: Its division.
        command: The command that started the training; empty where a program did.
    """
    write_run_record(folder, _record(plan, faces, split, command, None))


def finish_run(
    folder: Path, plan: Plan, faces: FaceDataset, split: Split, results: TrainingResults, command: Sequence[str] = ()
) -> RunRecord:
    """Write calibration and held-out faces, plots and the finished run.json.

    Args:
        folder: The run folder. It has model.keras already.
        plan: What was trained.
        faces: The dataset.
        split: Its division.
        results: Results of the training.
        command: The command that started the training; empty where a program did.

    Returns:
        The content of run.json.
    """
    from fer_edge.train.plots import plot_confusion, plot_curves

    calibration = calibration_faces(faces, split, plan.seed)
    write_stored_faces(folder / CALIBRATION_FILE, calibration.images, calibration.targets)
    indices = split.test
    if len(indices) > MAX_HELD_OUT_FACES:
        indices = np.sort(np.random.default_rng(plan.seed).choice(indices, MAX_HELD_OUT_FACES, replace=False))
    held_out = faces.subset(indices)
    write_stored_faces(folder / HELD_OUT_FILE, held_out.images, held_out.targets)
    plot_curves(results.history, folder / "curves.png")
    plot_confusion(results.metrics.test.confusion, faces.labels, folder / "confusion.png")
    record = _record(plan, faces, split, command, results)
    write_run_record(folder, record)
    return record


def _record(plan: Plan, faces: FaceDataset, split: Split, command: Sequence[str], results: TrainingResults | None) -> RunRecord:
    return RunRecord(
        run_version=RUN_VERSION,
        labels=faces.labels,
        plan=plan,
        recipe_changes=recipe_changes(plan.network, plan.recipe),
        data=faces.summary(),
        split=split.summary(faces),
        ids=split.ids(faces),
        versions=program_versions(),
        written=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        command=tuple(command),
        results=results,
        crop=faces.crop,
    )


def program_versions() -> dict[str, str]:
    """Return the versions of Python, fer-edge and the installed training packages by name."""
    versions = {"python": platform.python_version()}
    for package in ("fer-edge", "keras", "numpy", "tensorflow", "jax", "torch"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
