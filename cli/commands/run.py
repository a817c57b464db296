"""fer-edge run: a camera, pictures, folders, videos or a stream in; a label and a probability per face out."""

import json
from pathlib import Path
from typing import Any

import click

from fer_edge.console import FiniteRange, friendly_errors, note, warn


def _size(context: click.Context, parameter: click.Parameter, text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise click.BadParameter(f"WIDTHxHEIGHT, for example 640x480. Received: '{text}'")
    return int(width), int(height)


@click.command()
@click.argument("source", required=False)
@click.option("--source", "named_source", help="The same as SOURCE.")
@click.option(
    "--model",
    help="A .tflite file, a folder: its newest int8 model, or a network that comes with fer-edge.  "
    "[default: the newest under runs, else cnn_nano]",
)
@click.option(
    "--detector",
    default="auto",
    show_default=True,
    help="auto, blazeface, yunet, haar, a YuNet .onnx file, or none: the picture is the face.",
)
@click.option(
    "--detect-every",
    type=click.IntRange(min=1),
    help="Frames from one detection to the next.  [default: 3 in videos, live it adapts]",
)
@click.option(
    "--min-face",
    "min_face_px",
    type=click.IntRange(min=1),
    help="Smallest face in pixels.  [default: 32 in pictures, else 1/8 of the frame]",
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads of the classifier.  [default: the fastest of 1, 2 and 4]")
@click.option("--raw", is_flag=True, help="Each frame for itself: no smoothing, never 'unsure'.")
@click.option(
    "--unsure",
    type=FiniteRange(0, 1),
    default=0.4,
    show_default=True,
    help="Below this probability the label is 'unsure'.",
)
@click.option("--frame-size", default="640x480", show_default=True, callback=_size, help="Frame size of a camera or of -.")
@click.option(
    "--fps",
    type=FiniteRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="Rate to ask a camera for.",
)
@click.option("--pixel-format", default="rgb", show_default=True, help="Bytes of '-': rgb, bgr, gray, i420, i420-full or yuyv.")
@click.option("--every-frame", is_flag=True, help="Drop no frame of a live source, however late they become.")
@click.option("--frames", "most_frames", type=click.IntRange(min=1), help="Stop after so many frames.")
@click.option("--json", "form", flag_value="json", help="One line of JSON per picture or frame.")
@click.option("--csv", "form", flag_value="csv", help="One CSV row per face.")
@click.option("--log", type=click.Path(path_type=Path), help="Append each frame to this .jsonl or .csv file.")
@click.option("--save", type=click.Path(path_type=Path), help="Annotated copies of files: a folder, or a file for one picture.")
@click.option("--record", type=click.Path(path_type=Path), help="Record a live source, annotated, to this .mp4 file.")
@click.option("--serve", is_flag=False, flag_value="127.0.0.1:8080", metavar="[HOST:PORT]", help="Serve a preview page.")
@click.option("--token", help="What viewers of the page must know.  [default: made up, but none on this machine]")
@click.option("--mqtt", metavar="[mqtt://]HOST[:PORT]", help="Publish labels to this broker, for Home Assistant too.")
@click.option("--name", help="Name of this board in MQTT.  [default: the host's]")
@click.option("--profile", is_flag=True, help="Print the time of each stage at the end, on standard error.")
@friendly_errors
def command(source: str | None, named_source: str | None, **options: Any) -> None:
    """Find and label the faces in SOURCE.

    SOURCE is auto (the default: the Raspberry Pi camera, else the first USB camera), picamera2, rpicam, /dev/videoN, an
    address (rtsp://, http://), - (raw frames on standard input), or a picture, a folder or a video file. Ctrl-C ends a
    live run. Nothing is stored and nothing leaves the machine unless an option asks for it.
    """
    from fer_edge.commands.run_outputs import open_outputs, profile_table, stopped_by_signals
    from fer_edge.edge_runtime import Smoothing, stream

    if source and named_source and source != named_source:
        raise ValueError(f"two sources: '{source}' and --source '{named_source}'. Name one")
    if options["serve"] and ("/" in options["serve"] or Path(options["serve"]).exists()):
        raise ValueError(
            f"--serve takes HOST:PORT or nothing. Name the source before it: fer-edge run {options['serve']} --serve"
        )
    name = source or named_source or "auto"
    pipeline = stream(
        name,
        options["model"],
        detector=options["detector"],
        detect_every=options["detect_every"],
        min_face_px=options["min_face_px"],
        raw=options["raw"],
        smoothing=None if options["raw"] else Smoothing(unsure_below=options["unsure"]),
        threads=options["threads"],
        frame_size=options["frame_size"],
        frames_per_second=options["fps"],
        pixel_format=options["pixel_format"],
        every_frame=options["every_frame"],
        on_message=warn,
    )
    if not options["model"]:
        note(f"model: {pipeline.model.name}, {_origin(pipeline.model)}; --model takes another")
    with stopped_by_signals(pipeline) as interrupted, open_outputs(pipeline, name, options, interrupted) as outputs:
        for number, labeled in enumerate(pipeline, 1):
            with pipeline.stats.timed("output"):
                for output in outputs:
                    output.write(labeled)
            if number == options["most_frames"]:
                break
        pipeline.close()
    if options["profile"]:
        told = json.dumps(pipeline.stats.as_dict()) if options["form"] == "json" else profile_table(pipeline.stats)
        click.echo(told, err=True)
    elif pipeline.live:
        stats = pipeline.stats
        note(f"{stats.processed} frames labeled, {stats.dropped} dropped, {stats.captured} captured")


def _origin(model: Path) -> str:
    from fer_edge.edge_runtime.find_model import bundled_models

    return "which comes with fer-edge" if model in bundled_models().values() else f"the newest under {model.parent}"
