"""Records of accuracy: one JSON line per training run and per evaluation, added and never changed."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fer_edge.artifacts.atomic_write import atomic_write
from fer_edge.artifacts.contract import read_contract
from fer_edge.artifacts.mean_ci import Estimate, estimate

RUN_FILE = "run.json"
MODEL_FILE = "model.keras"
CONVERTED = ("accuracy_before", "accuracy_after", "agreement", "recall_before", "recall_after", "faces")

RecipeOptions = Callable[[str, Mapping[str, Any]], list[str]]
Record = dict[str, Any]


def training_record(folder: Path) -> Record:
    """Return what the tables need of a finished run: settings, figures, and those of its .tflite files.

    Raises:
        FileNotFoundError: If it is no run folder, or not finished.
        ValueError: If its run.json is damaged.
    """
    path = folder / RUN_FILE
    if not path.is_file():
        raise FileNotFoundError(f"'{folder}' is no run folder: it has no {RUN_FILE}. Train one: fer-edge train")
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
        if not run["finished"]:
            raise FileNotFoundError(f"the run in '{folder}' is not finished. Finish it: fer-edge train ... --resume")
        plan = dict(run["plan"])
        digest, *teacher_digests = plan.pop("source_digests", [None])  # runs of earlier versions do not tell
        record = {
            "kind": "training",
            "network": run["network"],
            "recipe": run["recipe"]["name"],
            "seed": run["seed"],
            "data": run["data"]["name"],
            "data_fingerprint": run["data"]["fingerprint"],
            "split": {key: value for key, value in run["split"].items() if key != "ids"},
            # Where files lie is the user's own business; the names of runs are what a reader can use.
            "plan": {
                **plan,
                "teachers": [_source_name(name) for name in plan.get("teachers", [])],
                "weights": _source_name(plan["weights"]),
                "ferplus": _name(plan["ferplus"]) if plan.get("ferplus") else None,
            },
            "map": run["data"].get("map", []),
            "started_from": _source_name(run["weights"]["source"]),
            "started_from_digest": digest,
            "teacher_digests": teacher_digests,
            "ema_momentum": run.get("ema_momentum"),
            "averaged_cycles": run.get("averaged_cycles"),
            "metrics": run["metrics"],
            "temperature": run.get("temperature"),
            "parameters": run["parameters"],
            "train_seconds": run["train_seconds"],
            "backend": run.get("backend"),
            "precision": run.get("precision"),
            "digest": run["model_digest"],
            "versions": run["versions"],
        }
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error!r}). Train again") from error
    record["converted"] = {}
    for model in sorted(folder.glob("*.tflite")):
        contract = read_contract(model)
        figures = {name: contract.metrics[name] for name in CONVERTED}
        record["converted"][contract.precision] = {"file_bytes": model.stat().st_size, **figures}
    return record


def _source_name(source: str) -> str:
    path = Path(source)
    return "/".join(path.parts[-2:]) if path.suffix == ".tflite" else _name(source)  # files of several runs have one name


def _name(source: str) -> str:
    path = Path(source)
    return path.parent.name if path.name == MODEL_FILE and path.parent.name else path.name  # of a run's model the run's


def append_trainings(path: Path, folders: Iterable[Path]) -> int:
    """Add the records of runs to a file; a run that stands there already, converted no further, is left out.

    Returns:
        How many were added.
    """
    known = {(record["digest"], json.dumps(record["converted"])) for record in deduplicate(read_trainings(path))}
    records = [training_record(folder) for folder in folders]
    fresh = [record for record in records if (record["digest"], json.dumps(record["converted"])) not in known]
    _append(path, fresh)
    return len(fresh)


def append_evaluations(path: Path, evaluations: Sequence[Mapping[str, Any]]) -> None:
    """Add the figures of evaluations to a file.

    Args:
        path: JSON-lines file.
        evaluations: What evaluate_model calls figures.
    """
    _append(path, [{"kind": "evaluation", **figures, "model": _name(figures["model"])} for figures in evaluations])


def _append(path: Path, records: Sequence[Record]) -> None:
    if records:
        earlier = path.read_text(encoding="utf-8") if path.is_file() else ""
        atomic_write(path, earlier + "".join(json.dumps(record) + "\n" for record in records))


def read_trainings(path: Path) -> list[Record]:
    """Return the training records of a file; none where there is no file.

    Args:
        path: JSON-lines file.

    Raises:
        ValueError: If a line is no record.
    """
    return [record for record in _read(path) if record["kind"] == "training"]


def deduplicate(trainings: Iterable[Record]) -> list[Record]:
    """Return of the runs that differ in nothing but chance the last, and all others."""
    return list({_settings(record): record for record in trainings}.values())


def _settings(record: Record) -> str:
    """Return what makes two runs the same but for chance, as text."""
    split = [record["split"][name] for name in ("name", "seed", "fold", "folds")]
    return json.dumps([config_key(record), record["seed"], *split])


def config_key(record: Record) -> str:
    """Return what two runs have in common whose mean says something, as text: all but seed, split and fold."""
    plan = record["plan"]
    run = [record[name] for name in ("network", "parameters", "data_fingerprint", "recipe", "started_from")]
    run += [record.get("started_from_digest"), plan["teachers"], record.get("teacher_digests", [])]
    return json.dumps([*run, plan["epochs"], plan["image_size"], plan.get("ferplus"), _recipe_settings(record)], sort_keys=True)


def _recipe_settings(record: Record) -> Record:
    """Return the settings of a training's recipe: the name does not tell those of a changed one, nor of an earlier one."""
    own = {name: value for name, value in record["plan"]["recipe"].items() if name != "epochs"}  # those of all networks
    return {"cycles": 1, "batch_norm": False, **own}  # which earlier recipes do not name


def read_evaluations(path: Path) -> list[Record]:
    """Return the evaluation records of a file, of each model in each precision on each part of a data set the last.

    Raises:
        ValueError: If a line is no record.
    """
    records = [record for record in _read(path) if record["kind"] == "evaluation"]
    keys = ("model", "digest", "precision", "data", "split", "part", "classes", "warning")
    return list({json.dumps([record[key] for key in keys]): record for record in records}.values())


def split_title(split: Mapping[str, Any]) -> str:
    """Return the name of a split that a record or a contract tells of, as evaluations have it: ``paper``, ``subject 3/10``."""
    name: str = split["name"]
    return name if split["fold"] is None else f"{name} {split['fold']}/{split['folds']}"


def part_title(evaluation: Mapping[str, Any]) -> str:
    """Return the split and part that an evaluation was on, for tables: ``official test``, or ``all`` for every face."""
    split, part = evaluation["split"], evaluation["part"]
    return split if split == part else f"{split} {part}"


def _read(path: Path) -> list[Record]:
    if not path.is_file():
        return []
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            record = json.loads(line)
            if record["kind"] not in ("training", "evaluation"):
                raise KeyError(record["kind"])
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"line {number} of {path} is no record of accuracy ({error!r})") from error
        records.append(record)
    return records


def summarise(runs: Sequence[Mapping[str, Any]]) -> dict[str, Estimate]:
    """Summarise the test figures of runs that differ in seed or fold only.

    Args:
        runs: Contents of run.json, or training records.

    Returns:
        Estimates of ``accuracy``, ``macro_f1``, ``loss`` and, where all runs have it, ``ece``.
    """
    tests = [run["metrics"]["test"] for run in runs]
    figures = {
        "accuracy": estimate([test["accuracy"] for test in tests]),
        "macro_f1": estimate([test["macro"]["f1"] for test in tests]),
        "loss": estimate([test["loss"] for test in tests], highest=math.inf),
    }
    if all("ece" in test for test in tests):  # earlier runs were not measured so
        figures["ece"] = estimate([test["ece"] for test in tests])
    return figures
