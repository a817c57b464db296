"""fer-edge verify: measure a .tflite file against its run."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fer_edge.benchmarks.tables import text_table
from fer_edge.console import ConsoleReporter, echo, friendly_errors, gate_options, note
from fer_edge.option_groups import GroupedCommand, examples

if TYPE_CHECKING:
    from fer_edge.artifacts.conversion import ConversionMetrics
    from fer_edge.convert.verify import Verification


@click.command(
    cls=GroupedCommand,
    epilog=examples(
        "fer-edge verify cnn_nano_fer2013_int8.tflite --run runs/cnn_nano-fer2013-long-official-s0",
        "fer-edge verify model.tflite --run RUN --data fer2013.csv --json",
    ),
)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--run", "run_folder", required=True, type=click.Path(path_type=Path), help="The run folder of MODEL.")
@click.option("--data", help="Labeled faces; their test split is used.  [default: the test faces in the run folder]")
@click.option("--protocol", help="paper, subject, official or all, for --data.  [default: as the run was trained]")
@click.option("--map", "maps", multiple=True, metavar="CLASS=LABEL", help="Rename a class of the data; CLASS=- leaves it out.")
@click.option(
    "--grid", type=click.Path(path_type=Path), help="Image of the worst disagreeing faces.  [default: in the folder of MODEL]"
)
@gate_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@friendly_errors
def command(
    model: Path,
    run_folder: Path,
    data: str | None,
    protocol: str | None,
    maps: tuple[str, ...],
    grid: Path | None,
    max_accuracy_drop: float,
    max_recall_drop: float,
    min_agreement: float,
    as_json: bool,
) -> None:
    """Measure MODEL and the Keras model of its run on the same faces. The exit status is 1 if the gate rejects MODEL."""
    from fer_edge.artifacts.atomic_write import check_writable
    from fer_edge.artifacts.gate import Thresholds
    from fer_edge.artifacts.run_folder import read_run
    from fer_edge.conversion import read_test_faces
    from fer_edge.convert.verify import verify
    from fer_edge.edge_runtime.find_model import find_model
    from fer_edge.train.start_keras import check_keras, start_keras

    thresholds = Thresholds(max_accuracy_drop, max_recall_drop, min_agreement)
    if data is None and (maps or protocol):
        raise ValueError("--map and --protocol need other data than the test faces of the run: add --data DATA, or remove them")
    model, run = find_model(model), read_run(run_folder)
    check_keras()
    if grid:
        check_writable(grid)
    faces = run.held_out if data is None else read_test_faces(run, data, protocol, maps, ConsoleReporter())
    start_keras()
    result = verify(model, run, faces, thresholds, grid)
    if as_json:
        echo(json.dumps({"model": str(model), **asdict(result), "grid": str(result.grid)}))
    else:
        echo(_report(result))
    for issue in (*result.warnings, *result.issues):
        note(f"{issue.cause}; {issue.remedy}")
    if result.disagreements:
        note(f"{result.disagreements} faces got another label than from Keras; the worst are in {result.grid}")
    if result.issues:
        raise RuntimeError(f"the gate rejected {model}: {result.issues[0].cause}")


def _report(result: "Verification") -> str:
    metrics, inspection = result.metrics, result.inspection
    lines = [text_table(("class", "faces", "recall in Keras", "in this file", "points", "KL (nats)"), _rows(metrics))]
    for scores, name in ((metrics.before, "Keras"), (metrics.after, "this file")):
        low, high = scores.accuracy_interval
        lines.append(
            f"accuracy in {name}: {scores.accuracy:.4f} (95 % interval {low:.4f} to {high:.4f}), "
            f"entropy of the labels {scores.label_entropy:.2f} nats"
        )
    partitions = "not known" if inspection.partitions is None else str(inspection.partitions)
    return "\n".join(
        [
            *lines,
            f"agreement {metrics.agreement:.4f} on {metrics.faces} faces",
            f"{inspection.file_bytes:,} bytes ({inspection.compressed_bytes:,} compressed), XNNPACK partitions: {partitions}",
            f"operators: {', '.join(f'{count} {name}' for name, count in inspection.operators.items())}",
        ]
    )


def _rows(metrics: "ConversionMetrics") -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for label, count in metrics.faces_per_class.items():
        before, after, divergence = metrics.before.recall[label], metrics.after.recall[label], metrics.kl_per_class[label]
        if before is None or after is None or divergence is None:
            cells = ("-",) * 4
        else:
            cells = (f"{before:.3f}", f"{after:.3f}", f"{100 * (after - before):+.1f}", f"{divergence:.4f}")
        rows.append((label, str(count), *cells))
    return rows
