"""What Classifier.predict costs beyond the interpreter's own invoke, measured in one process.

Run it: ``python -m fer_edge.benchmarks.overhead MODEL.tflite...``
"""

import sys
import time
from pathlib import Path

import numpy as np
from fer_edge.edge_runtime.classify import Classifier

ROUNDS = 400
WARMUP_ROUNDS = 20


def measure_overhead(model: str | Path, rounds: int = ROUNDS) -> tuple[float, float]:
    """Time ``predict`` on a ready crop and ``invoke`` alone, in turn.

    Args:
        model: A .tflite file of fer-edge.
        rounds: Pairs of calls that are counted.

    Returns:
        Median milliseconds of ``predict`` and of ``invoke``.
    """
    classifier = Classifier(model)
    size = classifier.contract.image_size
    face = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
    predict_ms, invoke_ms = [], []
    for _ in range(WARMUP_ROUNDS + rounds):
        start = time.perf_counter_ns()
        classifier.predict(face)
        middle = time.perf_counter_ns()
        classifier.interpreter.invoke()
        end = time.perf_counter_ns()
        predict_ms.append((middle - start) / 1e6)
        invoke_ms.append((end - middle) / 1e6)
    return float(np.median(predict_ms[WARMUP_ROUNDS:])), float(np.median(invoke_ms[WARMUP_ROUNDS:]))


if __name__ == "__main__":
    for path in sys.argv[1:]:
        predict, invoke = measure_overhead(path)
        print(f"{Path(path).name}: predict {predict:.3f} ms, invoke {invoke:.3f} ms, {1000 * (predict - invoke):.0f} us more")
