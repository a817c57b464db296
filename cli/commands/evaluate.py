"""fer-edge evaluate: runs and .tflite files in; accuracy and the rest of the figures out."""

import json
from pathlib import Path
from typing import Any

import click
from fer_edge.console import friendly_errors, note, progress_bar, start_keras, warn
from fer_edge.table import text_table


@click.command()
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN|MODEL.tflite...")
@click.option("--data", required=True, help="Folder, zip or csv of labelled faces; or 'synthetic'.")
@click.option("--split", "split_name", help="paper, subject, official or all.  [default: as the model was trained]")
@click.option("--part", default="test", show_default=True, help="train, validation, test, private_test or all.")
@click.option("--seed", type=int, help="Seed of the split.  [default: the model's own]")
@click.option("--map", "maps", multiple=True, metavar="CLASS=LABEL", help="Rename a class of the data; CLASS=- drops it.")
@click.option("--json", "as_json", is_flag=True, help="All figures as JSON, one list entry per model.")
@click.option(
    "--predictions", type=click.Path(path_type=Path), help="Write every face's probabilities to this JSON-lines file."
)
@friendly_errors
def command(
    models: tuple[Path, ...],
    data: str,
    split_name: str | None,
    part: str,
    seed: int | None,
    maps: tuple[str, ...],
    as_json: bool,
    predictions: Path | None,
) -> None:
    """Measure models on the test faces of a dataset."""
    from fer_edge.edge_runtime.whole_file import write_whole
    from fer_edge.train.datasets import load_faces, parse_label_map
    from fer_edge.train.evaluate import measure
    from fer_edge.train.models import is_keras, open_model
    from fer_edge.train.selection import select_faces

    if any(is_keras(path) for path in models):
        start_keras()
    with progress_bar("reading faces") as progress:
        faces = load_faces(data, parse_label_map(maps), progress)
    for line in faces.skipped[:10]:
        warn(f"skipped: {line}")
    results: list[dict[str, Any]] = []
    lines = []
    for path in models:
        model = open_model(path)
        chosen = select_faces(faces, model.trained, split_name, part, seed)
        with progress_bar(f"evaluating {model.title}") as progress:
            probabilities = model.probabilities(chosen.faces, progress)
        figures = measure(probabilities, chosen.faces.targets, chosen.faces.labels)
        distinct = chosen.distinct
        if chosen.dropped:
            note(f"{path}: {chosen.dropped} faces have labels that the model does not know, and were left out")
        if chosen.warning:
            warn(f"{path}: {chosen.warning}")
        results.append(
            {
                "model": str(path),
                "title": model.title,
                "data": faces.name,
                "split": chosen.split_title,
                "part": chosen.part,
                "trained_on": model.trained.data,
                "warning": chosen.warning,
                **figures,
                "duplicates_in_training": int((~distinct).sum()),
                "accuracy_without_duplicates": (
                    measure(probabilities[distinct], chosen.faces.targets[distinct], chosen.faces.labels)["accuracy"]
                    if distinct.any()
                    else None
                ),
            }
        )
        for name, row in zip(chosen.faces.ids, probabilities, strict=True):
            shares = dict(zip(chosen.faces.labels, row.tolist(), strict=True))
            lines.append(json.dumps({"model": str(path), "face": name, "probabilities": shares}))
    if predictions:
        write_whole(predictions, "".join(line + "\n" for line in lines))
    click.echo(json.dumps(results, indent=1) if as_json else _tables(results))


def _tables(results: list[dict[str, Any]]) -> str:
    header = (
        "model",
        "data",
        "split",
        "faces",
        "accuracy",
        "no duplicates",
        "loss",
        "precision",
        "recall",
        "F1",
        "weighted F1",
    )
    rows = [
        (
            result["title"],
            result["data"],
            f"{result['split']} {result['part']}",
            str(result["count"]),
            f"{result['accuracy']:.4f}",
            "-" if not result["duplicates_in_training"] else f"{result['accuracy_without_duplicates']:.4f}",
            f"{result['loss']:.4f}",
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
