"""fer-edge run: label the faces of a camera, a stream, images or videos."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from fer_edge.console import FiniteRange, echo, friendly_errors, note, warn
from fer_edge.option_groups import GroupedCommand, examples, option_group

if TYPE_CHECKING:
    from fer_edge.edge_runtime.live.stats import PipelineStats

source_option, detector_option, model_option, smoothing_option, output_option, network_option = (
    option_group(title) for title in ("Source", "Detector", "Model", "Smoothing", "Outputs", "Privacy and network")
)


def _frame_size(context: click.Context, parameter: click.Parameter, text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise click.BadParameter(f"expected WIDTHxHEIGHT, for example 640x480. Received: '{text}'")
    return int(width), int(height)


@click.command(
    cls=GroupedCommand,
    epilog=examples(
        "fer-edge run photo.jpg --save annotated.jpg",
        "fer-edge run /dev/video0 --serve --log labels.csv",
    ),
)
@click.argument("source", default="auto")
@source_option(
    "--frame-size",
    default="640x480",
    show_default=True,
    callback=_frame_size,
    metavar="WIDTHxHEIGHT",
    help="Frame size to request from a camera, or of the frames on standard input.",
)
@source_option(
    "--fps",
    type=FiniteRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="Frame rate to request from a camera.",
)
@source_option(
    "--pixel-format",
    default="rgb",
    show_default=True,
    help="Pixel format of standard input: rgb, bgr, gray, i420, i420-full or yuyv.",
)
@source_option(
    "--rotate",
    type=click.Choice([str(degrees) for degrees in (90, 180, 270)]),
    callback=lambda context, parameter, value: int(value or 0),
    help="Rotate the frames clockwise by these degrees before detection.",
)
@source_option("--flip", is_flag=True, help="Swap left and right in the frames, after --rotate.")
@source_option("--wait", is_flag=True, help="Wait for a camera or stream that is not available at the start.")
@source_option("--every-frame", is_flag=True, help="Label every frame of a live source, even if the delay grows.")
@source_option("--max-frames", type=click.IntRange(min=1), help="Stop after this many frames.")
@detector_option(
    "--detector",
    default="auto",
    show_default=True,
    help="auto (own), own, haar, blazeface, yunet, an .onnx or .tflite file, or none: the whole image is the face.",
)
@detector_option(
    "--detect-every",
    type=click.IntRange(min=1),
    help="Detect faces in every Nth frame and track them in between.  [default: 3 for videos, adaptive for live sources]",
)
@detector_option(
    "--min-face",
    "min_face_px",
    type=click.IntRange(min=1),
    help="Smallest face to detect, in pixels.  [default: 1/16 of the image, 1/8 of a frame]",
)
@detector_option(
    "--max-faces",
    type=click.IntRange(min=1),
    help="Label only this many faces, the largest.  [default: all of an image, 16 of a frame]",
)
@detector_option(
    "--min-face-score",
    type=FiniteRange(0, 1),
    help="Drop faces of which the detector is less sure.  "
    "[default: 0.65 for blazeface, 0.5 for haar, 0.6 for yunet; own: stated in its file]",
)
@model_option(
    "--model",
    help="A .tflite file, a folder (its newest int8 model), or the name of a bundled model.  "
    "[default: the newest int8 model under runs, else cnn_nano]",
)
@model_option("--person", metavar="NAME", help="Apply the correction of this person, see fer-edge personalize.")
@model_option(
    "--views",
    type=click.IntRange(1, 2),
    default=1,
    show_default=True,
    help="2 classifies the mirror image of each face too and averages, at twice the time.",
)
@model_option("--threads", type=click.IntRange(min=1), help="Classifier threads.  [default: the fastest of 1, 2 and 4]")
@smoothing_option("--no-smoothing", is_flag=True, help="Label each frame independently, and never as 'unsure'.")
@smoothing_option(
    "--min-confidence",
    type=FiniteRange(0, 1),
    help="Below this probability the label is 'unsure'. An image keeps its label, marked as unsure.  "
    "[default: the model's threshold, else 0.4]",
)
@output_option("--json", "text_format", flag_value="json", help="Print one line of JSON per image or frame.")
@output_option("--csv", "text_format", flag_value="csv", help="Print one CSV row per face.")
@output_option("--log", type=click.Path(path_type=Path), help="Append each frame to this .jsonl or .csv file.")
@output_option("--save", type=click.Path(path_type=Path), help="Folder for annotated copies, or a file for a single one.")
@output_option("--record", type=click.Path(path_type=Path), help="Record a live source with annotations to this .mp4 file.")
@output_option("--profile", is_flag=True, help="Print the time of each stage to standard error at the end.")
@network_option(
    "--serve",
    is_flag=False,
    flag_value="127.0.0.1:8080",
    metavar="[HOST:PORT]",
    help="Serve a preview page.  [default address: 127.0.0.1:8080]",
)
@network_option(
    "--metrics",
    is_flag=False,
    flag_value="127.0.0.1:9464",
    metavar="[HOST:PORT]",
    help="Serve metrics for Prometheus at /metrics.  [default address: 127.0.0.1:9464]",
)
@network_option(
    "--token",
    metavar="@FILE",
    help="File with the token that viewers and Prometheus need, at least 16 characters; or set FER_EDGE_TOKEN.  "
    "[default: made once and kept; none on a loopback address]",
)
@network_option("--tls-cert", type=click.Path(path_type=Path), help="PEM certificate of --serve and --metrics, for HTTPS.")
@network_option("--tls-key", type=click.Path(path_type=Path), help="PEM private key of --tls-cert.")
@network_option("--mqtt", metavar="[mqtt[s]://]HOST[:PORT]", help="Publish labels to this broker, also for Home Assistant.")
@network_option(
    "--mqtt-ca",
    type=click.Path(path_type=Path),
    help="PEM certificates to trust for mqtts://.  [default: those of the system]",
)
@network_option("--device-name", help="Name of this board in MQTT.  [default: the host name]")
@friendly_errors
def command(
    source: str,
    model: str | None,
    no_smoothing: bool,
    min_confidence: float | None,
    max_frames: int | None,
    text_format: Literal["json", "csv"] | None,
    log: Path | None,
    save: Path | None,
    record: Path | None,
    profile: bool,
    serve: str | None,
    metrics: str | None,
    token: str | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    mqtt: str | None,
    mqtt_ca: Path | None,
    device_name: str | None,
    **stream_options: Any,
) -> None:
    """Detect and label the faces in SOURCE.

    SOURCE is auto (the default: the Raspberry Pi camera, else the first USB camera), picamera2, rpicam, /dev/videoN, a URL
    (rtsp://, http://), - (raw frames on standard input), or an image, a folder or a video file. Ctrl-C ends a live run.
    Nothing is stored and nothing leaves the machine unless an option asks for it.
    """
    from fer_edge.edge_runtime import NO_SMOOTHING, Smoothing, stream
    from fer_edge.edge_runtime.live.service_manager import report_to_service_manager
    from fer_edge.edge_runtime.outputs.open import OutputSettings, write_outputs
    from fer_edge.standard_streams import without_library_messages
    from fer_edge.stop_signals import stop_on_signals

    for option, address in (("--serve", serve), ("--metrics", metrics)):
        if address and ("/" in address or Path(address).exists()):
            raise ValueError(f"{option} takes HOST:PORT or nothing. Put the source first: fer-edge run {address} {option}")
    pipeline = stream(
        source,
        model,
        smoothing=NO_SMOOTHING if no_smoothing else Smoothing(),
        min_confidence=None if no_smoothing else min_confidence,
        **stream_options,
        on_message=warn,
    )
    if not model:
        note(f"model: {pipeline.model.name}, {_origin(pipeline.model)}. To use another, pass --model")
    settings = OutputSettings(
        text_format, log, save, record, serve, metrics, token, tls_cert, tls_key, mqtt, mqtt_ca, device_name
    )
    service = report_to_service_manager(pipeline.stats, pipeline.heartbeat, note)
    with without_library_messages(), stop_on_signals(pipeline.stop) as interrupted, service:
        annotated = write_outputs(
            pipeline, source, settings, max_frames=max_frames, interrupted=interrupted, on_message=note, on_warning=warn
        )
    if save and not text_format:
        echo(f"{len(annotated)} annotated: {save}")
    if profile:
        echo(json.dumps(pipeline.stats.as_dict()) if text_format == "json" else _profile(pipeline.stats), err=True)
    elif pipeline.live:
        note(_counts(pipeline.stats))


def _origin(model: Path) -> str:
    from fer_edge.edge_runtime.find_model import bundled_models

    return "bundled with fer-edge" if model in bundled_models().values() else f"the newest under {model.parent}"


def _counts(stats: "PipelineStats") -> str:
    return f"{stats.processed} frames labeled, {stats.dropped} dropped, {stats.captured} captured"


def _profile(stats: "PipelineStats") -> str:
    """Return the stage times and counters as text."""
    from fer_edge.benchmarks.tables import text_table

    rows = [
        (stage, str(times.runs), f"{times.mean_ms:.2f}", f"{times.p50_ms:.2f}", f"{times.p90_ms:.2f}", f"{times.cpu_ms:.2f}")
        for stage, times in stats.stages().items()
    ]
    table = text_table(("stage", "runs", "mean ms", "p50 ms", "p90 ms", "CPU ms"), rows)
    latency = "" if stats.latency_ms is None else f", {stats.latency_ms:.1f} ms from capture to label"
    return (
        f"{table}\n{_counts(stats)}; {stats.frames_per_second:.1f} frames/s{latency}; "
        f"detection every {stats.detect_every} frames, {stats.threads} threads"
    )
