"""Open the outputs that the user asks for, and write labeled frames to them."""

import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fer_edge.artifacts.file_digest import file_digest
from fer_edge.edge_runtime.board import board_name
from fer_edge.edge_runtime.cameras.camera import OnMessage
from fer_edge.edge_runtime.live.pipeline import Pipeline
from fer_edge.edge_runtime.outputs.drawn_label import drawn_label
from fer_edge.edge_runtime.outputs.metrics import MetricsServer
from fer_edge.edge_runtime.outputs.mqtt import Mqtt
from fer_edge.edge_runtime.outputs.output import Output, as_json_line
from fer_edge.edge_runtime.outputs.preview import PreviewServer
from fer_edge.edge_runtime.outputs.summary import FileReport, terminal_of_errors
from fer_edge.edge_runtime.outputs.text import CsvFormatter, LineWriter, LogFile, StatusLine
from fer_edge.edge_runtime.outputs.tls import server_tls
from fer_edge.edge_runtime.outputs.token import token_from_user
from fer_edge.edge_runtime.outputs.video import AnnotatedFileWriter, VideoRecorder


@dataclass(frozen=True)
class OutputSettings:
    """The outputs of a run. By default, only readable lines on standard output.

    Attributes:
        text_format: Format of standard output: ``json``, ``csv``, or None for readable lines.
        log: .jsonl or .csv file to append to.
        save: Folder or file for annotated copies of the source's files.
        record: .mp4 file for an annotated recording of a live source.
        serve: ``HOST:PORT`` of the preview page.
        metrics: ``HOST:PORT`` of the metrics for Prometheus.
        token: Token of the preview page and the metrics, see token_from_user.
        tls_cert: PEM file with the certificate of the preview page and the metrics, for HTTPS.
        tls_key: PEM file with its private key; None if ``tls_cert`` contains it.
        mqtt: Address of an MQTT broker.
        mqtt_ca: PEM file with the certificates that sign the broker's, see Mqtt.
        device_name: Name of this board in MQTT; None for the host name.
    """

    text_format: Literal["json", "csv"] | None = None
    log: Path | None = None
    save: Path | None = None
    record: Path | None = None
    serve: str | None = None
    metrics: str | None = None
    token: str | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    mqtt: str | None = None
    mqtt_ca: Path | None = None
    device_name: str | None = None


def write_outputs(
    pipeline: Pipeline,
    source: str | Path,
    settings: OutputSettings,
    *,
    max_frames: int | None = None,
    interrupted: threading.Event | None = None,
    on_message: OnMessage | None = None,
    on_warning: OnMessage | None = None,
) -> list[Path]:
    """Label the frames of a pipeline and write them to the outputs.

    Args:
        pipeline: The pipeline; it is closed at the end.
        source: The pipeline's source, as the user named it.
        settings: Which outputs.
        max_frames: Stop after this many frames.
        interrupted: Set if the user stops the run early. A video file that is half annotated is then discarded.
        on_message: Called with the addresses of the preview page and the metrics, with labels that images show in another
            way, and when the MQTT broker connects or disconnects.
        on_warning: Called when the log or the recording ends early, or requests are refused.

    Returns:
        The annotated copies that were written.

    Raises:
        ValueError: If a setting does not fit the source, or cannot be used.
        OSError: If an output cannot be written, or the source cannot be read.
        ImportError: If the package that an output needs is not installed.
    """
    interrupted = interrupted or threading.Event()
    with open_outputs(pipeline, source, settings, interrupted, on_message, on_warning) as outputs:
        for count, labeled in enumerate(pipeline, 1):
            with pipeline.stats.timed("output"):
                for output in outputs:
                    output.write(labeled)
            if count == max_frames:
                break
        pipeline.close()
    return [path for output in outputs if isinstance(output, AnnotatedFileWriter) for path in output.written]


@contextmanager
def open_outputs(
    pipeline: Pipeline,
    source: str | Path,
    settings: OutputSettings,
    interrupted: threading.Event,
    on_message: OnMessage | None = None,
    on_warning: OnMessage | None = None,
) -> Iterator[list[Output]]:
    """Open the outputs of ``settings``, and close all of them when the block ends, even if opening or closing one fails.

    Args:
        pipeline: The pipeline whose frames will be written.
        source: Its source, as the user named it.
        settings: Which outputs.
        interrupted: Set by the end of the block if the user stopped the run early.
        on_message: As in write_outputs.
        on_warning: As in write_outputs.

    Yields:
        The open outputs.

    Raises:
        ValueError: If a setting does not fit the source, or cannot be used.
        OSError: If an output cannot be opened or closed.
        ImportError: If the package that an output needs is not installed.
    """
    outputs: list[Output] = []
    complete = False

    def close(output: Output) -> None:
        output.close(complete)

    with ExitStack() as stack:
        for output in _open_each(pipeline, source, settings, on_message, on_warning):
            outputs.append(output)
            stack.callback(close, output)
        yield outputs
        complete = pipeline.live or not interrupted.is_set()


def _open_each(
    pipeline: Pipeline,
    source: str | Path,
    settings: OutputSettings,
    on_message: OnMessage | None,
    on_warning: OnMessage | None,
) -> Iterator[Output]:
    if settings.save and pipeline.live:
        raise ValueError("--save annotates files. To record a live source, use --record FILE.mp4")
    if settings.record and not pipeline.live:
        raise ValueError("--record is for live sources. To annotate files, use --save FOLDER")
    for option, value, needed in (
        ("--tls-cert", settings.tls_cert, ("serve", "metrics")),
        ("--mqtt-ca", settings.mqtt_ca, ("mqtt",)),
    ):
        if value is not None and all(getattr(settings, name) is None for name in needed):
            raise ValueError(f"{option} needs {' or '.join(f'--{name}' for name in needed)}")
    if on_message and (settings.save or settings.record or settings.serve):
        drawn = [f"'{label}' as {text}" for label in pipeline.labels if (text := drawn_label(label, pipeline.labels)) != label]
        if drawn:
            on_message(f"images show only ASCII letters: {', '.join(drawn)}")
    yield _standard_output(pipeline, settings.text_format)
    if settings.log:
        yield LogFile(settings.log, pipeline.labels, on_warning)
    if settings.save:
        yield AnnotatedFileWriter(settings.save, source, on_warning)
    if settings.record:
        yield VideoRecorder(settings.record, on_warning)
    if settings.serve or settings.metrics:
        yield from _open_servers(pipeline, settings, on_message, on_warning)
    if settings.mqtt:
        yield Mqtt(settings.mqtt, settings.device_name, on_message, settings.mqtt_ca)


def _open_servers(
    pipeline: Pipeline, settings: OutputSettings, on_message: OnMessage | None, on_warning: OnMessage | None
) -> Iterator[Output]:
    token = token_from_user(settings.token, on_warning)
    tls = server_tls(settings.tls_cert, settings.tls_key)
    shown = {"model": pipeline.model.name, "detector": pipeline.detector, "board": board_name()}
    if settings.serve:
        preview = PreviewServer(settings.serve, pipeline.stats, token, tls=tls, shown=shown, on_problem=on_warning)
        yield preview
        if on_message:
            on_message(f"preview: {preview.url}")
    if settings.metrics:
        names = {**shown, "model_sha256": file_digest(pipeline.model)}
        metrics = MetricsServer(
            settings.metrics, pipeline.stats, names, pipeline.labels, token=token, tls=tls, on_problem=on_warning
        )
        yield metrics
        if on_message:
            on_message(f"metrics: {metrics.url}")


def _standard_output(pipeline: Pipeline, text_format: str | None) -> Output:
    if text_format == "csv":
        return LineWriter(CsvFormatter(pipeline.labels), sys.stdout)
    if text_format == "json":
        return LineWriter(as_json_line, sys.stdout)
    return StatusLine(sys.stdout, pipeline.stats) if pipeline.live else FileReport(sys.stdout, terminal_of_errors())
