"""fer-edge dev overhead: the time that Classifier.predict adds to the interpreter."""

from pathlib import Path

import click

from fer_edge.console import echo, friendly_errors
from fer_edge.option_groups import examples


@click.command(epilog=examples("fer-edge dev overhead cnn_nano", "fer-edge dev overhead models/*.tflite"))
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="MODEL...")
@friendly_errors
def command(models: tuple[Path, ...]) -> None:
    """Measure how much longer Classifier.predict takes than the interpreter alone, for each MODEL."""
    from fer_edge.benchmarks.overhead import measure_overhead
    from fer_edge.edge_runtime.find_model import find_model

    for path in map(find_model, models):
        predict_ms, invoke_ms, overhead_us = measure_overhead(path)
        echo(f"{path.name}: predict {predict_ms:.3f} ms, invoke {invoke_ms:.3f} ms, overhead {overhead_us:.0f} us")
