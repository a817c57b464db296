"""fer-edge parity: the same faces through every installed runtime, and whether the outputs are equal."""

import json
from pathlib import Path

import click

from fer_edge.console import ConsoleReporter, FiniteRange, echo, friendly_errors, note
from fer_edge.option_groups import examples


@click.command(
    epilog=examples("fer-edge parity cnn_nano", "fer-edge parity model.tflite --runtimes mediapipe,litert-js --data ck48.zip")
)
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="MODEL|FOLDER...")
@click.option("--runtimes", default="all", show_default=True, help="Names with commas. all: those that are installed.")
@click.option("--data", help="Faces to compare on: a folder, zip or csv file.  [default: drawn faces]")
@click.option("--faces", type=click.IntRange(min=1), default=100, show_default=True, help="Maximum number of faces.")
@click.option(
    "--max-steps",
    type=FiniteRange(min=0),
    default=1.0,
    show_default=True,
    help="Largest difference of an output, in steps of the quantized output (1/256 of a float output).",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@friendly_errors
def command(models: tuple[Path, ...], runtimes: str, data: str | None, faces: int, max_steps: float, as_json: bool) -> None:
    """Compare the outputs of MODEL in the runtimes that apps use with those of LiteRT.

    The runtimes are LiteRT (Interpreter and CompiledModel), TensorFlow, tflite-runtime and MediaPipe in Python, and LiteRT.js
    and MediaPipe in a browser. fer-edge doctor --install NAME installs a runtime that conflicts with the others into its own
    environment.

    The exit status is 1 if a runtime fails, or differs by more than --max-steps.
    """
    from fer_edge.artifacts.typed_json import to_data
    from fer_edge.benchmarks.parity.compare import parity_table
    from fer_edge.benchmarks.parity.runtimes import choose_runtimes
    from fer_edge.parity import parity

    chosen, missing = choose_runtimes(runtimes)
    rows = parity(models, chosen, data, faces, ConsoleReporter())
    if as_json:
        echo(json.dumps({"max_steps": max_steps, "rows": to_data(rows), "missing": missing}, indent=1))
    else:
        echo(parity_table(rows))
    for name, reason in missing.items():
        note(f"{name}: {reason}")
    worse = dict.fromkeys(row.runtime for row in rows if row.exceeds(max_steps))
    if worse:
        raise RuntimeError(
            f"{', '.join(worse)}: an output differs by more than --max-steps {max_steps:g}, or a model cannot run. Use another "
            "runtime for these models, or raise --max-steps"
        )
