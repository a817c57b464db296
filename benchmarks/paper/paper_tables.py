"""The published tables 5 to 8 with our results next to them: the appendix of the comparison page."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fer_edge.artifacts.accuracy_records import EvaluationRecord, TrainingRecord
from fer_edge.artifacts.mean_ci import mean_ci
from fer_edge.benchmarks.experiment_log import config_key
from fer_edge.benchmarks.paper.paper_results import PUBLISHED, RELATED, Published
from fer_edge.benchmarks.paper.series import COMPARED_DATA, METRICS, ComparedRun, initial_weights, recipe_title
from fer_edge.benchmarks.tables import NOT_MEASURED, markdown_table

PROTOCOLS = ("paper", "subject")
Value = Callable[[ComparedRun], "float | None"]

INTRODUCTION = """# The published tables and our results

`{command}` wrote this page from the records in `{source}`.
The data is CK+48: three almost identical frames of each of 327 sequences.

- **Protocols.** `paper` divides the images of each class at random, as the paper does. The same people are then in training and
  test, so its accuracies are too high. `subject` has no person in more than one split.
- **Several runs.** A cell shows the mean, the standard deviation, the 95 % interval (Student's t) and the number of runs.
- **Rows.** Runs that differ in more than seed and fold have separate rows. The recipe `paper` is that of the publication. Most
  runs that start from FER2013 models use other recipes and epochs under the two protocols, so the difference between the
  protocols has several causes.
- **int8.** In tables 6 and 7 a row that ends in `int8` is the int8 files of the row above."""


@dataclass(frozen=True)
class Variant:
    """The runs of one network with one configuration, under any protocol.

    Attributes:
        title: Name for tables.
        published: Published metrics of the network.
        runs: Our runs.
    """

    title: str
    published: Published
    runs: tuple[ComparedRun, ...]

    def cell(self, protocol: str, value: Value, upper_bound: float = 1.0) -> str:
        """Return the mean of a value over the runs under a protocol.

        Args:
            protocol: ``paper`` or ``subject``.
            value: The value of a run; None if it was not measured.
            upper_bound: Largest possible value.
        """
        values = [value(run) for run in self.runs if run.protocol == protocol]
        measured = [number for number in values if number is not None]
        return str(mean_ci(measured, upper_bound)) if measured else NOT_MEASURED


def paper_tables(
    runs: Sequence[ComparedRun],
    trainings: Sequence[TrainingRecord],
    evaluations: Sequence[EvaluationRecord],
    source: str,
    command: str = "fer-edge dev report",
) -> str:
    """Return the appendix as markdown: tables 5 to 8, and the evaluations that are not in them.

    Args:
        runs: Our runs, on any data.
        trainings: All training records, for the epochs of evaluated models.
        evaluations: Evaluation records.
        source: Name of the file with the records.
        command: The command that writes the page.
    """
    compared = [run for run in runs if run.record.data == COMPARED_DATA]
    variants = _variants(compared)
    shown = [run.int8 for variant in variants for run in variant.runs]
    others = [record for record in evaluations if record not in shown]
    parts = [
        INTRODUCTION.format(source=source, command=command),
        "## Our configurations\n\nThe published networks start from ImageNet, except the CNN. The digest after a name "
        "identifies the model; a later model may have the same name.\n\n" + _configurations(variants),
        "## Accuracy (published table 5)\n\n" + _table_5(variants),
        "## Loss (published table 6)\n\n" + _table_6(variants),
        "## Precision, recall and F1 (published table 7)\n\nThe paper does not say how it weights the classes. Ours are "
        "weighted by their faces; macro F1 is not weighted.\n\n" + _table_7(variants),
        "## Related work (published table 8)\n\nEach as its authors reported it, with their own division of the data.\n\n"
        + _table_8(variants),
        _evaluations(others, trainings),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _configurations(variants: Sequence[Variant]) -> str:
    """Return a table of what the rows of the other tables are."""
    rows = []
    for variant in variants:
        if variant.runs:
            record = variant.runs[-1].record
            plan = record.plan
            size = (str(plan.epochs), str(plan.image_size), f"{record.results.parameters:,}")
            rows.append((variant.title, recipe_title(record), *size, initial_weights(record)))
    return markdown_table(("row", "recipe", "epochs", "px", "parameters", "initial weights"), rows)


def _variants(runs: Sequence[ComparedRun]) -> list[Variant]:
    """Return our runs per network and configuration; one variant without runs for a network that has none."""
    variants = []
    for name, row in PUBLISHED.items():
        groups: dict[str, list[ComparedRun]] = {}
        for run in runs:
            if run.record.plan.network == name:
                groups.setdefault(config_key(run.record), []).append(run)
        for number, group in enumerate(groups.values() or [[]], start=1):
            variants.append(Variant(f"{row.title} {number}" if len(groups) > 1 else row.title, row, tuple(group)))
    return variants


def _metric(name: str, split: str = "test") -> Value:
    return lambda run: METRICS[name](getattr(run.record.results.metrics, split))


def _int8_metric(name: str) -> Value:
    return lambda run: METRICS[name](run.int8.metrics) if run.int8 else None


def _int8_accuracy(run: ComparedRun) -> float | None:
    return run.int8_file.accuracy_after if run.int8_file else None


def _table_5(variants: Sequence[Variant]) -> str:
    header = (
        "network", "published train", "validation", "test", "paper protocol: train", "validation", "test", "test, int8",
        "subject protocol: test", "test, int8",
    )  # fmt: skip
    rows = []
    for variant in variants:
        row = variant.published
        published = [f"{value:.4f}" for value in (row.train_accuracy, row.validation_accuracy, row.test_accuracy)]
        ours = [variant.cell("paper", _metric("accuracy", split)) for split in ("train", "validation", "test")]
        subject = (variant.cell("subject", _metric("accuracy")), variant.cell("subject", _int8_accuracy))
        rows.append((variant.title, *published, *ours, variant.cell("paper", _int8_accuracy), *subject))
    return markdown_table(header, rows)


def _table_6(variants: Sequence[Variant]) -> str:
    header = (
        "network",
        "published train",
        "validation",
        "paper protocol: train",
        "validation",
        "test",
        "subject protocol: test",
    )
    rows = []
    for variant in variants:
        published = (f"{variant.published.train_loss:.4f}", f"{variant.published.validation_loss:.4f}")
        ours = [variant.cell("paper", _metric("loss", split), math.inf) for split in ("train", "validation", "test")]
        rows.append((variant.title, *published, *ours, variant.cell("subject", _metric("loss"), math.inf)))
        rows += _int8_rows(variant, 4, ["loss"], math.inf)
    return markdown_table(header, rows)


def _table_7(variants: Sequence[Variant]) -> str:
    header = (
        "network", "published precision", "recall", "F1", "paper protocol: precision", "recall", "F1", "macro F1",
        "subject protocol: precision", "recall", "F1", "macro F1",
    )  # fmt: skip
    names = ("precision", "recall", "f1", "macro_f1")
    rows = []
    for variant in variants:
        row = variant.published
        published = [f"{value:.2f}" for value in (row.precision, row.recall, row.f1)]
        ours = [variant.cell(protocol, _metric(name)) for protocol in PROTOCOLS for name in names]
        rows.append((variant.title, *published, *ours))
        rows += _int8_rows(variant, len(published), names)
    return markdown_table(header, rows)


def _int8_rows(variant: Variant, blank_columns: int, names: Sequence[str], upper_bound: float = 1.0) -> list[tuple[str, ...]]:
    """Return the row of the int8 files of a variant; none if no file was evaluated."""
    if not any(run.int8 for run in variant.runs):
        return []
    cells = [variant.cell(protocol, _int8_metric(name), upper_bound) for protocol in PROTOCOLS for name in names]
    return [(f"{variant.title}, int8", *["-"] * blank_columns, *cells)]


def _table_8(variants: Sequence[Variant]) -> str:
    rows = [(method, data, f"{accuracy:.2f}", "as reported") for method, data, accuracy in RELATED]
    rows += [(f"{row.title}, published", "CK+", f"{100 * row.test_accuracy:.2f}", "paper") for row in PUBLISHED.values()]
    for variant in variants:
        for protocol in PROTOCOLS:
            values = [run.record.results.metrics.test.accuracy for run in variant.runs if run.protocol == protocol]
            if values:
                rows.append((f"{variant.title}, ours", "CK+48", f"{100 * mean_ci(values).mean:.2f}", protocol))
    return markdown_table(("method", "data", "accuracy %", "protocol"), rows)


def _evaluations(evaluations: Sequence[EvaluationRecord], trainings: Sequence[TrainingRecord]) -> str:
    """Return the section of the evaluations that no other table shows."""
    if not evaluations:
        return ""
    epochs = {run.results.model_digest: str(run.plan.epochs) for run in trainings}
    header = (
        "model", "Keras model", "epochs", "trained on", "measured on", "protocol and split", "classes", "faces", "accuracy",
        "no duplicates", "macro F1", "ECE",
    )  # fmt: skip
    rows = []
    for record in evaluations:
        metrics = record.metrics
        without = f"{record.accuracy_without_duplicates:.4f}" if record.duplicates_in_training else "-"
        digests = " + ".join(digest[:8] for digest in (record.digest or "-").split("+"))
        rows.append(
            (
                record.model if record.network == "ensemble" else record.title,
                digests,
                epochs.get(record.digest or "", "-"),
                record.trained_on,
                record.data,
                record.split_title + (" (warning)" if record.warning else ""),
                str(len(record.classes)),
                str(metrics.count),
                f"{metrics.accuracy:.4f}",
                without,
                f"{metrics.macro.f1:.4f}",
                f"{metrics.ece:.4f}",
            )
        )
    warnings = sorted({record.warning for record in evaluations if record.warning})
    table = markdown_table(header, rows) + "".join(f"\n\nWarning: {warning}." for warning in warnings)
    return "## Models measured on other data or splits, and ensembles\n\n" + table
