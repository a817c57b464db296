"""fer-edge evaluate: runs and .tflite files in; accuracy and other metrics out."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fer_edge.console import ConsoleReporter, echo, friendly_errors
from fer_edge.option_groups import dataset_options, examples

if TYPE_CHECKING:
    from fer_edge.artifacts.accuracy_records import EvaluationRecord
    from fer_edge.artifacts.metrics import ClassificationMetrics
    from fer_edge.train.evaluate_model import Evaluation

HEADER = (
    *("model", "data", "split", "faces", "accuracy", "no duplicates", "top 2", "surest 80 %", "loss", "ECE"),
    *("precision", "recall", "F1", "weighted F1"),
)
VOTES_HEADER = ("model", "voted faces", "agreeing annotators", "ECE against votes")


@click.command(
    epilog=examples(
        "fer-edge evaluate cnn_nano_fer2013 --data fer2013.zip --split private_test",
        "fer-edge evaluate runs/* --data ck48.zip --ensemble --json",
    )
)
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN|MODEL...")
@click.option("--data", required=True, help="Labeled faces: a folder, zip or csv file, or synthetic.")
@click.option("--protocol", help="paper, subject, official or all  [default: that of each model's training]")
@click.option("--split", default="test", show_default=True, help="train, validation, test, private_test or all.")
@click.option("--seed", type=int, help="Seed of the division  [default: that of each model's training]")
@dataset_options
@click.option("--ferplus", metavar="FILE", help="FER+ table: measure on the votes of its annotators, over eight classes.")
@click.option("--shared-classes", is_flag=True, help="Leave out classes that the data does not have.")
@click.option(
    "--views", type=click.IntRange(1, 2), default=1, show_default=True, help="2 averages each face and its mirror image."
)
@click.option("--ensemble", is_flag=True, help="Measure the mean of all models' probabilities as well.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: a list with one record per model.")
@click.option(
    "--predictions", type=click.Path(path_type=Path), help="Write the probabilities of each face to this JSON-lines file."
)
@click.option("--record", type=click.Path(path_type=Path), help="Append the records to this JSON-lines file.")
@friendly_errors
def command(
    models: tuple[Path, ...], data: str, as_json: bool, predictions: Path | None, record: Path | None, **options: Any
) -> None:
    """Measure models on the test faces of a dataset.

    RUN is a run folder. MODEL is a .tflite file or the name of a bundled model, such as cnn_nano.
    """
    from fer_edge.artifacts.atomic_write import atomic_write, check_writable
    from fer_edge.artifacts.typed_json import to_data
    from fer_edge.benchmarks.experiment_log import append_evaluations
    from fer_edge.train.evaluate_model import evaluate

    for path in filter(None, (predictions, record)):
        check_writable(path)
    evaluations = evaluate(models, data, reporter=ConsoleReporter(), **options)
    records = [evaluation.record for evaluation in evaluations]
    if predictions:
        atomic_write(predictions, "".join(line for evaluation in evaluations for line in _prediction_lines(evaluation)))
    if record:
        append_evaluations(record, records)
    echo(json.dumps(to_data(records), indent=1) if as_json else _tables(records))


def _prediction_lines(evaluation: "Evaluation") -> Iterator[str]:
    faces = evaluation.selection.faces
    for name, row in zip(faces.ids, evaluation.probabilities, strict=True):
        probabilities = dict(zip(faces.labels, row.tolist(), strict=True))
        yield json.dumps({"model": evaluation.record.model, "face": name, "probabilities": probabilities}) + "\n"


def _tables(records: Sequence["EvaluationRecord"]) -> str:
    from fer_edge.benchmarks.tables import text_table

    tables = [text_table(HEADER, [_row(record) for record in records])]
    voted = [(r.title, str(r.votes.count), f"{r.votes.agreement:.4f}", f"{r.votes.ece:.4f}") for r in records if r.votes]
    if voted:
        tables.append(text_table(VOTES_HEADER, voted))
    if len(records) == 1:
        metrics = records[0].metrics
        confusion = [(label, *map(str, counts)) for label, counts in zip(metrics.per_class, metrics.confusion, strict=True)]
        tables.append(text_table(("class", "precision", "recall", "F1", "faces"), list(_class_rows(metrics))))
        tables.append(text_table(("true \\ predicted", *metrics.per_class), confusion))
    return "\n\n".join(tables)


def _row(record: "EvaluationRecord") -> tuple[str, ...]:
    metrics, distinct = record.metrics, record.accuracy_without_duplicates
    return (
        record.title,
        record.data,
        record.split_title,
        str(metrics.count),
        f"{metrics.accuracy:.4f}",
        f"{distinct:.4f}" if record.duplicates_in_training and distinct is not None else "-",
        _decimals(metrics.top2_accuracy),
        _decimals(metrics.confident_accuracy),
        f"{metrics.loss:.4f}",
        f"{metrics.ece:.4f}",
        f"{metrics.macro.precision:.4f}",
        f"{metrics.macro.recall:.4f}",
        f"{metrics.macro.f1:.4f}",
        f"{metrics.weighted.f1:.4f}",
    )


def _decimals(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _class_rows(metrics: "ClassificationMetrics") -> Iterator[tuple[str, ...]]:
    for label, scores in metrics.per_class.items():
        yield label, f"{scores.precision:.4f}", f"{scores.recall:.4f}", f"{scores.f1:.4f}", str(scores.support)
