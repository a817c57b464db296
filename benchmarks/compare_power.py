"""How often ``bench compare`` finds an injected slowdown, and how often it reports one that is not there.

Run it with ``python -m fer_edge.benchmarks.compare_power MODEL.tflite [TRIALS]``. Each trial runs the file in turn with itself,
which has no slowdown, and multiplies the same samples to inject one.
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from fer_edge.benchmarks.measure_in_turn import Samples, measure_in_turn
from fer_edge.benchmarks.record_comparison import AllowedChange, Setting, compare_in_turn

SLOWDOWN = 1.15
TRIALS = 20


def is_slower(samples_ms: Samples, factor: float = 1.0) -> bool:
    """Return whether the second of two files is reported as slower, with the default limits.

    Args:
        samples_ms: Each run of the first and of the second file, milliseconds.
        factor: Slowdown that is injected into the second file.
    """
    slowed = tuple(factor * sample for sample in samples_ms[1])
    setting = Setting("model.tflite", 1, "xnnpack", "this machine")
    return compare_in_turn(setting, (samples_ms[0], slowed), (0, 0), (None, None), AllowedChange()).slower


def main(arguments: Sequence[str]) -> None:
    """Print the rates as JSON."""
    model, trials = Path(arguments[0]), int(arguments[1]) if len(arguments) > 1 else TRIALS
    measured = [measure_in_turn(model, model) for _ in range(trials)]
    rates = {
        "trials": trials,
        "found": sum(is_slower(samples, SLOWDOWN) for samples in measured),
        "false_alarms": sum(is_slower(samples) for samples in measured),
        "load_1min": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(rates))


if __name__ == "__main__":
    main(sys.argv[1:])
