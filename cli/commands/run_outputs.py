"""Where fer-edge run sends its labeled frames."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any

import click

from fer_edge.console import note, warn
from fer_edge.edge_runtime.live.pipeline import Pipeline
from fer_edge.edge_runtime.live.stats import PipelineStats
from fer_edge.edge_runtime.outputs.mqtt import Mqtt
from fer_edge.edge_runtime.outputs.output import Output, as_json_line, as_text_line
from fer_edge.edge_runtime.outputs.preview import PreviewServer
from fer_edge.edge_runtime.outputs.text import CsvFormatter, LineWriter, LogFile, StatusLine
from fer_edge.edge_runtime.outputs.video import AnnotatedFileWriter, VideoRecorder
from fer_edge.table import text_table


@contextmanager
def open_outputs(
    pipeline: Pipeline, name: str, options: dict[str, Any], interrupted: threading.Event
) -> Iterator[list[Output]]:
    """Open the outputs that the options ask for, and finish them however the block ends."""
    if options["save"] and pipeline.live:
        raise ValueError("--save copies files; to keep a live source: --record FILE.mp4")
    if options["record"] and not pipeline.live:
        raise ValueError("--record is for live sources; for files: --save FOLDER")
    outputs: list[Output] = []
    complete = False
    with ExitStack() as closing:  # closes the others too when one cannot be opened or closed

        def add(output: Output) -> None:
            outputs.append(output)
            closing.callback(lambda: output.close(complete))

        add(_printed(pipeline, options["form"]))
        if options["log"]:
            add(LogFile(options["log"], pipeline.labels, warn))
        copies = AnnotatedFileWriter(options["save"], name) if options["save"] else None
        if copies:
            add(copies)
        if options["record"]:
            add(VideoRecorder(options["record"], warn))
        if options["serve"]:
            preview = PreviewServer(options["serve"], pipeline.stats, options["token"])
            add(preview)
            note(f"preview: {preview.url}")
        if options["mqtt"]:
            add(Mqtt(options["mqtt"], options["name"], note))
        yield outputs
        complete = pipeline.live or not interrupted.is_set()
    if copies and not options["form"]:
        click.echo(f"{len(copies.written)} annotated: {options['save']}")


def _printed(pipeline: Pipeline, form: str | None) -> Output:
    if form == "csv":
        return LineWriter(CsvFormatter(pipeline.labels), sys.stdout)
    if form == "json":
        return LineWriter(as_json_line, sys.stdout)
    return StatusLine(sys.stdout, pipeline.stats) if pipeline.live else LineWriter(as_text_line, sys.stdout)


@contextmanager
def stopped_by_signals(pipeline: Pipeline) -> Iterator[threading.Event]:
    """Let SIGINT, SIGTERM and SIGHUP end the run in good order: files are finished. A second one ends it at once.

    Yields:
        What tells whether one of them came.
    """
    interrupted = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, before[number])
        interrupted.set()
        # From a thread of its own: this one may be in the middle of taking a frame.
        threading.Thread(target=pipeline.stop).start()

    before: dict[int, Any] = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the last: an SSH session ends
            before[number] = signal.signal(number, stop)
    except ValueError:  # not in the main thread: whoever runs us there handles the signals
        pass
    try:
        yield interrupted
    finally:
        for caught, handler in before.items():
            signal.signal(caught, handler)


def profile_table(stats: PipelineStats) -> str:
    """Return the times of the stages and the counters as text."""
    rows = [
        (stage, str(times.runs), f"{times.mean_ms:.2f}", f"{times.p50_ms:.2f}", f"{times.p90_ms:.2f}", f"{times.cpu_ms:.2f}")
        for stage, times in stats.stages().items()
    ]
    table = text_table(("stage", "runs", "mean ms", "p50 ms", "p90 ms", "CPU ms"), rows)
    latency = "" if stats.latency_ms is None else f", newest label {stats.latency_ms:.1f} ms after its capture"
    return (
        f"{table}\n{stats.processed} frames labeled, {stats.dropped} dropped, {stats.captured} captured; "
        f"{stats.frames_per_second:.1f} frames/s{latency}; detection every {stats.detect_every}, "
        f"{stats.threads} threads"
    )
