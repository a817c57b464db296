"""Train networks: one run folder per network, seed and fold. The train command and ``fer_edge.train`` are this file."""

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fer_edge.artifacts.atomic_write import check_writable
from fer_edge.artifacts.mean_ci import summarize
from fer_edge.artifacts.path_names import command_without_folders
from fer_edge.artifacts.reporter import SILENT, Reporter
from fer_edge.artifacts.run_folder import run_name
from fer_edge.artifacts.training_plan import CLEAN, Plan
from fer_edge.train.class_report import check_trainable, report_classes
from fer_edge.train.cluster import Cluster, RunResources, open_cluster
from fer_edge.train.cluster_driver import train_on_cluster
from fer_edge.train.dataset import FaceDataset
from fer_edge.train.distill import check_teachers, resolve_teacher
from fer_edge.train.ferplus import check_table, with_votes
from fer_edge.train.fit import train_run
from fer_edge.train.networks import NETWORKS, find_network
from fer_edge.train.plan import make_plan
from fer_edge.train.planned_run import PlannedRun, TrainedRun, read_trained_run
from fer_edge.train.precision import check_precision
from fer_edge.train.read_dataset import read_faces
from fer_edge.train.read_options import MAX_FACE_PX, ReadOptions, check_faces
from fer_edge.train.recipes import TEACHERS_ALONE, find_recipe, override
from fer_edge.train.splits import Split, check_split_options, make_splits
from fer_edge.train.start_keras import check_keras, start_keras
from fer_edge.train.vary import combinations, folder_of
from fer_edge.train.weights import check_no_leakage, check_source, parse_weights
from fer_edge.train.write_run import check_resumable


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
        teacher_views: What the teachers classify: ``clean`` (each face and its mirror image, once), ``same`` (the augmented and
            mixed faces that the network sees), or a number of views of each face, stored once.
        ferplus: FER+ table, see ferplus.with_votes. Its eight classes and its votes replace the labels of FER2013.
        image_size: Side of the input, pixels; None for that of the network.
        epochs: Number of epochs; None for that of the recipe.
        minutes: Training time of each run, instead of a number of epochs: as many epochs as fit are trained on this machine.
        seeds: Seeds of split, weights, order and augmentation; one run for each.
        precision: ``auto``, ``float32`` or ``mixed_bfloat16``.
        label_map: CLASS=LABEL per renamed class of the data; ``CLASS=-`` leaves it out.
        faces: ``crops`` if the images are face crops, ``photos`` if faces must be cut out of them, or ``auto`` to find out.
        detector: Finds the faces in photos: auto, blazeface, yunet, haar, own, or the path of a YuNet .onnx or
            detector .tflite file.
        out: Folder for the run folders.
        resume: Continue stopped runs and skip finished ones.
        stop_after: Seconds after which training stops with a checkpoint; None for no limit.
        vary: ``NAME=VALUE,VALUE`` per setting that varies; every combination is trained, each into its own folder in ``out``.
        devices: Number of GPUs that share each batch of a run (CPU devices on a machine without GPUs).
        on: ``ray`` to train the runs in parallel with Ray on this machine, ``ray://HOST:PORT`` on a cluster; None here, one
            after the other.
        cpus_per_run: CPUs of each run with ``on``; None for an equal share.
        gpus_per_run: GPUs of each run with ``on``, also a fraction; None for ``devices`` if there are GPUs.
        checkpoint_seconds: Minimum time between two checkpoints of a run, seconds.
    """

    recipe: str = "edge"
    settings: Sequence[str] = ()
    protocol: str = "auto"
    folds: int | None = None
    fold: int | None = None
    weights: Sequence[str] = ()
    teachers: Sequence[str] = ()
    teacher_views: str = CLEAN
    ferplus: str | None = None
    image_size: int | None = None
    epochs: int | None = None
    minutes: float | None = None
    seeds: Sequence[int] = (0,)
    precision: str = "auto"
    label_map: Sequence[str] = ()
    faces: str = "auto"
    detector: str = "auto"
    out: str | Path = "runs"
    resume: bool = False
    stop_after: float | None = None
    vary: Sequence[str] = ()
    devices: int = 1
    on: str | None = None
    cpus_per_run: int | None = None
    gpus_per_run: float | None = None
    checkpoint_seconds: float = 0.0

    def variants(self) -> "list[TrainOptions]":
        """Return the options of each combination of the settings that vary.

        Raises:
            ValueError: If such a setting is not NAME=VALUE,VALUE, or occurs twice.
        """
        return [
            replace(self, vary=(), settings=(*self.settings, *chosen), out=folder_of(self.out, chosen))
            for chosen in combinations(self.vary)
        ]


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
        OSError: If ``out`` is a file, or cannot be written to.
        ValueError: If an option or the data cannot be used.
        StoppedError: If the time was up before the last epoch.
    """
    stop_at = None if options.stop_after is None else time.monotonic() + options.stop_after
    variants = options.variants()
    plans = [make_plans(networks, variant) for variant in variants]
    for plan in itertools.chain(*plans):
        check_plan(plan)
    if options.on is None:
        check_keras()
    with open_cluster(options.on, cluster_resources(options)) as cluster:
        faces = read_training_data(data, options, reporter)
        splits = make_splits(faces, options.protocol, options.seeds, options.folds, options.fold)
        report_splits(faces, [split for _, split in splits], reporter)
        series = [
            run
            for variant, chosen in zip(variants, plans, strict=True)
            for run in plan_series(faces, chosen, splits, Path(variant.out), options.resume)
        ]
        how = HowToTrain(options.resume, stop_at, command_without_folders(command), cluster, options.checkpoint_seconds)
        return train_series(series, faces, how, reporter)


def cluster_resources(options: TrainOptions) -> RunResources:
    """Return what each run takes of a cluster.

    Raises:
        ValueError: If a number is out of range.
    """
    return RunResources(options.cpus_per_run, options.gpus_per_run, options.devices, options.checkpoint_seconds)


def read_training_data(data: str | Path, options: TrainOptions, reporter: Reporter) -> FaceDataset:
    """Read the faces to train on, with the FER+ votes if there are any, and report their classes.

    Args:
        data: See train.
        options: How the data is read.
        reporter: Receives progress, notes and warnings.

    Raises:
        FileNotFoundError: If the data does not exist.
        ValueError: If it cannot be used.
    """
    if options.ferplus:
        check_table(options.ferplus)
    faces = read_faces(data, _read_options(options), reporter)
    if options.ferplus:
        faces = with_votes(faces, options.ferplus, reporter)
    report_classes(faces, reporter)
    return faces


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
        OSError: If ``out`` is a file, or cannot be written to.
        ValueError: If an option cannot be used.
    """
    check_writable(Path(options.out) / "run")
    check_faces(options.faces)
    check_split_options(options.protocol, options.fold, options.folds)
    if options.minutes is not None and options.on is not None:
        raise ValueError("--minutes measures this machine. With --on, use --epochs")
    names = _names([networks] if isinstance(networks, str) else networks)
    sources = parse_weights(options.weights, names)
    settings = options.settings if options.teacher_views == CLEAN else (*TEACHERS_ALONE, *options.settings)
    recipes = {name: override(find_recipe(options.recipe, name), settings) for name in names}
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
            options.devices,
            options.teacher_views,
            options.minutes,
        )
        for name in names
        for seed in options.seeds
    ]


def check_plan(plan: Plan) -> None:
    """Check weights, precision and teachers of a plan before the faces are read.

    Raises:
        FileNotFoundError: If initial weights or a teacher do not exist.
        ValueError: If one of them cannot be used.
    """
    check_source(plan.network, plan.weights)
    check_precision(plan.precision)
    for teacher in plan.teachers:
        resolve_teacher(teacher)


def report_splits(faces: FaceDataset, splits: Sequence[Split], reporter: Reporter) -> None:
    """Report how a dataset is divided, and warn if the divisions leak.

    Args:
        faces: The dataset.
        splits: Its divisions under one protocol.
        reporter: Receives a line per division, and the warning.
    """
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


def plan_series(
    faces: FaceDataset, plans: Sequence[Plan], splits: Sequence[tuple[int, Split]], out: Path, resume: bool
) -> list[PlannedRun]:
    """Return all runs; raise now what training would raise hours later.

    Args:
        faces: The dataset.
        plans: A plan per network and seed.
        splits: The seed of each division, and the division.
        out: Folder for the run folders.
        resume: Whether existing runs are continued.

    Raises:
        FileExistsError: If a run exists and ``resume`` is off.
        ValueError: If a run was started with other settings, or initial weights or a teacher do not fit the data.
    """
    series = [
        PlannedRun(plan, split, out / run_name(plan.network, plan.recipe.name, faces.name, split.summary(faces), plan.seed))
        for plan in plans
        for seed, split in splits
        if seed == plan.seed
    ]
    for run in series:
        check_resumable(run.folder, run.plan, faces, resume)
        check_no_leakage(run.plan.weights, faces, run.split)
        check_teachers(run.plan, faces, run.split)
    return series


@dataclass(frozen=True)
class HowToTrain:
    """How a series of planned runs is trained.

    Attributes:
        resume: Continue stopped runs and skip finished ones.
        stop_at: Time of time.monotonic(), seconds, after which training stops with checkpoints; None for no limit.
        command: The command line, for run.json.
        cluster: The cluster that trains the runs in parallel; None to train them here, one after the other.
        checkpoint_seconds: Minimum time between two checkpoints of a run, seconds.
    """

    resume: bool = False
    stop_at: float | None = None
    command: tuple[str, ...] = ()
    cluster: Cluster | None = None
    checkpoint_seconds: float = 0.0


def train_series(
    series: Sequence[PlannedRun], faces: FaceDataset, how: HowToTrain, reporter: Reporter = SILENT
) -> list[TrainedRun]:
    """Train planned runs and report their results.

    Args:
        series: The runs.
        faces: The dataset.
        how: Here or on a cluster, and when to stop.
        reporter: Receives progress and results.

    Returns:
        The finished runs, in the order of ``series``.

    Raises:
        StoppedError: If the time was up before the last epoch.
        RuntimeError: If a run failed on the cluster.
    """
    groups: dict[tuple[object, ...], list[PlannedRun]] = {}
    for run in series:
        groups.setdefault((run.folder.parent, run.plan.network, run.plan.recipe.name, run.split.protocol), []).append(run)
    if how.cluster:
        train_on_cluster(how.cluster, series, faces, how.command, how.stop_at, reporter)
    else:
        start_keras()
    trained: dict[Path, TrainedRun] = {}
    for group in groups.values():
        for run in group:
            if not how.cluster:
                train_run(
                    run.plan, faces, run.split, run.folder,
                    resume=how.resume, stop_at=how.stop_at, checkpoint_seconds=how.checkpoint_seconds,
                    command=how.command, reporter=reporter,
                )  # fmt: skip
            trained[run.folder] = read_trained_run(run.folder)
            _report_run(trained[run.folder], reporter)
        _report_mean(group[0].plan.network, [trained[run.folder] for run in group], reporter)
    return [trained[run.folder] for run in series]


def _report_run(run: TrainedRun, reporter: Reporter) -> None:
    plan, results = run.record.plan, run.results
    validation, test = results.metrics.validation, results.metrics.test
    if results.averaged_cycles:
        kept = f"the average of the last {results.averaged_cycles} of {plan.recipe.cycles} cycles"
        reporter.result(f"  kept {kept}: validation accuracy {validation.accuracy:.4f}, loss {validation.loss:.4f}")
    reporter.result(f"{plan.network}: test accuracy {test.accuracy:.4f}, macro F1 {test.macro.f1:.4f} -> {run.folder}")


def _report_mean(name: str, runs: Sequence[TrainedRun], reporter: Reporter) -> None:
    if len(runs) < 2:
        return
    sources = {run.results.weights.source for run in runs}
    if len(sources) > 1:
        reporter.warn(f"the runs of {name} started from different initial weights: {', '.join(sorted(sources))}")
    means = summarize([run.results.metrics.test for run in runs])
    text = ", ".join(f"{metric.replace('_', ' ')} {mean}" for metric, mean in means.items())
    reporter.result(f"{name}, mean ± standard deviation (95 % interval): {text}")
