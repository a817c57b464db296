"""fer-edge evaluate: runs and .tflite files in; accuracy and the rest of the figures out."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fer_edge.benchmarks.tables import text_table
from fer_edge.console import friendly_errors, progress_bar, report_evaluation_set, report_skipped, start_keras

if TYPE_CHECKING:
    from fer_edge.train.evaluate_model import Evaluation


@click.command()
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN|MODEL.tflite...")
@click.option("--data", required=True, help="Folder, zip or csv of labelled faces; or 'synthetic'.")
@click.option("--split", "split_name", help="paper, subject, official or all.  [default: as the model was trained]")
@click.option("--part", default="test", show_default=True, help="train, validation, test, private_test or all.")
@click.option("--seed", type=int, help="Seed of the split.  [default: the model's own]")
@click.option("--map", "maps", multiple=True, metavar="CLASS=LABEL", help="Rename a class of the data; CLASS=- drops it.")
@click.option("--shared-classes", is_flag=True, help="Other data than in training: only the classes that both have.")
@click.option("--ensemble", is_flag=True, help="Measure the mean of all models' probabilities as well.")
@click.option("--json", "as_json", is_flag=True, help="All figures as JSON, one list entry per model.")
@click.option(
    "--predictions", type=click.Path(path_type=Path), help="Write every face's probabilities to this JSON-lines file."
)
@click.option("--record", type=click.Path(path_type=Path), help="Add the figures to this JSON-lines file, for fer-edge report.")
@friendly_errors
def command(
    models: tuple[Path, ...],
    data: str,
    split_name: str | None,
    part: str,
    seed: int | None,
    maps: tuple[str, ...],
    shared_classes: bool,
    ensemble: bool,
    as_json: bool,
    predictions: Path | None,
    record: Path | None,
) -> None:
    """Measure models on the test faces of a dataset."""
    from fer_edge.artifacts.atomic_write import atomic_write
    from fer_edge.benchmarks.experiment_log import append_evaluations
    from fer_edge.train.datasets import load_faces, parse_label_map
    from fer_edge.train.evaluate_model import evaluate_ensemble, evaluate_model, is_keras

    if any(is_keras(path) for path in models):
        start_keras()
    with progress_bar("reading faces") as progress:
        faces = load_faces(data, parse_label_map(maps), progress)
    report_skipped(faces.skipped, len(faces))
    measured: list[Evaluation] = []
    for path in models:
        with progress_bar(f"evaluating {path.name}") as progress:
            measured.append(evaluate_model(path, faces, split_name, part, seed, progress, shared_classes))
        report_evaluation_set(path, measured[-1].figures)
    if ensemble:
        measured.append(evaluate_ensemble(measured))
    if predictions:
        atomic_write(predictions, "".join(line for one in measured for line in _prediction_lines(one)))
    results = [one.figures for one in measured]
    if record:
        append_evaluations(record, results)
    click.echo(json.dumps(results, indent=1) if as_json else _tables(results))


def _prediction_lines(measured: "Evaluation") -> Iterator[str]:
    chosen = measured.selection.faces
    for name, row in zip(chosen.ids, measured.probabilities, strict=True):
        shares = dict(zip(chosen.labels, row.tolist(), strict=True))
        yield json.dumps({"model": measured.figures["model"], "face": name, "probabilities": shares}) + "\n"


def _tables(results: list[dict[str, Any]]) -> str:
    from fer_edge.benchmarks.experiment_log import part_title

    header = (
        "model",
        "data",
        "split",
        "faces",
        "accuracy",
        "no duplicates",
        "loss",
        "ECE",
        "precision",
        "recall",
        "F1",
        "weighted F1",
    )
    rows = [
        (
            result["title"],
            result["data"],
            part_title(result),
            str(result["count"]),
            f"{result['accuracy']:.4f}",
            "-" if not result["duplicates_in_training"] else f"{result['accuracy_without_duplicates']:.4f}",
            f"{result['loss']:.4f}",
            f"{result['ece']:.4f}",
            *(f"{result['macro'][name]:.4f}" for name in ("precision", "recall", "f1")),
            f"{result['weighted']['f1']:.4f}",
        )
        for result in results
    ]
    parts = [text_table(header, rows)]
    if len(results) == 1:
        parts += [_per_class(results[0]), _confusion(results[0])]
    return "\n\n".join(parts)


def _per_class(result: dict[str, Any]) -> str:
    rows = [
        (label, *(f"{scores[name]:.4f}" for name in ("precision", "recall", "f1")), str(scores["support"]))
        for label, scores in result["per_class"].items()
    ]
    return text_table(("class", "precision", "recall", "F1", "faces"), rows)


def _confusion(result: dict[str, Any]) -> str:
    labels = list(result["per_class"])
    rows = [(label, *map(str, counts)) for label, counts in zip(labels, result["confusion"], strict=True)]
    return text_table(("true \\ predicted", *labels), rows)
