"""A long run of the command ``fer-edge run``, as on a board: log, preview and MQTT, with faults all the time."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from fer_edge.benchmarks.faults import Broker, ClipServer, MessageCounter, Viewer

FRAMES_PER_SAMPLE = 5000
WARMUP_FRAMES = 10_000
START_TIMEOUT_S = 60.0
END_TIMEOUT_S = 60.0
POLL_S = 0.1
DEVICE_NAME = "soak"
COMMAND = (sys.executable, "-c", "from fer_edge.main import main; main()", "run")


@dataclass(frozen=True)
class Sample:
    """What a process uses after a number of labeled frames.

    Attributes:
        frames: Number of labeled frames.
        memory_bytes: Resident memory, bytes.
        handles: Open file descriptors.
        threads: Threads.
    """

    frames: int
    memory_bytes: int
    handles: int
    threads: int


@dataclass(frozen=True)
class SteadyRun:
    """A long run of ``fer-edge run`` with log, preview and MQTT.

    Attributes:
        exit_status: Exit status of the process.
        seconds: Wall time from the first frame to the end, seconds.
        frames: Labeled frames.
        log_lines: Lines in the log.
        lost: Number of times that the camera was lost.
        reopened: Number of times that it was opened again.
        samples: What the process used in the course of the run.
        label_changes: How often the label of the largest face, or the number of faces, changed.
        preview_frames: Images that a viewer of the preview received.
        stubborn_connections: Connections of a viewer that never reads and connects again when it is disconnected.
        broker_restarts: Restarts of the MQTT broker; None where mosquitto or paho-mqtt is not installed.
        mqtt_messages: Messages with labels that a subscriber received; None as above.
        tracebacks: Tracebacks on standard error.
    """

    exit_status: int
    seconds: float
    frames: int
    log_lines: int
    lost: int
    reopened: int
    samples: tuple[Sample, ...]
    label_changes: int
    preview_frames: int
    stubborn_connections: int
    broker_restarts: int | None
    mqtt_messages: int | None
    tracebacks: int

    def growth(self, what: str) -> int | None:
        """Return by how much a value of the samples grew; None in a short run.

        Memory varies by some buffers from sample to sample. So the medians of the first and of the last quarter of the samples
        after the warm-up are compared.

        Args:
            what: ``memory_bytes``, ``handles`` or ``threads``.
        """
        settled = [int(getattr(sample, what)) for sample in self.samples if sample.frames >= WARMUP_FRAMES]
        quarter = (len(settled) + 3) // 4
        return int(median(settled[-quarter:]) - median(settled[:quarter])) if settled else None


def run_steadily(model: Path, clip: Path, frames: int, folder: Path) -> SteadyRun:
    """Label a camera with ``fer-edge run`` while the camera and the broker fail and viewers misbehave.

    Args:
        model: A .tflite file.
        clip: A video file; the camera repeats it.
        frames: Number of frames to label.
        folder: Folder for the log.

    Raises:
        RuntimeError: If the process does not start or does not end.
    """
    log, errors = folder / "soak.jsonl", folder / "stderr.txt"
    with ExitStack() as stack:
        camera = stack.enter_context(ClipServer(clip))
        broker, counter = _open_broker(stack)
        port = _free_port()
        command = [*COMMAND, camera.url, "--model", str(model), "--detector", "haar", "--detect-every", "3", "--every-frame"]
        command += ["--max-frames", str(frames), "--json", "--log", str(log), "--serve", f"127.0.0.1:{port}"]
        if broker:
            command += ["--mqtt", f"127.0.0.1:{broker.port}", "--device-name", DEVICE_NAME]
        with errors.open("w") as file:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=file)
        stack.callback(process.wait)
        stack.callback(process.kill)
        _wait_for_page(process, port, errors)
        start = time.monotonic()
        reader = stack.enter_context(Viewer(port, reads=True))
        stubborn = stack.enter_context(Viewer(port, reads=False))
        samples = _watch(process, log, frames, broker)
        exit_status = process.wait(END_TIMEOUT_S)
        seconds = time.monotonic() - start
    lines = log.read_text().splitlines()
    messages = errors.read_text(errors="replace")
    return SteadyRun(
        exit_status=exit_status,
        seconds=seconds,
        frames=frames,
        log_lines=len(lines),
        lost=camera.lost,
        reopened=messages.count(" is back\n"),
        samples=tuple(samples),
        label_changes=_count_changes(lines),
        preview_frames=reader.images,
        stubborn_connections=stubborn.connections,
        broker_restarts=broker.restarts if broker else None,
        mqtt_messages=counter.messages if counter else None,
        tracebacks=messages.count("Traceback"),
    )


def _open_broker(stack: ExitStack) -> tuple[Broker | None, MessageCounter | None]:
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    try:
        import paho.mqtt.client  # noqa: F401 - is it installed?
    except ImportError:
        program = None
    if not program:
        return None, None
    broker = Broker(program)
    stack.callback(broker.stop)
    return broker, stack.enter_context(MessageCounter(broker.port, f"fer_edge/{DEVICE_NAME}/state"))


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait_for_page(process: "subprocess.Popen[bytes]", port: int, errors: Path) -> None:
    """Wait until the preview answers."""
    end = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/state.json", timeout=5) as answer:
                if json.load(answer)["frame"] is not None:
                    return
        except OSError:
            pass
        time.sleep(POLL_S)
    raise RuntimeError(f"fer-edge run does not start: {errors.read_text(errors='replace')[-2000:]}")


def _watch(process: "subprocess.Popen[bytes]", log: Path, frames: int, broker: Broker | None) -> list[Sample]:
    """Sample the process and restart the broker every FRAMES_PER_SAMPLE frames until the process ends."""
    samples: list[Sample] = []
    lines = 0
    with log.open("rb") as file:
        while process.poll() is None:
            lines += sum(1 for _ in file)
            if lines // FRAMES_PER_SAMPLE > len(samples):
                sample = _sample(process.pid, lines)
                if sample:
                    samples.append(sample)
                if broker:
                    broker.restart()
            time.sleep(POLL_S)
            if lines >= frames:
                break
    return samples


def _sample(pid: int, frames: int) -> Sample | None:
    folder = Path(f"/proc/{pid}")
    try:
        memory = int((folder / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return Sample(frames, memory, len(list((folder / "fd").iterdir())), len(list((folder / "task").iterdir())))
    except OSError:  # it has ended
        return None


def _count_changes(lines: list[str]) -> int:
    changes = 0
    last: tuple[str | None, int] | None = None
    for line in lines:
        faces = json.loads(line)["faces"]
        current = (faces[0]["label"] if faces else None, len(faces))
        changes += current != last
        last = current
    return changes
