"""Choose the number of interpreter threads by measurement: more threads are often slower."""

import os
import time
from pathlib import Path

import numpy as np

from fer_edge.edge_runtime.classify import Classifier

COUNTS = (1, 2, 4)
SECONDS_PER_COUNT = 0.06
MIN_SPEEDUP = 1.15  # below, the other stages make better use of the core
WARM_UP_RUNS = 2
MIN_RUNS = 3


def load_classifier(
    model: str | Path | None = None, threads: int | None = None, person: str | None = None, views: int = 1
) -> Classifier:
    """Load a model with a suitable number of threads.

    Args:
        model: As for Classifier.
        threads: Number of threads, >= 1. None measures 1, 2 and 4 threads, up to the number of cores of this process. It
            takes more threads only if they are at least 15 % faster.
        person: As for Classifier.
        views: As for Classifier.

    Raises:
        FileNotFoundError: If the model file or the person does not exist.
        ModelError: If the model cannot be used.
        ValueError: If threads is less than 1, or views is not 1 or 2.
        ImportError: If no interpreter is installed.
    """
    if threads is not None:
        return Classifier(model, threads, views=views, person=person)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    best = Classifier(model, 1, views=views, person=person)
    if cores == 1:
        return best
    best_ms = _median_ms(best)
    for count in (count for count in COUNTS[1:] if count <= cores):
        other = Classifier(best.model, count, views=views, person=person)
        other_ms = _median_ms(other)
        if other_ms * MIN_SPEEDUP < best_ms:
            best, best_ms = other, other_ms
    return best


def _median_ms(classifier: Classifier) -> float:
    side = classifier.contract.image_size
    face = np.full((side, side, 3), 128, np.uint8)
    for _ in range(WARM_UP_RUNS):
        classifier.predict(face)
    samples: list[float] = []
    end = time.perf_counter() + SECONDS_PER_COUNT
    while len(samples) < MIN_RUNS or time.perf_counter() < end:
        start = time.perf_counter_ns()
        classifier.predict(face)
        samples.append((time.perf_counter_ns() - start) / 1e6)
    return sorted(samples)[len(samples) // 2]
