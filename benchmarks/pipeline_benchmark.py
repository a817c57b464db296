"""Speed and memory of ``fer-edge run``: frames per second, time of each stage, time to the first label, memory.

The whole command is measured in its own process: ``fer-edge run CLIP --json --profile``.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fer_edge.artifacts.contract import read_contract
from fer_edge.artifacts.latency_records import Environment, MachineState
from fer_edge.benchmarks.environment import describe_environment, read_state
from fer_edge.benchmarks.synthetic_scenes import read_face, write_clip

START = "from fer_edge.main import main; main()"


@dataclass(frozen=True)
class PipelineRun:
    """One run of ``fer-edge run`` on a clip.

    Attributes:
        first_label_s: From the start of the process to the first line with a face, seconds.
        frames: Number of frames.
        labeled: Number of frames with a face.
        frames_per_second: Rate after the first label.
        peak_memory_bytes: Peak memory of the process, bytes.
        cpu_s: CPU time, seconds.
        profile: What ``--profile`` printed.
    """

    first_label_s: float
    frames: int
    labeled: int
    frames_per_second: float
    peak_memory_bytes: int
    cpu_s: float
    profile: dict[str, Any]

    def __str__(self) -> str:
        stages = ", ".join(
            f"{stage} {times['p50_ms']:.2f} ({times['cpu_ms']:.2f})" for stage, times in self.profile["stages"].items()
        )
        return (
            f"{self.frames_per_second:.0f} frames/s, first label after {self.first_label_s:.2f} s, "
            f"{self.peak_memory_bytes / 1e6:.0f} MB, CPU {self.cpu_s:.1f} s, {self.labeled} of {self.frames} frames with a "
            f"face; p50 ms (mean CPU ms): {stages}"
        )


@dataclass(frozen=True)
class PipelineRecord:
    """Repeated runs of one model on one machine.

    Attributes:
        what: ``pipeline``.
        model: Name of the .tflite file.
        architecture: Name of the network.
        precision: Precision of the file.
        options: Further options of ``fer-edge run``.
        cores_used: Number of cores that the process may use.
        environment: Where it was measured.
        before: State of the machine before.
        after: State of the machine after.
        runs: The runs.
    """

    what: str
    model: str
    architecture: str
    precision: str
    options: tuple[str, ...]
    cores_used: int
    environment: Environment
    before: MachineState
    after: MachineState
    runs: tuple[PipelineRun, ...]


def benchmark_pipeline(model: Path, face: Path, frames: int, repeats: int, options: Sequence[str] = ()) -> PipelineRecord:
    """Measure ``fer-edge run`` on a clip in which one face moves.

    Args:
        model: A .tflite file.
        face: Image of the face.
        frames: Number of frames of the clip.
        repeats: Number of runs.
        options: Further options of ``fer-edge run``.

    Raises:
        RuntimeError: If a run fails or finds no face.
    """
    contract = read_contract(model)
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        write_clip(clip, read_face(face), frames)
        before = read_state()
        runs = tuple(measure_run(model, clip, options) for _ in range(repeats))
    return PipelineRecord(
        what="pipeline",
        model=model.name,
        architecture=contract.architecture,
        precision=contract.precision,
        options=tuple(Path(word).name for word in options),
        cores_used=len(os.sched_getaffinity(0)),
        environment=describe_environment(),
        before=before,
        after=read_state(),
        runs=runs,
    )


def measure_run(model: Path, clip: Path, options: Sequence[str] = ()) -> PipelineRun:
    """Run fer-edge on a clip in its own process.

    Args:
        model: The .tflite file.
        clip: A video file.
        options: Further options of ``fer-edge run``.

    Raises:
        RuntimeError: If the run fails or finds no face.
    """
    command = [sys.executable, "-c", START, "run", str(clip), "--model", str(model), "--json", "--profile", *options]
    first_label_s = None
    frames = labeled = first_frame = 0
    start = time.perf_counter()
    with ExitStack() as stack:
        errors = stack.enter_context(tempfile.TemporaryFile("w+"))
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        stack.callback(process.kill)
        for line in process.stdout or ():
            frames += 1
            if json.loads(line)["faces"]:
                labeled += 1
                if first_label_s is None:
                    first_label_s, first_frame = time.perf_counter() - start, frames
        end_s = time.perf_counter() - start
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        messages = errors.read().strip()
    if process.returncode or first_label_s is None:
        raise RuntimeError(f"fer-edge run {clip} printed no label: {messages[-500:]}")
    return PipelineRun(
        first_label_s=first_label_s,
        frames=frames,
        labeled=labeled,
        frames_per_second=(frames - first_frame) / (end_s - first_label_s),
        peak_memory_bytes=usage.ru_maxrss * 1024,
        cpu_s=usage.ru_utime + usage.ru_stime,
        profile=json.loads(messages.splitlines()[-1]),
    )
