"""What a running pipeline counts and times."""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

STAGES = ("capture", "detect", "track", "crop", "classify", "output")
KEPT_SAMPLES = 1000  # per stage, the newest: memory stays flat for weeks


@dataclass(frozen=True)
class StageTime:
    """Times of one stage.

    Attributes:
        runs: How often it ran.
        mean_ms: Over all runs.
        p50_ms: Median of the newest 1000 runs.
        p90_ms: 90th percentile of these.
        cpu_ms: Mean processor time of the stage's own thread: what it costs, whoever else is using the core.
    """

    runs: int
    mean_ms: float
    p50_ms: float
    p90_ms: float
    cpu_ms: float


class _Times:
    def __init__(self) -> None:
        self.runs = 0
        self.total_ms = self.cpu_ms = 0.0
        self.newest: deque[float] = deque(maxlen=KEPT_SAMPLES)

    def add(self, milliseconds: float, cpu_ms: float) -> None:
        self.runs += 1
        self.total_ms += milliseconds
        self.cpu_ms += cpu_ms
        self.newest.append(milliseconds)


class PipelineStats:
    """Counters and times of a pipeline. Each stage is timed by one thread; any thread may read.

    Attributes:
        captured: Frames that the source gave.
        processed: Frames that were labeled.
        dropped: Frames that a newer one replaced before anybody had time for them.
        reopened: How often the camera came back.
        faces: Faces that were labeled.
        detect_every: Frames from one detection to the next, at present.
        latency_ms: Age of the newest labeled frame, from capture to label; None for files.
        threads: Threads of the classifier.
    """

    def __init__(self) -> None:
        self.captured = self.processed = self.dropped = self.reopened = self.faces = 0
        self.detect_every = 1
        self.threads = 1
        self.latency_ms: float | None = None
        self._times = {stage: _Times() for stage in STAGES}
        self._finished: deque[float] = deque(maxlen=100)
        self._start_s = time.monotonic()

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Time a block as one run of a stage."""
        start, cpu_start = time.perf_counter_ns(), time.thread_time_ns()
        try:
            yield
        finally:
            cpu_ms = (time.thread_time_ns() - cpu_start) / 1e6
            self._times[stage].add((time.perf_counter_ns() - start) / 1e6, cpu_ms)

    def count_frame(self, faces: int, capture_time_s: float | None) -> None:
        """Count a labeled frame."""
        now = time.monotonic()
        self.processed += 1
        self.faces += faces
        self.latency_ms = None if capture_time_s is None else (now - capture_time_s) * 1000
        self._finished.append(now)

    @property
    def frames_per_second(self) -> float:
        """Labeled frames a second, over the newest hundred."""
        moments = list(self._finished)
        return (len(moments) - 1) / max(moments[-1] - moments[0], 1e-9) if len(moments) > 1 else 0.0

    def stages(self) -> dict[str, StageTime]:
        """Return the times of the stages that ran."""
        result = {}
        for stage, times in self._times.items():
            newest = sorted(times.newest)
            if newest:
                last = len(newest) - 1
                mean, cpu = times.total_ms / times.runs, times.cpu_ms / times.runs
                result[stage] = StageTime(times.runs, mean, newest[last // 2], newest[last * 9 // 10], cpu)
        return result

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "seconds": time.monotonic() - self._start_s,
            "captured": self.captured,
            "processed": self.processed,
            "dropped": self.dropped,
            "reopened": self.reopened,
            "faces": self.faces,
            "frames_per_second": self.frames_per_second,
            "latency_ms": self.latency_ms,
            "detect_every": self.detect_every,
            "threads": self.threads,
            "stages": {stage: vars(times) for stage, times in self.stages().items()},
        }
