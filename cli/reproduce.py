"""From labeled faces to the published tables next to ours, in one resumable job across training, conversion and benchmarks."""

import importlib.util
import os
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fer_edge.artifacts.accuracy_records import EvaluationRecord, read_accuracy_records
from fer_edge.artifacts.latency_records import LatencyRecord
from fer_edge.artifacts.reporter import SILENT, Reporter
from fer_edge.reproduction_plan import (
    CK48_FINGERPRINT,
    CONVERT_SECONDS,
    QUICK_LEAVES_OUT,
    check_networks,
    initial_weights,
    protocol_options,
)

if TYPE_CHECKING:
    from fer_edge.benchmarks.paper.reproduction import Reproduction
    from fer_edge.train.cluster import Cluster
    from fer_edge.train.dataset import FaceDataset
    from fer_edge.train.planned_run import PlannedRun

# The extra that installs each module that the job needs.
NEEDED = {"keras": "train", "sklearn": "train", "matplotlib": "train", "tensorflow": "convert", "ai_edge_quantizer": "convert"}
RUNS, RECORDS, LATENCIES, MEASURED = "runs", "records.jsonl", "latency.jsonl", "measured.jsonl"
PAGE, TABLES = "reproduction.md", "tables.md"
MEMORY = Path("/proc/meminfo")


@dataclass(frozen=True)
class ReproduceOptions:
    """What is reproduced, and where.

    Attributes:
        networks: Names of networks; empty for all six.
        quick: One seed and one fold per network, for a few epochs.
        out: Folder for everything that is written.
        on: ``ray`` or ``ray://HOST:PORT`` to train on a cluster; None here.
        cpus_per_run: See TrainOptions.
        gpus_per_run: See TrainOptions.
        checkpoint_seconds: See TrainOptions.
        estimate_only: Report time and needs, and stop.
        record: JSON-lines file to append the accuracy records to as well; None for none.
    """

    networks: Sequence[str] = ()
    quick: bool = False
    out: str | Path = "reproduction"
    on: str | None = None
    cpus_per_run: int | None = None
    gpus_per_run: float | None = None
    checkpoint_seconds: float = 0.0
    estimate_only: bool = False
    record: str | Path | None = None


def reproduce(
    data: str | Path,
    options: ReproduceOptions = ReproduceOptions(),
    *,
    command: Sequence[str] = (),
    reporter: Reporter = SILENT,
) -> "Reproduction | None":
    """Reproduce the published comparison, exactly as ``fer-edge reproduce ck48`` does.

    Everything is written into one folder, and whatever is in it already is not done again.

    Args:
        data: CK+48: a zip or folder, see ``fer_edge.train``. Other faces, such as ``synthetic``, only show how it works.
        options: What is reproduced.
        command: The command line, for run.json.
        reporter: Receives the estimate, progress and results.

    Returns:
        The measurements; None with ``estimate_only``.

    Raises:
        ImportError: If a package is missing.
        FileNotFoundError: If the data does not exist.
        ValueError: If an option or the data cannot be used, or the folder has runs with other settings.
        OSError: If the disk is too small.
        StoppedError: If training was interrupted.
    """
    networks = check_networks(options.networks)
    _check_extras()
    from fer_edge.train.cluster import RunResources, open_cluster

    out = Path(options.out)
    resources = RunResources(options.cpus_per_run, options.gpus_per_run, checkpoint_seconds=options.checkpoint_seconds)
    with open_cluster(options.on, resources) as cluster:
        faces, facts = _read_data(data, options, networks, reporter)
        series = _plan(networks, faces, out / RUNS, options.quick, reporter)
        _report_estimate(series, faces, options, cluster, reporter)
        if options.estimate_only:
            return None
        _train(series, faces, command, cluster, reporter)
    _convert(series, data, options.quick, out, reporter)
    reproduction = _measure(series, networks, facts, out, reporter)
    _write_pages(reproduction, out, reporter)
    if options.record is not None:
        from fer_edge.benchmarks.experiment_log import append_evaluations, append_trainings

        append_trainings(Path(options.record), [run.folder for run in series])
        append_evaluations(Path(options.record), reproduction.evaluations)
        reporter.note(f"records added to {options.record}")
    return reproduction


def _check_extras() -> None:
    missing = {module: extra for module, extra in NEEDED.items() if importlib.util.find_spec(module) is None}
    if missing:
        raise ImportError(f"not installed: {', '.join(missing)}. Install them: pip install 'fer-edge[train,convert,bench]'")


def _read_data(
    data: str | Path, options: ReproduceOptions, networks: Sequence[str], reporter: Reporter
) -> "tuple[FaceDataset, list[str]]":
    """Return the faces, and the lines about the conditions that the page must state."""
    from fer_edge.train.series import TrainOptions, read_training_data

    faces = read_training_data(data, TrainOptions(), reporter)
    facts = [f"Data: {len(faces)} faces, {len(faces.labels)} classes, sha256 {faces.fingerprint[:16]}."]
    if faces.fingerprint != CK48_FINGERPRINT:
        other = f"these are not the 981 faces of CK+48 (sha256 {faces.fingerprint[:16]}, not {CK48_FINGERPRINT[:16]})"
        reporter.warn(f"{other}: the tables compare other faces with the published figures")
        facts.append(f"Warning: {other}. Do not compare with the published figures.")
    lacking = [name for name in networks if initial_weights(name) == "auto"]
    if lacking:
        text = (
            f"this installation lacks the FER2013 models of {', '.join(lacking)}: these networks start from ImageNet weights "
        )
        text += "if those can be downloaded, otherwise from random weights. A clone has all models"
        reporter.warn(text)
        facts.append(f"{text[0].upper()}{text[1:]}.")
    if options.quick:
        reporter.note(QUICK_LEAVES_OUT)
        facts.append(f"{QUICK_LEAVES_OUT}.")
    return faces, facts


def _plan(networks: Sequence[str], faces: "FaceDataset", runs: Path, quick: bool, reporter: Reporter) -> "list[PlannedRun]":
    """Return the runs of all networks under both protocols."""
    from fer_edge.train.series import check_plan, make_plans, plan_series, report_splits
    from fer_edge.train.splits import make_splits

    series: list[PlannedRun] = []
    divisions = {}
    for network in networks:
        for options in protocol_options(network, runs, quick):
            plans = make_plans(network, options)
            check_plan(plans[0])
            if options.protocol not in divisions:
                splits = make_splits(faces, options.protocol, options.seeds, options.folds, options.fold)
                report_splits(faces, [split for _, split in splits[:1]], reporter)
                divisions[options.protocol] = splits
            series += plan_series(faces, plans, divisions[options.protocol], runs, resume=True)
    return series


def _is_finished(run: "PlannedRun") -> bool:
    from fer_edge.artifacts.run_folder import is_run_folder, read_run_record

    return is_run_folder(run.folder) and read_run_record(run.folder).results is not None


def _report_estimate(
    series: "Sequence[PlannedRun]",
    faces: "FaceDataset",
    options: ReproduceOptions,
    cluster: "Cluster | None",
    reporter: Reporter,
) -> None:
    """Report the time and the needs of the rest of the job; fail if the disk is too small."""
    from fer_edge.train.estimate import disk_bytes, measure_batches, run_seconds

    out = Path(options.out)
    left = [run for run in series if not _is_finished(run)]
    times = measure_batches(left, faces, out / MEASURED, reporter)
    keys = {run.folder: (run.plan.network, run.plan.image_size, run.plan.recipe.batch_size) for run in left}
    seconds = {run.folder: run_seconds(times[keys[run.folder]], run) for run in left}
    at_once = 1 if cluster is None else cluster.runs_at_once(len(left))
    training_s = max([sum(seconds.values()) / at_once, *seconds.values()], default=0.0)
    convert_s = float(sum(CONVERT_SECONDS[run.plan.network] for run in series if _needs_int8(run, options.quick)))
    for (network, size, batch), timed in times.items():
        mine = [seconds[run.folder] for run in left if keys[run.folder] == (network, size, batch)]
        reporter.result(
            f"  {network} at {size} px: {1000 * timed.batch_s:.0f} ms per batch of {batch}, {timed.start_s:.0f} s to start; "
            f"{len(mine)} runs, {_duration(sum(mine))}"
        )
    needed = disk_bytes((timed, Counter(keys.values())[key]) for key, timed in times.items())
    peak = max((timed.peak_memory_bytes for timed in times.values()), default=0)
    where = (
        "here, one after the other" if cluster is None else f"on the cluster, {at_once} at once, if its nodes are like this one"
    )
    reporter.result(
        f"{len(left)} of {len(series)} runs to train {where}: {_duration(training_s)}. Conversion: {_duration(convert_s)} "
        f"(from our records). In total about {_duration(training_s + convert_s)}"
    )
    reporter.result(
        f"Needs {needed / 1e9:.1f} GB of disk in {out}, {peak / 1e9:.1f} GB of memory (measured) and the extras train, convert "
        "and bench. If it is stopped, repeat the command"
    )
    _check_disk(out, needed)
    _warn_of_memory(peak, reporter)


def _needs_int8(run: "PlannedRun", quick: bool) -> bool:
    """Return whether a run is to be converted and has not been."""
    return not (quick and run.split.protocol == "subject") and not any(run.folder.glob("*_int8.tflite*"))


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _check_disk(out: Path, needed: int) -> None:
    existing = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise OSError(f"{out} needs {needed / 1e9:.1f} GB, but {free / 1e9:.1f} GB are free. Choose another folder with --out")


def _warn_of_memory(peak: int, reporter: Reporter) -> None:
    if not MEMORY.is_file():
        return
    sizes = dict(line.split(":") for line in MEMORY.read_text().splitlines())
    available = int(sizes["MemAvailable"].split()[0]) * 1024
    if available < peak:
        reporter.warn(f"{available / 1e9:.1f} GB of memory are available, but training takes about {peak / 1e9:.1f} GB")


def _train(
    series: "Sequence[PlannedRun]", faces: "FaceDataset", command: Sequence[str], cluster: "Cluster | None", reporter: Reporter
) -> None:
    from fer_edge.artifacts.path_names import command_without_folders
    from fer_edge.train.checkpoint import StoppedError
    from fer_edge.train.series import HowToTrain, train_series

    how = HowToTrain(resume=True, command=tuple(command_without_folders(command)), cluster=cluster)
    try:
        train_series(series, faces, how, reporter)
    except StoppedError as error:
        raise StoppedError(str(error).replace("Continue with --resume", "Repeat the command to continue")) from error


def _convert(series: "Sequence[PlannedRun]", data: str | Path, quick: bool, out: Path, reporter: Reporter) -> None:
    """Convert the runs to int8 and measure each new file on the test faces of its run."""
    from fer_edge.benchmarks.experiment_log import append_evaluations
    from fer_edge.conversion import convert
    from fer_edge.train.evaluate_model import evaluate

    waiting = [run for run in series if _needs_int8(run, quick)]
    for number, run in enumerate(waiting, start=1):
        (result,) = convert(run.folder, reporter=reporter)
        accuracy = result.contract.metrics.after.accuracy if result.contract.metrics else float("nan")
        outcome = "rejected by the gate" if result.issues else f"accuracy {accuracy:.4f}"
        reporter.result(f"  int8 {number}/{len(waiting)}: {run.folder.name}: {outcome}")
    known = {(record.digest, record.precision) for record in read_accuracy_records(out / RECORDS)[1]}
    files = [file for run in series for file in sorted(run.folder.glob("*_int8.tflite"))]
    missing = [file for file in files if _key(file) not in known]
    if missing:
        evaluations = evaluate(missing, data, reporter=reporter)
        append_evaluations(out / RECORDS, [evaluation.record for evaluation in evaluations])


def _key(file: Path) -> tuple[str | None, str]:
    from fer_edge.artifacts.contract import read_contract

    contract = read_contract(file)
    return contract.source_digest, contract.precision


def _measure(
    series: "Sequence[PlannedRun]", networks: Sequence[str], facts: Sequence[str], out: Path, reporter: Reporter
) -> "Reproduction":
    """Record all runs, and the latency of one int8 file per network."""
    from fer_edge.artifacts.latency_records import read_latency_records
    from fer_edge.benchmarks.experiment_log import append_trainings
    from fer_edge.benchmarks.paper.reproduction import Reproduction
    from fer_edge.compare_models import bench

    append_trainings(out / RECORDS, [run.folder for run in series])
    latencies: list[LatencyRecord] = read_latency_records(out / LATENCIES) if (out / LATENCIES).is_file() else []
    measured = {record.network for record in latencies}
    for name in networks:
        files = [file for run in series if run.plan.network == name for file in run.folder.glob("*_int8.tflite")]
        if files and name not in measured:
            bench(min(files), record=out / LATENCIES, reporter=reporter)
            latencies = read_latency_records(out / LATENCIES)
    digests = {_digest(run) for run in series}
    trainings, evaluations = read_accuracy_records(out / RECORDS)
    mine: list[EvaluationRecord] = [record for record in evaluations if record.digest in digests]
    runs = [record for record in trainings if record.results.model_digest in digests]
    return Reproduction(networks, runs, mine, latencies, [*facts, *_machine_facts()])


def _digest(run: "PlannedRun") -> str:
    from fer_edge.artifacts.run_folder import read_finished_run

    return read_finished_run(run.folder)[1].model_digest


def _machine_facts() -> list[str]:
    from fer_edge.benchmarks.environment import describe_environment

    return [f"Written {time.strftime('%Y-%m-%d', time.gmtime())} on {describe_environment().title}, {os.cpu_count()} cores."]


def _write_pages(reproduction: "Reproduction", out: Path, reporter: Reporter) -> None:
    from fer_edge.artifacts.atomic_write import atomic_write
    from fer_edge.benchmarks.paper.reproduction import reproduction_pages, summary_table

    for name, text in zip((PAGE, TABLES), reproduction_pages(reproduction, RECORDS, TABLES), strict=True):
        atomic_write(out / name, text)
    reporter.result(summary_table(reproduction))
    reporter.result(f"{out / PAGE}\n{out / TABLES}")
