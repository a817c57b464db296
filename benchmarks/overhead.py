"""The time that Classifier.predict adds to the interpreter's invoke, measured in one process."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from fer_edge.edge_runtime.classify import Classifier

ROUNDS = 1000
WARMUP_ROUNDS = 20


def measure_overhead(model: str | Path, rounds: int = ROUNDS) -> tuple[float, float, float]:
    """Time ``predict`` on a ready crop and ``invoke`` alone, in turns. The order alternates.

    Args:
        model: A .tflite file of fer-edge.
        rounds: Number of counted pairs of calls.

    Returns:
        Median time of ``predict`` and of ``invoke``, milliseconds, and the median over the rounds of their difference,
        microseconds. The difference is taken per round because the times drift by more than they differ.
    """
    classifier = Classifier(model)
    size = classifier.contract.image_size
    face = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
    calls: tuple[Callable[[], object], ...] = (partial(classifier.predict, face), classifier.interpreter.invoke)
    samples_ms: tuple[list[float], list[float]] = ([], [])
    for number in range(WARMUP_ROUNDS + rounds):
        for index in (0, 1) if number % 2 else (1, 0):
            start = time.perf_counter_ns()
            calls[index]()
            samples_ms[index].append((time.perf_counter_ns() - start) / 1e6)
    predict_ms, invoke_ms = (np.array(samples[WARMUP_ROUNDS:]) for samples in samples_ms)
    return float(np.median(predict_ms)), float(np.median(invoke_ms)), 1000 * float(np.median(predict_ms - invoke_ms))
