"""fer-edge verify: a .tflite file against the run it was made from."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from fer_edge.benchmarks.tables import text_table
from fer_edge.console import friendly_errors, gate_options, note, report_skipped, start_keras, warn


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--against", required=True, type=click.Path(path_type=Path), help="The run folder.")
@click.option("--data", help="Labelled faces, the run's test part of them.  [default: the test faces in the run folder]")
@click.option("--split", "split_name", help="Split of other data.")
@click.option("--map", "maps", multiple=True, metavar="CLASS=LABEL", help="Rename a class of the data; CLASS=- drops it.")
@click.option(
    "--sheet", type=click.Path(path_type=Path), help="Draw the worst disagreeing faces here.  [default: beside MODEL]"
)
@gate_options
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@friendly_errors
def command(
    model: Path,
    against: Path,
    data: str | None,
    split_name: str | None,
    maps: tuple[str, ...],
    sheet: Path | None,
    max_accuracy_drop: float,
    max_recall_drop: float,
    min_agreement: float,
    as_json: bool,
) -> None:
    """Measure MODEL and the Keras model of a run on the same faces; exit code 1 where the gate refuses it."""
    from fer_edge.convert.disagreement_grid import disagreement_grid_path, write_disagreement_grid
    from fer_edge.convert.gate import Thresholds
    from fer_edge.convert.run_folder import read_run
    from fer_edge.convert.verify import verify
    from fer_edge.edge_runtime.find_model import find_model

    bounds = Thresholds(max_accuracy_drop, max_recall_drop, min_agreement)
    if data is None and (maps or split_name):
        raise ValueError("--map and --split are for other data than the run's test faces: add --data DATA, or leave them out")
    model = find_model(model)
    run = read_run(against)
    images, targets = run.held_out.images, run.held_out.targets
    if data is not None:
        from fer_edge.train.datasets import load_faces, parse_label_map
        from fer_edge.train.evaluation_set import TrainingProvenance, select_faces

        faces = load_faces(data, parse_label_map(maps) or run.facts["data"].get("map") or {})
        report_skipped(faces.skipped, len(faces))
        trained = TrainingProvenance(
            run.labels, run.facts["data"]["name"], run.facts["data"]["fingerprint"], run.facts["split"]
        )
        selection = select_faces(faces, trained, split_name)
        images, targets = selection.faces.images, selection.faces.targets
        if selection.warning:
            warn(selection.warning)
    start_keras()
    found = verify(model, run, images, targets, bounds)
    if as_json:
        told = {"model": str(model), "metrics": found.metrics, "inspection": asdict(found.inspection)}
        click.echo(
            json.dumps({**told, "problems": [asdict(p) for p in found.problems], "notes": [asdict(p) for p in found.notes]})
        )
    else:
        click.echo(_report(found.metrics))
        inspection = found.inspection
        parts = "not known" if inspection.partitions is None else str(inspection.partitions)
        click.echo(
            f"{inspection.file_bytes:,} bytes ({inspection.compressed_bytes:,} compressed), XNNPACK partitions: {parts}\n"
            f"operators: {', '.join(f'{count} {name}' for name, count in inspection.operators.items())}"
        )
    for problem in (*found.notes, *found.problems):
        note(f"{problem.cause}; {problem.remedy}")
    path = sheet or disagreement_grid_path(model)
    others = write_disagreement_grid(path, images, targets, found.before, found.after, run.labels)
    if others:
        note(f"{others} faces got another label than Keras gives; the worst are in {path}")
    if found.problems:
        raise RuntimeError(f"{model} is refused: {found.problems[0].cause}")


def _report(metrics: Mapping[str, Any]) -> str:
    rows = []
    for label, count in metrics["faces_per_class"].items():
        before, after, divergence = (metrics[key][label] for key in ("recall_before", "recall_after", "kl_per_class"))
        told = (
            ("-",) * 4
            if before is None
            else (f"{before:.3f}", f"{after:.3f}", f"{100 * (after - before):+.1f}", f"{divergence:.4f}")
        )
        rows.append((label, str(count), *told))
    title = ("class", "faces", "recall in Keras", "in this file", "points", "KL (nats)")
    lines = [text_table(title, rows)]
    for moment, where in (("before", "Keras"), ("after", "this file")):
        low, high = metrics[f"accuracy_interval_{moment}"]
        lines.append(
            f"accuracy in {where}: {metrics[f'accuracy_{moment}']:.4f} (95 % interval {low:.4f} to {high:.4f}), "
            f"entropy of the labels {metrics[f'label_entropy_{moment}']:.2f} nats"
        )
    lines.append(f"agreement {metrics['agreement']:.4f} on {metrics['faces']} faces")
    return "\n".join(lines)
