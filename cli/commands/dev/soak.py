"""fer-edge dev soak: a long run under faults."""

from pathlib import Path

import click

from fer_edge.console import echo, friendly_errors, note
from fer_edge.option_groups import examples


@click.command(
    epilog=examples(
        "fer-edge dev soak models/cnn_nano_fer2013_int8.tflite face.png",
        "fer-edge dev soak cnn_nano face.png --frames 20000 --record benchmarks/results/soak.jsonl",
    )
)
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("face", type=click.Path(path_type=Path))
@click.option("--frames", type=click.IntRange(min=1), default=200_000, show_default=True, help="Frames of the long run.")
@click.option("--record", type=click.Path(path_type=Path), help="Append the result to this JSON-lines file.")
@friendly_errors
def command(model: Path, face: Path, frames: int, record: Path | None) -> None:
    """Run MODEL on a clip of the face in the image FACE while the camera, the broker, the disk and the clock fail.

    The long part is the command fer-edge run. Fails if memory, threads or file handles grow, if messages or preview images
    are missing, or if there are too many of them.
    """
    import json

    from fer_edge.artifacts.atomic_write import check_writable
    from fer_edge.artifacts.typed_json import append_json_lines, to_data
    from fer_edge.benchmarks.soak import soak, violations
    from fer_edge.edge_runtime.find_model import find_model

    if record:
        check_writable(record)
    result = soak(find_model(model), face, frames)
    if record:
        append_json_lines(record, [result])
    echo(json.dumps(to_data(result), indent=1))
    if result.full_disk is None:
        note("not tested: a full disk, because this user may not mount one")
    if result.steady.broker_restarts is None:
        note("not tested: restarts of the MQTT broker, because mosquitto or paho-mqtt is not installed")
    violated = violations(result)
    if violated:
        raise RuntimeError("the soak test failed: " + "; ".join(violated))
