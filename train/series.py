"""Train networks: one run folder per network, seed and fold. The train command and ``fer_edge.train`` are this file."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fer_edge.artifacts.mean_ci import summarize
from fer_edge.artifacts.path_names import command_without_folders
from fer_edge.artifacts.reporter import SILENT, Reporter
from fer_edge.artifacts.run_folder import RunRecord, TrainingResults, run_name
from fer_edge.artifacts.training_plan import Plan
from fer_edge.train.class_report import check_trainable, report_classes
from fer_edge.train.dataset import FaceDataset
from fer_edge.train.distill import check_teachers, resolve_teacher
from fer_edge.train.ferplus import with_votes
from fer_edge.train.fit import train_run
from fer_edge.train.networks import NETWORKS, find_network
from fer_edge.train.plan import make_plan
from fer_edge.train.precision import check_precision
from fer_edge.train.read_dataset import read_faces
from fer_edge.train.read_options import MAX_FACE_PX, ReadOptions, check_faces
from fer_edge.train.recipes import find_recipe, override
from fer_edge.train.splits import Split, check_split_options, make_splits
from fer_edge.train.start_keras import start_keras
from fer_edge.train.weights import check_no_leakage, check_source, parse_weights
from fer_edge.train.write_run import check_resumable


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


@dataclass(frozen=True)
class TrainOptions:
    """How networks are trained.

    Attributes:
        recipe: ``edge`` or ``paper``.
        settings: ``NAME=VALUE`` per changed setting of the recipe.
        protocol: ``paper``, ``subject``, ``official`` or ``auto``, see splits.make_split.
        folds: Number of folds of the protocol ``subject``. Without ``fold`` all of them are trained.
        fold: The only fold to train, from 0.
        weights: ``[NETWORK=]SOURCE`` of the initial weights: ``auto``, ``imagenet``, ``none``, a file, a run folder or a
            bundled model.
        teachers: Run folders, .tflite files or names of bundled models whose mean probabilities are learned too.
        ferplus: FER+ table, see ferplus.with_votes. Its eight classes and its votes replace the labels of FER2013.
        image_size: Side of the input, pixels; None for that of the network.
        epochs: Number of epochs; None for that of the recipe.
        seeds: Seeds of split, weights, order and augmentation; one run for each.
        precision: ``auto``, ``float32`` or ``mixed_bfloat16``.
        label_map: CLASS=LABEL per renamed class of the data; ``CLASS=-`` leaves it out.
        faces: ``crops`` if the images are face crops, ``photos`` if faces must be cut out of them, or ``auto`` to find out.
        detector: Finds the faces in photos: auto, blazeface, yunet, haar, or the path of a YuNet .onnx file.
        out: Folder for the run folders.
        resume: Continue stopped runs and skip finished ones.
        stop_after: Seconds after which training stops with a checkpoint; None for no limit.
    """

    recipe: str = "edge"
    settings: Sequence[str] = ()
    protocol: str = "auto"
    folds: int | None = None
    fold: int | None = None
    weights: Sequence[str] = ()
    teachers: Sequence[str] = ()
    ferplus: str | None = None
    image_size: int | None = None
    epochs: int | None = None
    seeds: Sequence[int] = (0,)
    precision: str = "auto"
    label_map: Sequence[str] = ()
    faces: str = "auto"
    detector: str = "auto"
    out: str | Path = "runs"
    resume: bool = False
    stop_after: float | None = None


@dataclass(frozen=True)
class _PlannedRun:
    plan: Plan
    split: Split
    folder: Path


def train(
    networks: str | Sequence[str],
    data: str | Path,
    options: TrainOptions = TrainOptions(),
    *,
    command: Sequence[str] = (),
    reporter: Reporter = SILENT,
) -> list[TrainedRun]:
    """Train networks, exactly as ``fer-edge train`` does. Everything that can be checked is checked before Keras is imported.

    Example:
        import fer_edge

        (run,) = fer_edge.train("cnn_nano", "synthetic", fer_edge.TrainOptions(epochs=5))
        print(run.folder, run.results.metrics.test.accuracy)

    Args:
        networks: Names in NETWORKS; ``all`` stands for the five networks of the comparison.
        data: Folder, zip or csv of labeled faces; or ``synthetic``.
        options: How they are trained.
        command: The command line, to be stored in each run.json; empty where a program calls.
        reporter: Receives results, progress, notes and warnings.

    Returns:
        The finished runs: for each network every seed, and for each seed every fold.

    Raises:
        FileExistsError: If a run exists and ``resume`` is off.
        FileNotFoundError: If the data, initial weights or a teacher do not exist.
        NotADirectoryError: If ``out`` is a file.
        ValueError: If an option or the data cannot be used.
        StoppedError: If the time was up before the last epoch.
    """
    stop_at = None if options.stop_after is None else time.monotonic() + options.stop_after
    plans = make_plans(networks, options)
    _check_plans(plans)
    faces = read_faces(data, _read_options(options), reporter)
    if options.ferplus:
        faces = with_votes(faces, options.ferplus, reporter)
    report_classes(faces, reporter)
    splits = make_splits(faces, options.protocol, options.seeds, options.folds, options.fold)
    _report_splits(faces, [split for _, split in splits], reporter)
    series = _plan_series(faces, plans, splits, Path(options.out), options.resume)
    start_keras()
    runs = []
    for name in dict.fromkeys(plan.network for plan in plans):
        planned = [run for run in series if run.plan.network == name]
        runs += _train_network(planned, faces, options.resume, stop_at, command_without_folders(command), reporter)
    return runs


def _read_options(options: TrainOptions) -> ReadOptions:
    return ReadOptions(
        options.label_map,
        faces=options.faces,
        detector=options.detector,
        max_face_px=max(MAX_FACE_PX, options.image_size or 0),
        check_counts=check_trainable,
    )


def _names(networks: Sequence[str]) -> list[str]:
    """Return the distinct networks, with ``all`` replaced by the networks of the comparison."""
    compared = [name for name, network in NETWORKS.items() if network.compared]
    names = list(dict.fromkeys(name for word in networks for name in (compared if word == "all" else [word])))
    for name in names:
        find_network(name)
    return names


def make_plans(networks: str | Sequence[str], options: TrainOptions) -> list[Plan]:
    """Return a plan per network and seed. Needs neither Keras nor the data.

    Args:
        networks: See train.
        options: How they are trained.

    Raises:
        NotADirectoryError: If ``out`` is a file.
        ValueError: If an option cannot be used.
    """
    if Path(options.out).is_file():
        raise NotADirectoryError(f"'{options.out}' is not a folder. Choose a folder for the runs, with --out")
    check_faces(options.faces)
    check_split_options(options.protocol, options.fold, options.folds)
    names = _names([networks] if isinstance(networks, str) else networks)
    sources = parse_weights(options.weights, names)
    recipes = {name: override(find_recipe(options.recipe, name), options.settings) for name in names}
    return [
        make_plan(
            name,
            recipes[name],
            options.image_size,
            options.epochs,
            seed,
            sources[name],
            options.precision,
            options.teachers,
            options.ferplus,
        )
        for name in names
        for seed in options.seeds
    ]


def _check_plans(plans: Sequence[Plan]) -> None:
    """Check weights, precision and teachers before the faces are read."""
    for plan in plans:
        check_source(plan.network, plan.weights)
        check_precision(plan.precision)
        for teacher in plan.teachers:
            resolve_teacher(teacher)


def _report_splits(faces: FaceDataset, splits: Sequence[Split], reporter: Reporter) -> None:
    summaries = [split.summary(faces) for split in splits]
    for summary in summaries:
        counts = summary.counts
        reporter.result(
            f"{faces.name}: {len(faces)} faces, {len(faces.labels)} classes; protocol {summary.title}: "
            f"{counts.train} train, {counts.validation} validation, {counts.test} test"
        )
    warning = summaries[0].leakage.warning()
    if warning:
        reporter.warn(warning)


def _plan_series(
    faces: FaceDataset, plans: Sequence[Plan], splits: Sequence[tuple[int, Split]], out: Path, resume: bool
) -> list[_PlannedRun]:
    """Return all runs; raise now what training would raise hours later."""
    series = [
        _PlannedRun(plan, split, out / run_name(plan.network, plan.recipe.name, faces.name, split.summary(faces), plan.seed))
        for plan in plans
        for seed, split in splits
        if seed == plan.seed
    ]
    for run in series:
        check_resumable(run.folder, run.plan, faces, resume)
        check_no_leakage(run.plan.weights, faces, run.split)
        check_teachers(run.plan.teachers, faces, run.split)
    return series


def _train_network(
    planned: Sequence[_PlannedRun],
    faces: FaceDataset,
    resume: bool,
    stop_at: float | None,
    command: Sequence[str],
    reporter: Reporter,
) -> list[TrainedRun]:
    """Train all runs of one network and report their results."""
    name, runs = planned[0].plan.network, []
    for run in planned:
        record = train_run(
            run.plan, faces, run.split, run.folder, resume=resume, stop_at=stop_at, command=command, reporter=reporter
        )
        if record.results is None:
            raise RuntimeError(f"{run.folder} has no results. Train again with --resume")
        runs.append(TrainedRun(run.folder, record, record.results))
        validation, test = record.results.metrics.validation, record.results.metrics.test
        if record.results.averaged_cycles:
            kept = f"the average of the last {record.results.averaged_cycles} of {run.plan.recipe.cycles} cycles"
            reporter.result(f"  kept {kept}: validation accuracy {validation.accuracy:.4f}, loss {validation.loss:.4f}")
        reporter.result(f"{name}: test accuracy {test.accuracy:.4f}, macro F1 {test.macro.f1:.4f} -> {run.folder}")
    if len(runs) > 1:
        means = summarize([run.results.metrics.test for run in runs])
        text = ", ".join(f"{metric.replace('_', ' ')} {mean}" for metric, mean in means.items())
        reporter.result(f"{name}, mean ± standard deviation (95 % interval): {text}")
    return runs
