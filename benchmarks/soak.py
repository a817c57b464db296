"""A long run under faults: memory, threads and file handles must not grow."""

import gc
import os
import shutil
import subprocess
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fer_edge.artifacts.latency_records import Environment, MachineState
from fer_edge.benchmarks.environment import describe_environment, read_state
from fer_edge.benchmarks.faults import Broker, LoopedClip, QuickSource, viewers
from fer_edge.benchmarks.synthetic_scenes import read_face, write_clip
from fer_edge.edge_runtime.cameras.frame import Frame
from fer_edge.edge_runtime.classify import Classifier
from fer_edge.edge_runtime.detectors.detector import open_detector
from fer_edge.edge_runtime.images import import_cv2
from fer_edge.edge_runtime.live.pipeline import LabeledFrame, Pipeline, PipelineSettings
from fer_edge.edge_runtime.outputs.mqtt import Mqtt
from fer_edge.edge_runtime.outputs.output import Output
from fer_edge.edge_runtime.outputs.preview import PreviewServer
from fer_edge.edge_runtime.outputs.text import LogFile
from fer_edge.edge_runtime.outputs.video import VideoRecorder

CLIP_FRAMES = 300
FRAMES_PER_SAMPLE = 5000
WARMUP_FRAMES = 10_000
DISK_BYTES = 40 << 20
MAX_GROWTH_BYTES = 5_000_000
MIN_WATCHED = 0.98  # fraction of the frames without viewers; on a busy machine some frames come too late
VIEWERS = 20


@dataclass(frozen=True)
class SteadyRun:
    """A long run with all outputs.

    Attributes:
        seconds: Wall time, seconds.
        frames: Labeled frames.
        faces: Labeled faces.
        lost: Number of times that the camera was lost.
        reopened: Number of times that it was opened again.
        memory_bytes: Frame number and memory, bytes, at each sample.
        growth_bytes: Growth of the memory after the warm-up; None in a short run.
        log_lines: Lines in the log.
        broker_restarts: Restarts of the MQTT broker; None where mosquitto is not installed.
        threads_left: Threads that remain after the run.
        handles_left: File handles that remain after the run.
    """

    seconds: float
    frames: int
    faces: int
    lost: int
    reopened: int
    memory_bytes: tuple[tuple[int, int], ...]
    growth_bytes: int | None
    log_lines: int
    broker_restarts: int | None
    threads_left: int = 0
    handles_left: int = 0


@dataclass(frozen=True)
class FullDisk:
    """A recording onto a full disk.

    Attributes:
        messages: What the recorder reported.
        frames_readable: Frames in the file that remains.
        files: Names of the files on the disk.
    """

    messages: tuple[str, ...]
    frames_readable: int
    files: tuple[str, ...]


@dataclass(frozen=True)
class Watched:
    """A run with viewers of the preview: frames labeled, frames dropped, and the median latency, milliseconds."""

    processed: int
    dropped: int
    latency_p50_ms: float


@dataclass(frozen=True)
class SoakRecord:
    """The result of a soak test; parts that could not be measured are None.

    Attributes:
        what: ``soak``.
        model: Name of the .tflite file.
        environment: Where it ran.
        before: State of the machine before.
        full_disk: Recording onto a full disk; None where the user may not mount a small disk.
        without_viewers: A 30 frames per second camera, without viewers.
        with_viewers: The same with VIEWERS viewers, half of which never read.
        steady: The long run.
        after: State of the machine after.
    """

    what: str
    model: str
    environment: Environment
    before: MachineState
    full_disk: FullDisk | None
    without_viewers: Watched
    with_viewers: Watched
    steady: SteadyRun
    after: MachineState


def soak(model: Path, face: Path, frames: int) -> SoakRecord:
    """Run all parts of the soak test.

    Args:
        model: A .tflite file.
        face: Image of the face in the clip.
        frames: Frames of the long run.

    Raises:
        OSError: If the clip cannot be written.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = folder / "clip.mp4"
        write_clip(clip, read_face(face), CLIP_FRAMES)
        before = read_state()
        _ = open_detector().detect(np.zeros((64, 64, 3), np.uint8))  # loads what stays in memory
        _ = watch(model, clip, 0)  # warm-up
        return SoakRecord(
            what="soak",
            model=model.name,
            environment=describe_environment(),
            before=before,
            full_disk=fill_disk(folder),
            without_viewers=watch(model, clip, 0),
            with_viewers=watch(model, clip, VIEWERS),
            steady=run_steadily(model, clip, frames, folder),
            after=read_state(),
        )


def run_steadily(model: Path, clip: Path, frames: int, folder: Path) -> SteadyRun:
    """Label a looped clip with all outputs, a broker that is restarted, and viewers that do not read.

    Args:
        model: A .tflite file.
        clip: A video file.
        frames: Number of frames.
        folder: Folder for the log.
    """
    threads, handles = threading.active_count(), _count_handles()
    result = _label_clip(model, clip, frames, folder)
    gc.collect()
    return replace(result, threads_left=threading.active_count() - threads, handles_left=_count_handles() - handles)


def _label_clip(model: Path, clip: Path, frames: int, folder: Path) -> SteadyRun:
    camera = LoopedClip(clip, frames)
    settings = PipelineSettings(detect_every=3, every_frame=True)
    pipeline = Pipeline(QuickSource(camera), open_detector(), Classifier(model), settings)
    samples: list[tuple[int, int]] = []
    start = time.monotonic()
    with ExitStack() as stack:
        outputs, broker = _open_outputs(stack, pipeline, folder)
        for number, labeled in enumerate(pipeline, 1):
            for output in outputs:
                output.write(labeled)
            if number % FRAMES_PER_SAMPLE == 0:
                samples.append((number, _memory_bytes()))
                if broker:
                    broker.restart()
        stats = pipeline.stats.as_dict()
    pipeline.close()
    settled = [memory for number, memory in samples if number >= WARMUP_FRAMES]
    return SteadyRun(
        seconds=time.monotonic() - start,
        frames=stats["processed"],
        faces=stats["faces"],
        lost=camera.lost,
        reopened=stats["reopened"],
        memory_bytes=tuple(samples),
        growth_bytes=max(settled) - settled[0] if settled else None,
        log_lines=sum(1 for _ in (folder / "soak.jsonl").open("rb")),
        broker_restarts=broker.restarts if broker else None,
    )


def _open_outputs(stack: ExitStack, pipeline: Pipeline, folder: Path) -> tuple[list[Output], Broker | None]:
    outputs: list[Output] = [LogFile(folder / "soak.jsonl", pipeline.labels)]
    preview = PreviewServer("127.0.0.1:0", pipeline.stats)
    outputs.append(preview)
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    broker = Broker(program) if program else None
    if broker:
        outputs.append(Mqtt(f"127.0.0.1:{broker.port}", "soak"))
        stack.callback(broker.stop)
    for output in outputs:
        stack.callback(output.close, True)
    stack.enter_context(viewers(preview, 3))
    return outputs, broker


def watch(model: Path, clip: Path, count: int) -> Watched:
    """Label a camera of 30 frames per second for ten seconds while viewers watch.

    Args:
        model: A .tflite file.
        clip: A video file.
        count: Number of viewers, half of which never read.
    """
    pipeline = Pipeline(QuickSource(LoopedClip(clip, 300, rate=30.0)), open_detector(), Classifier(model))
    preview = PreviewServer("127.0.0.1:0", pipeline.stats)
    latencies = []
    with viewers(preview, count):
        for labeled in pipeline:
            preview.write(labeled)
            latencies.append(pipeline.stats.latency_ms or 0.0)
    preview.close(True)
    stats = pipeline.stats
    return Watched(stats.processed, stats.dropped, float(np.median(latencies)))


def fill_disk(folder: Path) -> FullDisk | None:
    """Record onto a disk of DISK_BYTES until it is full.

    Args:
        folder: Folder in which the disk is mounted.

    Returns:
        The result, or None where the user may not mount a disk.
    """
    disk = folder / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(disk)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        return None
    messages: list[str] = []
    rng = np.random.default_rng(0)
    try:
        recorder = VideoRecorder(disk / "r.mp4", messages.append)
        noise = [rng.integers(0, 256, (480, 640, 3), np.uint8) for _ in range(10)]
        for number in range(3000):
            recorder.write(LabeledFrame(Frame("x", number, noise[number % 10], frames_per_second=30.0), ()))
        recorder.close(True)
        capture = import_cv2().VideoCapture(str(disk / "r.mp4"))
        readable = int(capture.get(import_cv2().CAP_PROP_FRAME_COUNT))
        capture.release()
        texts = tuple(message.replace(str(folder), "") for message in messages)
        return FullDisk(texts, readable, tuple(sorted(file.name for file in disk.iterdir())))
    finally:
        subprocess.run(["umount", disk], check=True)


def violations(steady: SteadyRun, full_disk: FullDisk | None, without_viewers: Watched, with_viewers: Watched) -> list[str]:
    """Return the limits that a soak test violates; none if it passed.

    Args:
        steady: The long run.
        full_disk: The recording onto a full disk. A part that could not be measured violates no limit.
        without_viewers: The run without viewers.
        with_viewers: The run with viewers.
    """
    watched, alone = with_viewers.processed, without_viewers.processed
    limits = {
        f"{steady.frames} frames labeled, {steady.log_lines} in the log": steady.frames == steady.log_lines > 0,
        # After a loss at the very end there are no frames to reconnect for.
        f"{steady.lost} losses, reopened {steady.reopened} times": steady.lost - steady.reopened in (0, 1),
        f"memory grew by {steady.growth_bytes} bytes": (steady.growth_bytes or 0) <= MAX_GROWTH_BYTES,
        f"{steady.threads_left} threads left": steady.threads_left <= 0,
        f"{steady.handles_left} file handles left": steady.handles_left <= 0,
        f"{VIEWERS} viewers: {watched} frames labeled, {alone} without": watched >= MIN_WATCHED * alone,
    }
    if full_disk:
        files_kept = full_disk.frames_readable > 0 and full_disk.files == ("r.mp4",)
        limits[f"full disk: {full_disk}"] = len(full_disk.messages) == 1 and files_kept
    return [text for text, holds in limits.items() if not holds]


def _memory_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _count_handles() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
