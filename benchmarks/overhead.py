"""What Classifier.predict costs beyond the interpreter's own invoke, measured in one process.

Run it: ``python -m fer_edge.benchmarks.overhead MODEL.tflite...``
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from fer_edge.edge_runtime.classify import Classifier

ROUNDS = 1000
WARMUP_ROUNDS = 20


def measure_overhead(model: str | Path, rounds: int = ROUNDS) -> tuple[float, float, float]:
    """Time ``predict`` on a ready crop and ``invoke`` alone, in turn; which comes first alternates.

    Args:
        model: A .tflite file of fer-edge.
        rounds: Pairs of calls that are counted.

    Returns:
        Median milliseconds of ``predict`` and of ``invoke``, and the median over the rounds of what ``predict`` took
        longer, microseconds: paired, because these times drift by more than they differ.
    """
    classifier = Classifier(model)
    size = classifier.contract.image_size
    face = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
    calls: tuple[Callable[[], object], ...] = (partial(classifier.predict, face), classifier.interpreter.invoke)
    samples_ms: tuple[list[float], list[float]] = ([], [])
    for number in range(WARMUP_ROUNDS + rounds):
        for which in (0, 1) if number % 2 else (1, 0):
            started = time.perf_counter_ns()
            calls[which]()
            samples_ms[which].append((time.perf_counter_ns() - started) / 1e6)
    predict_ms, invoke_ms = (np.array(samples[WARMUP_ROUNDS:]) for samples in samples_ms)
    return float(np.median(predict_ms)), float(np.median(invoke_ms)), 1000 * float(np.median(predict_ms - invoke_ms))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for path in sys.argv[1:]:
        predict, invoke, more_us = measure_overhead(path)
        print(f"{Path(path).name}: predict {predict:.3f} ms, invoke {invoke:.3f} ms, {more_us:.0f} us more")
