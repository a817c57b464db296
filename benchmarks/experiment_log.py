"""The log of accuracy: one JSON line per training run and per evaluation, appended and never changed."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from fer_edge.artifacts.accuracy_records import ConvertedFile, EvaluationRecord, TrainingRecord, read_accuracy_records
from fer_edge.artifacts.contract import read_contract
from fer_edge.artifacts.path_names import command_without_folders, path_name, source_name
from fer_edge.artifacts.run_folder import read_finished_run
from fer_edge.artifacts.typed_json import append_json_lines, to_data


def training_record(folder: Path) -> TrainingRecord:
    """Return the record of a finished run and of its .tflite files.

    Args:
        folder: The run folder. Its path and those in its plan are reduced to names.

    Raises:
        FileNotFoundError: If it is not a run folder or the run has not finished.
        ValueError: If a file in it is damaged.
    """
    run, results = read_finished_run(folder)
    plan = replace(
        run.plan,
        weights=source_name(run.plan.weights),
        teachers=tuple(map(source_name, run.plan.teachers)),
        ferplus=run.plan.ferplus and path_name(run.plan.ferplus),
    )
    weights = replace(results.weights, source=source_name(results.weights.source))
    return TrainingRecord(
        kind="training",
        plan=plan,
        recipe_changes=run.recipe_changes,
        data=run.data.name,
        data_fingerprint=run.data.fingerprint,
        label_map=run.data.label_map,
        split=run.split,
        versions=run.versions,
        command=command_without_folders(run.command),
        results=replace(results, history={}, weights=weights),
        converted=dict(map(_converted_file, sorted(folder.glob("*.tflite")))),
    )


def _converted_file(path: Path) -> tuple[str, ConvertedFile]:
    """Return the precision of a .tflite file and what a training record keeps of it."""
    contract = read_contract(path)
    metrics = contract.metrics
    if metrics is None:
        raise ValueError(f"{path} was not compared with its run. Convert the run again: fer-edge convert {path.parent}")
    before, after = metrics.before, metrics.after
    return contract.precision, ConvertedFile(
        file_bytes=path.stat().st_size,
        faces=metrics.faces,
        agreement=metrics.agreement,
        accuracy_before=before.accuracy,
        accuracy_after=after.accuracy,
        recall_before=before.recall,
        recall_after=after.recall,
    )


def append_trainings(path: Path, folders: Iterable[Path]) -> int:
    """Append the records of runs. Runs whose record is in the file already are skipped, unless converted further since.

    Args:
        path: The JSON-lines file.
        folders: Run folders.

    Returns:
        The number of records appended.

    Raises:
        FileNotFoundError: If a folder is not a run folder or its run has not finished.
        ValueError: If a run or the file is damaged.
    """
    known = [_state(record) for record in deduplicate(read_accuracy_records(path)[0])]
    records = [record for record in map(training_record, folders) if _state(record) not in known]
    append_json_lines(path, records)
    return len(records)


def _state(record: TrainingRecord) -> tuple[str, dict[str, ConvertedFile]]:
    return record.results.model_digest, record.converted


def append_evaluations(path: Path, evaluations: Iterable[EvaluationRecord]) -> None:
    """Append the records of evaluations; models are recorded by name.

    Args:
        path: The JSON-lines file.
        evaluations: The records.
    """
    append_json_lines(path, [replace(record, model=path_name(record.model)) for record in evaluations])


def deduplicate(trainings: Iterable[TrainingRecord]) -> list[TrainingRecord]:
    """Return the last of the runs with equal configuration, seed and split, in the order of their records."""
    latest: dict[str, TrainingRecord] = {}
    for record in trainings:
        split = record.split
        key = json.dumps([config_key(record), record.plan.seed, split.protocol, split.seed, split.fold, split.folds])
        latest.pop(key, None)
        latest[key] = record
    return list(latest.values())


def config_key(record: TrainingRecord) -> str:
    """Return the configuration of a run as text: everything but seed, split and fold. Equal runs may be averaged."""
    plan = to_data(record.plan)
    recipe = {name: value for name, value in plan["recipe"].items() if name != "epochs"}  # of all networks
    run = [plan[name] for name in ("network", "image_size", "epochs", "teachers", "teacher_views", "ferplus", "parent_digests")]
    run += [record.results.parameters, record.data_fingerprint, record.results.weights.source]
    return json.dumps([*run, recipe], sort_keys=True)


def latest_evaluations(evaluations: Iterable[EvaluationRecord]) -> list[EvaluationRecord]:
    """Return the last evaluation of each model in each precision on each split of a dataset, of one view per face."""
    names = ("model", "digest", "precision", "data", "protocol", "split", "classes", "warning")
    return list(
        {tuple(getattr(record, name) for name in names): record for record in evaluations if record.views == 1}.values()
    )
