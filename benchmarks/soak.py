"""A long run under faults: memory, threads and file handles must not grow."""

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fer_edge.artifacts.latency_records import Environment, MachineState
from fer_edge.benchmarks.environment import describe_environment, read_state
from fer_edge.benchmarks.faults import LoopedClip, QuickSource, clock_jumps, viewers
from fer_edge.benchmarks.steady_run import SteadyRun, run_steadily
from fer_edge.benchmarks.synthetic_scenes import read_face, write_clip
from fer_edge.edge_runtime.cameras.frame import Frame
from fer_edge.edge_runtime.classify import Classifier
from fer_edge.edge_runtime.detectors.detector import open_detector
from fer_edge.edge_runtime.images import import_cv2
from fer_edge.edge_runtime.live.pipeline import LabeledFrame, Pipeline
from fer_edge.edge_runtime.outputs.preview import MAX_FRAMES_PER_SECOND, PreviewServer
from fer_edge.edge_runtime.outputs.video import VideoRecorder

CLIP_FRAMES = 300
DISK_BYTES = 40 << 20
MAX_GROWTH_BYTES = 5_000_000
MAX_MORE_HANDLES = 8  # connections come and go
MAX_MORE_THREADS = 2
MIN_PREVIEW_FRAMES_PER_SECOND = 1.0
MIN_WATCHED = 0.98  # fraction of the frames without viewers; on a busy machine some frames come too late
VIEWERS = 20


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
        with_clock_jumps: The same without viewers, with a wall clock that jumps by a day.
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
    with_clock_jumps: Watched
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
            with_clock_jumps=_watch_with_clock_jumps(model, clip),
            steady=run_steadily(model, clip, frames, folder),
            after=read_state(),
        )


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


def _watch_with_clock_jumps(model: Path, clip: Path) -> Watched:
    with clock_jumps():
        return watch(model, clip, 0)


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


def violations(record: SoakRecord) -> list[str]:
    """Return the limits that a soak test violates; none if it passed. A part that could not be measured violates no limit."""
    limits = _limits_of_steady_run(record.steady)
    alone = record.without_viewers.processed
    for what, other in ((f"{VIEWERS} viewers", record.with_viewers), ("clock jumps", record.with_clock_jumps)):
        limits[f"{what}: {other.processed} frames labeled, {alone} without"] = other.processed >= MIN_WATCHED * alone
    full_disk = record.full_disk
    if full_disk:
        files_kept = full_disk.frames_readable > 0 and full_disk.files == ("r.mp4",)
        limits[f"full disk: {full_disk}"] = len(full_disk.messages) == 1 and files_kept
    return [text for text, holds in limits.items() if not holds]


def _limits_of_steady_run(steady: SteadyRun) -> dict[str, bool]:
    memory, handles, threads = (steady.growth(what) or 0 for what in ("memory_bytes", "handles", "threads"))
    min_images, max_images = MIN_PREVIEW_FRAMES_PER_SECOND * (steady.seconds - 1), MAX_FRAMES_PER_SECOND * (steady.seconds + 1)
    images = f"{steady.preview_frames} preview frames in {steady.seconds:.0f} s"
    limits = {
        f"exit status {steady.exit_status}": steady.exit_status == 0,
        f"{steady.tracebacks} tracebacks": steady.tracebacks == 0,
        f"{steady.frames} frames labeled, {steady.log_lines} in the log": steady.frames == steady.log_lines > 0,
        # After a loss at the very end there are no frames to reconnect for.
        f"{steady.lost} losses, reopened {steady.reopened} times": steady.lost - steady.reopened in (0, 1),
        f"memory grew by {memory} bytes": memory <= MAX_GROWTH_BYTES,
        f"{handles} more file handles": handles <= MAX_MORE_HANDLES,
        f"{threads} more threads": threads <= MAX_MORE_THREADS,
        images: min_images <= steady.preview_frames <= max_images,
    }
    if steady.mqtt_messages is not None:
        max_messages = steady.label_changes + steady.seconds + 1  # at each change, and once per second
        text = f"{steady.mqtt_messages} MQTT messages, {steady.label_changes} label changes, {steady.seconds:.0f} s"
        limits[text] = max(1, steady.broker_restarts or 0) <= steady.mqtt_messages <= max_messages
    return limits
