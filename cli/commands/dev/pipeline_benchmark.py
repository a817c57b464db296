"""fer-edge dev pipeline-benchmark: the speed and memory of fer-edge run."""

from pathlib import Path

import click

from fer_edge.console import echo, friendly_errors
from fer_edge.option_groups import examples


@click.command(
    epilog=examples(
        "fer-edge dev pipeline-benchmark cnn_nano face.png",
        "taskset -c 0 fer-edge dev pipeline-benchmark cnn_nano face.png --options '--detector haar'",
    )
)
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("face", type=click.Path(path_type=Path))
@click.option("--frames", type=click.IntRange(min=1), default=900, show_default=True, help="Frames of the clip.")
@click.option("--repeats", type=click.IntRange(min=1), default=5, show_default=True, help="Number of runs.")
@click.option("--options", default="", help="Further options of fer-edge run, as one string.")
@click.option("--record", type=click.Path(path_type=Path), help="Append the result to this JSON-lines file.")
@friendly_errors
def command(model: Path, face: Path, frames: int, repeats: int, options: str, record: Path | None) -> None:
    """Measure fer-edge run with MODEL on a clip in which the face of the image FACE moves."""
    import shlex

    from fer_edge.artifacts.typed_json import append_json_lines
    from fer_edge.benchmarks.pipeline_benchmark import benchmark_pipeline
    from fer_edge.edge_runtime.find_model import find_model

    result = benchmark_pipeline(find_model(model), face, frames, repeats, shlex.split(options))
    if record:
        append_json_lines(record, [result])
    for run in result.runs:
        echo(run)
