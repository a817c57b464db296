"""Count the instructions of a call where an emulator counts them. On a board and on a PC nothing is counted."""

import ctypes
import os
from collections.abc import Callable
from pathlib import Path

# Names the file to which the plugin of the emulator (tests/pi/instructions.c) appends its counter at each marker.
COUNTS_VARIABLE = "FER_EDGE_INSTRUCTION_COUNTS"
# The marker is a system call with this argument, which means nothing to the kernel. The plugin uses the same value.
PRIO_USER, MARKER = 2, 0x4D61726B


def count_instructions(call: Callable[[], object], runs: int = 3, warmup_runs: int = 2) -> int | None:
    """Return the executed instructions per run of a call, of all threads; None where nothing counts them.

    Args:
        call: The call.
        runs: Number of counted runs.
        warmup_runs: Number of runs before them.
    """
    file = os.environ.get(COUNTS_VARIABLE)
    if not file:
        return None
    for _ in range(warmup_runs):
        call()
    mark = ctypes.CDLL(None).getpriority
    mark(PRIO_USER, MARKER)
    for _ in range(runs):
        call()
    mark(PRIO_USER, MARKER)
    lines = Path(file).read_text().splitlines()[-2:] if Path(file).exists() else []
    counters = [int(number) for word, number in map(str.split, lines) if word == "mark"]
    return (counters[1] - counters[0]) // runs if len(counters) == 2 else None
