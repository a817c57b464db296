"""Counters and stage times of a running pipeline."""

import time
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

STAGES = ("capture", "detect", "track", "crop", "classify", "output")
MAX_SAMPLES = 1000  # per stage, the newest; keeps memory constant over weeks
RATE_WINDOW_FRAMES = 100
# Upper bounds of the histograms, milliseconds: from the cropping of a face to a camera that is lost.
BUCKETS_MS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 10000.0)


@dataclass(frozen=True)
class StageTime:
    """Times of one stage.

    Attributes:
        runs: Number of runs.
        mean_ms: Mean over all runs.
        p50_ms: Median of the newest 1000 runs.
        p90_ms: 90th percentile of the newest 1000 runs.
        cpu_ms: Mean CPU time of the stage's own thread, which does not include waiting.
    """

    runs: int
    mean_ms: float
    p50_ms: float
    p90_ms: float
    cpu_ms: float


class Histogram:
    """Counts times, by BUCKETS_MS. One thread may add times while others read.

    Attributes:
        total_ms: Sum of the times, milliseconds.
    """

    def __init__(self) -> None:
        self.total_ms = 0.0
        self._counts = [0] * (len(BUCKETS_MS) + 1)  # the last one is of longer times

    def add(self, elapsed_ms: float) -> None:
        """Count a time, milliseconds."""
        self.total_ms += elapsed_ms
        self._counts[bisect_left(BUCKETS_MS, elapsed_ms)] += 1

    def cumulative(self) -> list[int]:
        """Return how many times are at most each of BUCKETS_MS, and how many there are."""
        return list(accumulate(self._counts))


class _Times:
    def __init__(self) -> None:
        self.runs = 0
        self.cpu_ms = 0.0
        self.histogram = Histogram()
        self.newest: deque[float] = deque(maxlen=MAX_SAMPLES)

    def add(self, elapsed_ms: float, cpu_ms: float) -> None:
        self.runs += 1
        self.cpu_ms += cpu_ms
        self.histogram.add(elapsed_ms)
        self.newest.append(elapsed_ms)


class PipelineStats:
    """Counters and times of a pipeline. Only one thread times each stage; any thread may read.

    Attributes:
        captured: Number of frames from the source.
        processed: Number of labeled frames.
        dropped: Number of frames that a newer one replaced before they were processed.
        lost: Number of times that the camera was lost.
        reopened: Number of times that a lost camera was reopened.
        faces: Number of labeled faces.
        detect_every: Current number of frames from one detection to the next.
        latency_ms: Time from capture to label of the newest labeled frame, milliseconds. None for files.
        latencies: All latencies so far.
        threads: Number of interpreter threads.
    """

    def __init__(self) -> None:
        self.captured = self.processed = self.dropped = self.lost = self.reopened = self.faces = 0
        self.detect_every = 1
        self.threads = 1
        self.latency_ms: float | None = None
        self.latencies = Histogram()
        self._times = {stage: _Times() for stage in STAGES}
        self._labeled_s: deque[float] = deque(maxlen=RATE_WINDOW_FRAMES)
        self._start_s = time.monotonic()

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Time a block as one run of a stage, one of STAGES."""
        start, cpu_start = time.perf_counter_ns(), time.thread_time_ns()
        try:
            yield
        finally:
            cpu_ms = (time.thread_time_ns() - cpu_start) / 1e6
            self._times[stage].add((time.perf_counter_ns() - start) / 1e6, cpu_ms)

    def count_frame(self, faces: int, capture_time_s: float | None) -> None:
        """Count a frame that was labeled just now.

        Args:
            faces: Number of faces in the frame.
            capture_time_s: Capture time of the frame, seconds of the monotonic clock. None for files.
        """
        now = time.monotonic()
        self.processed += 1
        self.faces += faces
        self.latency_ms = None if capture_time_s is None else (now - capture_time_s) * 1000
        if self.latency_ms is not None:
            self.latencies.add(self.latency_ms)
        self._labeled_s.append(now)

    @property
    def frames_per_second(self) -> float:
        """Return the labeled frames per second, over the newest 100 frames."""
        times_s = list(self._labeled_s)
        return (len(times_s) - 1) / max(times_s[-1] - times_s[0], 1e-9) if len(times_s) > 1 else 0.0

    def histograms(self) -> dict[str, Histogram]:
        """Return all times of each stage so far."""
        return {stage: times.histogram for stage, times in self._times.items()}

    def stages(self) -> dict[str, StageTime]:
        """Return the times of the stages that have run."""
        result = {}
        for stage, times in self._times.items():
            newest = sorted(times.newest)
            if newest:
                last = len(newest) - 1
                mean, cpu = times.histogram.total_ms / times.runs, times.cpu_ms / times.runs
                result[stage] = StageTime(times.runs, mean, newest[last // 2], newest[last * 9 // 10], cpu)
        return result

    def as_dict(self) -> dict[str, Any]:
        """Return all counters and times as JSON-compatible data."""
        return {
            "seconds": time.monotonic() - self._start_s,
            "captured": self.captured,
            "processed": self.processed,
            "dropped": self.dropped,
            "lost": self.lost,
            "reopened": self.reopened,
            "faces": self.faces,
            "frames_per_second": self.frames_per_second,
            "latency_ms": self.latency_ms,
            "detect_every": self.detect_every,
            "threads": self.threads,
            "stages": {stage: vars(times) for stage, times in self.stages().items()},
        }
