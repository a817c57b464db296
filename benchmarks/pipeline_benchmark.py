"""How fast and how small a live run is: frames a second, time of each stage, time to the first label, memory.

Run it, on one core, in an environment that holds the edge extra only:
``taskset -c 0 python -m fer_edge.benchmarks.pipeline_benchmark MODEL.tflite FACE.png --record FILE.jsonl``

The whole command is measured, as a process of its own: ``fer-edge run CLIP --json``.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from fer_edge.artifacts.contract import read_contract
from fer_edge.artifacts.typed_json import append_json_lines
from fer_edge.benchmarks.environment import describe_environment, read_state
from fer_edge.benchmarks.synthetic_scenes import read_face, write_clip

FRAMES = 900
START = "from fer_edge.main import main; main()"


def measure_run(model: Path, clip: Path, arguments: tuple[str, ...] = ()) -> dict[str, Any]:
    """Run fer-edge on a clip and return what it took.

    Args:
        model: The .tflite file.
        clip: A video file.
        arguments: Further options of ``fer-edge run``.

    Returns:
        first_label_s (from starting the process to its first line with a face), frames, labeled (frames with a face),
        frames_per_second (after the first label), peak_memory_bytes, and the profile that the run prints.

    Raises:
        RuntimeError: If the run fails, or finds no face.
    """
    command = [sys.executable, "-c", START, "run", str(clip), "--model", str(model), "--json", "--profile", *arguments]
    first_s = None
    frames = labeled = 0
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        for line in process.stdout or ():
            frames += 1
            if json.loads(line)["faces"]:
                labeled += 1
                if first_s is None:
                    first_s, first_frame = time.perf_counter() - start, frames
        end_s = time.perf_counter() - start
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        said = errors.read()
    if process.returncode or first_s is None:
        raise RuntimeError(f"fer-edge run {clip} gave no label: {said.strip()[-500:]}")
    return {
        "first_label_s": first_s,
        "frames": frames,
        "labeled": labeled,
        "frames_per_second": (frames - first_frame) / (end_s - first_s),
        "peak_memory_bytes": usage.ru_maxrss * 1024,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "profile": json.loads(said.strip().splitlines()[-1]),
    }


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        prog="python -m fer_edge.benchmarks.pipeline_benchmark", description=__doc__.splitlines()[0]
    )
    parser.add_argument("model", type=Path, help="a .tflite file")
    parser.add_argument("face", type=Path, help="a picture of the face that moves through the clip")
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--repeats", type=int, default=5, help="the run is repeated; all are recorded")
    parser.add_argument("--record", type=Path, help="append the result to this JSON-lines file")
    parser.add_argument("--options", type=shlex.split, default=[], help="further options of fer-edge run, in one string")
    chosen = parser.parse_args()
    contract = read_contract(chosen.model)
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        write_clip(clip, read_face(chosen.face), chosen.frames)
        before = read_state()
        runs = [measure_run(chosen.model, clip, tuple(chosen.options)) for _ in range(chosen.repeats)]
    record = {
        "what": "live_run",
        "model": chosen.model.name,
        "architecture": contract.architecture,
        "precision": contract.precision,
        "options": [Path(word).name for word in chosen.options],
        "cores_used": len(os.sched_getaffinity(0)),
        "environment": describe_environment(),
        "before": before,
        "after": read_state(),
        "runs": runs,
    }
    if chosen.record:
        append_json_lines(chosen.record, [record])
    for run in runs:
        stages = ", ".join(
            f"{stage} {times['p50_ms']:.2f} ({times['cpu_ms']:.2f})" for stage, times in run["profile"]["stages"].items()
        )
        print(
            f"{run['frames_per_second']:.0f} frames/s, first label after {run['first_label_s']:.2f} s, "
            f"{run['peak_memory_bytes'] / 1e6:.0f} MB, CPU {run['cpu_s']:.1f} s, {run['labeled']} of {run['frames']} frames "
            f"with a face; p50 ms (mean CPU ms): {stages}"
        )


if __name__ == "__main__":
    main()
