"""Run two .tflite files in turn in one process, so that what slows the machine down slows both."""

import json
import subprocess
import sys
import time
from pathlib import Path

from fer_edge.artifacts.contract import ModelError
from fer_edge.artifacts.latency_records import LatencyProtocol
from fer_edge.artifacts.typed_json import from_data, to_data
from fer_edge.benchmarks.backends import open_runner
from fer_edge.benchmarks.measure import CHILD_SECONDS, random_inputs, read_model
from fer_edge.benchmarks.timing import time_in_turn

IN_TURN = LatencyProtocol(min_runs=300, min_seconds=4.0)  # found to show a change of 10 % on a busy machine

Samples = tuple[tuple[float, ...], tuple[float, ...]]


def measure_in_turn(old: Path, new: Path, num_threads: int = 1, protocol: LatencyProtocol = IN_TURN) -> Samples:
    """Measure the latency of two files in a new process.

    Args:
        old: A .tflite file.
        new: Another one.
        num_threads: Threads of the interpreter.
        protocol: Warm-up, and minimum number and time of the runs.

    Returns:
        Milliseconds of each run of the old and of the new file.

    Raises:
        ModelError: If a file cannot run.
        RuntimeError: If the measuring process takes too long.
    """
    for path in (old, new):
        try:
            read_model(path)
        except ModelError as error:
            raise ModelError(f"'{path}' cannot be measured: {error}") from error
    rules = json.dumps(to_data(protocol))
    command = [sys.executable, "-m", "fer_edge.benchmarks.measure_in_turn", str(old), str(new), str(num_threads), rules]
    try:
        child = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=CHILD_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"measuring {old} and {new} took more than {CHILD_SECONDS} s. Lower --min-seconds") from error
    if child.returncode:
        reason = (child.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ModelError(f"'{old}' and '{new}' cannot be measured: {reason}")
    first, second = json.loads(child.stdout.splitlines()[-1])
    return tuple(first), tuple(second)


def measure_here(old: Path, new: Path, num_threads: int, protocol: LatencyProtocol) -> Samples:
    """Measure the latency of two files in this process, which should be new.

    Args:
        old: A .tflite file.
        new: Another one.
        num_threads: Threads of the interpreter.
        protocol: Warm-up, and minimum number and time of the runs.

    Returns:
        Milliseconds of each run of the old and of the new file.
    """
    runners = [open_runner(read_model(path)[1], num_threads) for path in (old, new)]
    for runner in runners:
        runner.write(random_inputs(runner.inputs))
    calls = (runners[0].invoke, runners[1].invoke)
    return time_in_turn(calls, protocol.warmup_runs, protocol.min_runs, protocol.min_seconds, time.perf_counter_ns)


if __name__ == "__main__":
    paths, settings = (Path(sys.argv[1]), Path(sys.argv[2])), from_data(LatencyProtocol, json.loads(sys.argv[4]))
    timed = measure_here(*paths, int(sys.argv[3]), settings)
    print(json.dumps([[round(sample, 4) for sample in samples] for samples in timed]))
