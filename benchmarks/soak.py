"""A long run under faults: memory, threads and file handles stay as they are, whatever happens.

Run it: ``make soak MODEL=FILE.tflite``, or ``python -m fer_edge.benchmarks.soak MODEL.tflite FACE.png --record FILE.jsonl``
"""

import argparse
import gc
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fer_edge.artifacts.typed_json import append_json_lines
from fer_edge.benchmarks.environment import describe_environment, read_state
from fer_edge.benchmarks.synthetic_scenes import read_face, write_clip
from fer_edge.edge_runtime.cameras.camera import CameraError, frames_with_reconnect
from fer_edge.edge_runtime.cameras.frame import Frame
from fer_edge.edge_runtime.cameras.source import LiveSource
from fer_edge.edge_runtime.classify import Classifier
from fer_edge.edge_runtime.detectors.detector import open_detector
from fer_edge.edge_runtime.images import Image, import_cv2
from fer_edge.edge_runtime.live.pipeline import LabeledFrame, Pipeline, PipelineSettings
from fer_edge.edge_runtime.outputs.mqtt import Mqtt
from fer_edge.edge_runtime.outputs.output import Output
from fer_edge.edge_runtime.outputs.preview import PreviewServer
from fer_edge.edge_runtime.outputs.text import LogFile
from fer_edge.edge_runtime.outputs.video import VideoRecorder

CLIP_FRAMES = 300
LOST_EVERY = 5000  # frames
SAMPLE_EVERY = 5000
WARM_UP = 10_000
DISK_BYTES = 40 << 20
MOST_GROWTH_BYTES = 5_000_000
LEAST_WATCHED = 0.98  # of the frames without viewers; the others came too late on a busy machine


class LoopedClip:
    """A camera that shows a clip over and over, and is unplugged every few thousand frames.

    Args:
        clip: A video file.
        frames: Frames in all.
        pace: Frames a second; 0 for as fast as they are taken.
    """

    name = "looped clip"
    pixel_format = "bgr"
    frames_per_second: float | None = 30.0

    def __init__(self, clip: Path, frames: int, pace: float = 0.0) -> None:
        cv2 = import_cv2()
        capture = cv2.VideoCapture(str(clip))
        self._pictures: list[Image] = []
        while True:
            read, picture = capture.read()
            if not read:
                break
            self._pictures.append(np.asarray(picture, np.uint8))
        capture.release()
        self._frames = frames
        self._pace = pace
        self._given = self.lost = 0
        self._refusals = 0
        self._due_s = 0.0
        self.reconnects = True

    def open(self) -> None:
        """Refuse twice after each loss."""
        if self._refusals:
            self._refusals -= 1
            raise CameraError("missing", "unplugged")

    def read(self) -> Image | None:
        """Return the next frame, a copy as a camera's driver would fill a new buffer."""
        if self._given >= self._frames:
            self.reconnects = False
            return None
        self._given += 1
        if self._given % LOST_EVERY == 0:
            self.lost += 1
            self._refusals = 2
            return None
        if self._pace:
            self._due_s = max(self._due_s + 1 / self._pace, time.monotonic())
            time.sleep(max(0.0, self._due_s - time.monotonic()))
        return self._pictures[self._given % len(self._pictures)].copy()

    def close(self) -> None:
        """Nothing is held."""


class QuickSource(LiveSource):
    """A live source that pauses for hundredths of a second where others pause for seconds."""

    def frames(self, stop: threading.Event, on_message: Any = None) -> Any:
        """Yield the camera's frames."""
        return frames_with_reconnect(self.camera, stop, on_message, delays_s=(0.01, 0.02))


def steady(model: Path, clip: Path, frames: int, folder: Path) -> dict[str, Any]:
    """Label a looped clip with every output attached, a broker that comes and goes and viewers that do not read."""
    threads, handles = threading.active_count(), _handles()
    result = _run_steadily(model, clip, frames, folder)
    gc.collect()
    return {
        **result,
        "threads_left_over": threading.active_count() - threads,
        "handles_left_over": _handles() - handles,
    }


def _run_steadily(model: Path, clip: Path, frames: int, folder: Path) -> dict[str, Any]:
    camera = LoopedClip(clip, frames)
    pipeline = Pipeline(
        QuickSource(camera), open_detector(), Classifier(model), PipelineSettings(detect_every=3, every_frame=True)
    )
    samples: list[tuple[int, int]] = []
    start = time.monotonic()
    with ExitStack() as stack:
        outputs, broker = _outputs(stack, pipeline, folder)
        for number, labeled in enumerate(pipeline, 1):
            for output in outputs:
                output.write(labeled)
            if number % SAMPLE_EVERY == 0:
                samples.append((number, _memory_bytes()))
                if broker:
                    broker.restart()
        stats = pipeline.stats.as_dict()
    pipeline.close()
    settled = [memory for number, memory in samples if number >= WARM_UP]
    return {
        "seconds": time.monotonic() - start,
        "frames": stats["processed"],
        "faces": stats["faces"],
        "lost": camera.lost,
        "reopened": stats["reopened"],
        "memory_bytes": samples,
        "growth_bytes": max(settled) - settled[0] if settled else None,
        "log_lines": sum(1 for _ in (folder / "soak.jsonl").open("rb")),
        "broker_restarts": broker.restarts if broker else None,
    }


def _outputs(stack: ExitStack, pipeline: Pipeline, folder: Path) -> tuple[list[Output], "Broker | None"]:
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


class Broker:
    """A mosquitto of our own, which is killed and started again."""

    def __init__(self, program: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self._program = program
        self.restarts = 0
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen([self._program, "-p", str(self.port)], stderr=subprocess.DEVNULL)

    def restart(self) -> None:
        """Kill it and start it again."""
        self.stop()
        self.restarts += 1
        self._start()

    def stop(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.wait()


@contextmanager
def viewers(preview: PreviewServer, count: int) -> Iterator[None]:
    """Have viewers of the preview: every other one never reads."""
    host, _, port = preview.url.split("//")[1].split("/")[0].rpartition(":")
    stop = threading.Event()
    clients = []
    for _ in range(count):
        client = socket.create_connection((host, int(port)), timeout=10)
        client.sendall(f"GET /stream.mjpg HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        client.settimeout(0.2)
        clients.append(client)

    def read() -> None:
        while not stop.is_set():
            for client in clients[::2]:
                try:
                    client.recv(1 << 16)
                except OSError:
                    continue

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield
    finally:
        stop.set()
        reader.join()
        for client in clients:
            client.close()


def twenty_viewers(model: Path, clip: Path) -> dict[str, Any]:
    """Label a 30 frames a second camera for ten seconds, alone and with twenty viewers, ten of which never read."""
    result: dict[str, Any] = {}
    for count in (0, 0, 20):  # the first warms up, and the second takes its place
        pipeline = Pipeline(QuickSource(LoopedClip(clip, 300, pace=30.0)), open_detector(), Classifier(model))
        preview = PreviewServer("127.0.0.1:0", pipeline.stats)
        latencies = []
        with viewers(preview, count):
            for labeled in pipeline:
                preview.write(labeled)
                latencies.append(pipeline.stats.latency_ms or 0.0)
        preview.close(True)
        stats = pipeline.stats
        result[f"viewers_{count}"] = {
            "processed": stats.processed,
            "dropped": stats.dropped,
            "latency_p50_ms": float(np.median(latencies)),
        }
    return result


def full_disk(folder: Path) -> dict[str, Any] | None:
    """Record onto a disk of 40 MB until it is full; None where this user may not mount one."""
    disk = folder / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        return None
    told: list[str] = []
    rng = np.random.default_rng(0)
    try:
        recording = VideoRecorder(disk / "r.mp4", told.append)
        noise = [rng.integers(0, 256, (480, 640, 3), np.uint8) for _ in range(10)]
        for number in range(3000):
            recording.write(LabeledFrame(Frame("x", number, noise[number % 10], frames_per_second=30.0), ()))
        recording.close(True)
        capture = import_cv2().VideoCapture(str(disk / "r.mp4"))
        readable = int(capture.get(import_cv2().CAP_PROP_FRAME_COUNT))
        capture.release()
        return {
            "told": [line.replace(str(folder), "") for line in told],
            "frames_readable": readable,
            "files": sorted(file.name for file in disk.iterdir()),
        }
    finally:
        subprocess.run(["umount", disk], check=True)


def broken_bounds(record: dict[str, Any]) -> list[str]:
    """Return what in a record is not as it must be; nothing where all is well.

    Args:
        record: What main() measures. A part that could not be measured, as without mosquitto, breaks no bound.
    """
    steady, disk, watched = record["steady"], record["full_disk"], record["twenty_viewers"]
    bounds = {
        f"{steady['frames']} frames labeled, {steady['log_lines']} in the log": steady["frames"] == steady["log_lines"] > 0,
        # A loss at the very end has no frames to come back for.
        f"{steady['lost']} losses, back after {steady['reopened']}": steady["lost"] - steady["reopened"] in (0, 1),
        f"memory grew by {steady['growth_bytes']} bytes": (steady["growth_bytes"] or 0) <= MOST_GROWTH_BYTES,
        f"{steady['threads_left_over']} threads left over": steady["threads_left_over"] <= 0,
        f"{steady['handles_left_over']} file handles left over": steady["handles_left_over"] <= 0,
        f"20 viewers: {watched['viewers_20']['processed']} frames labeled, {watched['viewers_0']['processed']} without": (
            watched["viewers_20"]["processed"] >= LEAST_WATCHED * watched["viewers_0"]["processed"]
        ),
    }
    if disk:
        bounds[f"full disk: {disk}"] = len(disk["told"]) == 1 and disk["frames_readable"] > 0 and disk["files"] == ["r.mp4"]
    return [what for what, holds in bounds.items() if not holds]


def _memory_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _handles() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def main() -> None:
    """Parse, soak, print."""
    parser = argparse.ArgumentParser(prog="python -m fer_edge.benchmarks.soak", description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="a .tflite file")
    parser.add_argument("face", type=Path, help="a picture of the face in the clip")
    parser.add_argument("--frames", type=int, default=200_000)
    parser.add_argument("--record", type=Path, help="append the result to this JSON-lines file")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_clip(folder / "clip.mp4", read_face(chosen.face), CLIP_FRAMES)
        before = read_state()
        _ = open_detector().detect(np.zeros((64, 64, 3), np.uint8))  # what is loaded once is loaded now
        record = {
            "what": "soak",
            "model": chosen.model.name,
            "environment": describe_environment(),
            "before": before,
            "full_disk": full_disk(folder),
            "twenty_viewers": twenty_viewers(chosen.model, folder / "clip.mp4"),
            "steady": steady(chosen.model, folder / "clip.mp4", chosen.frames, folder),
            "after": read_state(),
        }
    if chosen.record:
        append_json_lines(chosen.record, [record])
    shown = {key: record[key] for key in ("full_disk", "twenty_viewers", "steady")}
    print(json.dumps(shown, indent=1))
    if record["full_disk"] is None:
        print("not tested: a full disk, because this user may not mount one", file=sys.stderr)
    if record["steady"]["broker_restarts"] is None:
        print("not tested: a broker that goes and comes back, because mosquitto is not installed", file=sys.stderr)
    broken = broken_bounds(record)
    if broken:
        sys.exit("\n".join(f"broken: {what}" for what in broken))


if __name__ == "__main__":
    main()
