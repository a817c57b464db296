"""Series of runs that differ only in seed and fold, and their metrics as CSV."""

import csv
import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from fer_edge.artifacts.accuracy_records import ConvertedFile, EvaluationRecord, TrainingRecord
from fer_edge.artifacts.mean_ci import MeanCI, mean_ci
from fer_edge.artifacts.metrics import ClassificationMetrics
from fer_edge.artifacts.printable import csv_cell
from fer_edge.artifacts.training_plan import CHANGED_SUFFIX
from fer_edge.benchmarks.experiment_log import config_key, deduplicate

COMPARED_DATA = "ck48"
INT8 = ("int8", "int8-tflite", "int8-mixed")  # of a run that has several of these files, the first counts
LEAKY = "leaky split"  # start of the warning of an evaluation that is as leaky as its training

Metric = Callable[[ClassificationMetrics], float]
METRICS: dict[str, Metric] = {
    "accuracy": lambda metrics: metrics.accuracy,
    "loss": lambda metrics: metrics.loss,
    "precision": lambda metrics: metrics.weighted.precision,
    "recall": lambda metrics: metrics.weighted.recall,
    "f1": lambda metrics: metrics.weighted.f1,
    "macro_f1": lambda metrics: metrics.macro.f1,
    "ece": lambda metrics: metrics.ece,
}


@dataclass(frozen=True)
class ComparedRun:
    """A run and the evaluation of its int8 file.

    Attributes:
        record: The run.
        int8: Evaluation of its int8 file on the test split of the run; None if there is none.
    """

    record: TrainingRecord
    int8: EvaluationRecord | None = None

    @property
    def protocol(self) -> str:
        """Protocol of the run."""
        return self.record.split.protocol

    @property
    def int8_file(self) -> ConvertedFile | None:
        """The int8 file of the run, made by any quantizer; None if there is none."""
        return self.record.converted.get(int8_precision(self.record))


@dataclass(frozen=True)
class Series:
    """Runs with one configuration, data and protocol, in the order of their records.

    Attributes:
        runs: The runs.
        last_recorded: Position of the last of them in the records.
    """

    runs: tuple[ComparedRun, ...]
    last_recorded: int

    @property
    def record(self) -> TrainingRecord:
        """The last run, which has the configuration of all."""
        return self.runs[-1].record

    def mean(self, metric: str = "accuracy", split: str = "test") -> MeanCI:
        """Return the mean of a metric over the runs.

        Args:
            metric: A key of METRICS.
            split: ``train``, ``validation`` or ``test``.
        """
        values = [METRICS[metric](getattr(run.record.results.metrics, split)) for run in self.runs]
        return mean_ci(values, math.inf if metric == "loss" else 1.0)


def int8_precision(record: TrainingRecord) -> str:
    """Return the precision of the int8 file that counts for a run."""
    return next((precision for precision in INT8 if precision in record.converted), INT8[0])


def compared_runs(trainings: Iterable[TrainingRecord], evaluations: Sequence[EvaluationRecord]) -> list[ComparedRun]:
    """Return the runs with the evaluations of their int8 files; only the last of equal runs.

    Args:
        trainings: Training records.
        evaluations: Evaluation records.
    """
    runs = []
    for record in deduplicate(trainings):
        key = (record.results.model_digest, int8_precision(record), record.data, record.split.title, "test")
        # Any warning but that of a leaky split means that these are not the test faces of the run.
        matches = (
            evaluation
            for evaluation in evaluations
            if (evaluation.digest, evaluation.precision, evaluation.data, evaluation.protocol, evaluation.split) == key
            and (evaluation.warning or LEAKY).startswith(LEAKY)
        )
        runs.append(ComparedRun(record, next(matches, None)))
    return runs


def all_series(runs: Sequence[ComparedRun]) -> list[Series]:
    """Group runs that differ only in seed and fold, in the order of their first records."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for index, run in enumerate(runs):
        key = (config_key(run.record), run.protocol, run.record.split.folds)
        groups.setdefault(key, []).append(index)
    return [Series(tuple(runs[index] for index in group), group[-1]) for group in groups.values()]


def initial_weights(record: TrainingRecord) -> str:
    """Return the source of a run's initial weights, with the digest of that model: a name may be of a later model by now."""
    digest = record.plan.parent_digests[0]
    source = record.results.weights.source
    return f"{source} ({digest[:8]})" if digest else source


def recipe_title(record: TrainingRecord) -> str:
    """Return the name of a run's recipe and its changed settings."""
    name = record.plan.recipe.name.removesuffix(CHANGED_SUFFIX)
    return f"{name} with {', '.join(record.recipe_changes)}" if record.recipe_changes else name


def series_csv(groups: Sequence[Series], shown: Sequence[Series], evaluations: Sequence[EvaluationRecord]) -> str:
    """Return one CSV line per series: configuration, origin, and means with 95 % intervals.

    Args:
        groups: All series.
        shown: Those that the comparison page shows.
        evaluations: Evaluation records, for the accuracy without test faces that are also in training.
    """
    lines = [_csv_line(series, series in shown, evaluations) for series in groups]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]) if lines else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: csv_cell(value) for name, value in line.items()} for line in lines)
    return text.getvalue()


def _csv_line(series: Series, shown: bool, evaluations: Sequence[EvaluationRecord]) -> dict[str, object]:
    record, runs = series.record, series.runs
    plan, split = record.plan, record.split
    without_duplicates = {
        (evaluation.digest, evaluation.precision, evaluation.data): evaluation.accuracy_without_duplicates
        for evaluation in evaluations
        if evaluation.split == "test" and evaluation.duplicates_in_training
    }
    distinct = [
        without_duplicates.get((run.record.results.model_digest, int8_precision(run.record), run.record.data)) for run in runs
    ]
    files = [run.int8_file for run in runs]
    line: dict[str, object] = {
        "network": plan.network,
        "data": record.data,
        "protocol": split.protocol,
        "folds": split.folds,
        "runs": len(runs),
        "on_page": "yes" if shown else "no",
        "recipe": recipe_title(record),
        "epochs": plan.epochs,
        "image_size": plan.image_size,
        "parameters": record.results.parameters,
        "initial_weights": initial_weights(record),
        "teachers": " ".join(plan.teachers),
        "model_digests": " ".join(run.record.results.model_digest[:8] for run in runs),
    }
    for name in ("train", "validation"):
        line |= _csv_mean(f"{name}_accuracy", series.mean("accuracy", name))
    for metric in METRICS:
        line |= _csv_mean(f"test_{metric}", series.mean(metric))
    line |= _csv_mean("int8_test_accuracy", _mean_of([file.accuracy_after for file in files if file]))
    line |= _csv_mean("int8_test_accuracy_without_duplicates", _mean_of(distinct))
    line["int8_bytes"] = max((file.file_bytes for file in files if file), default=None)
    return line


def _mean_of(values: Sequence[float | None]) -> MeanCI | None:
    measured = [value for value in values if value is not None]
    return mean_ci(measured) if measured else None


def _csv_mean(name: str, mean: MeanCI | None) -> dict[str, object]:
    columns = (name, f"{name}_low", f"{name}_high")
    if mean is None:
        return dict.fromkeys(columns)
    return dict(zip(columns, (f"{value:.4f}" for value in (mean.mean, mean.low, mean.high)), strict=True))
