import time

import pytest

from fer_edge.edge_runtime.live.stats import MAX_SAMPLES, PipelineStats


@pytest.fixture
def clock(monkeypatch):
    """A monotonic clock that is set by hand, seconds."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_the_samples_of_a_stage_are_limited():
    stats = PipelineStats()
    for _ in range(3 * MAX_SAMPLES):
        with stats.timed("detect"):
            pass
    assert stats.stages()["detect"].runs == 3 * MAX_SAMPLES
    assert len(stats._times["detect"].newest) == MAX_SAMPLES
    assert "track" not in stats.stages()


def test_latency_is_the_time_from_capture_to_label_in_milliseconds(clock):
    stats = PipelineStats()
    clock[0] = 101.5
    stats.count_frame(faces=2, capture_time_s=101.25)
    assert stats.latency_ms == 250.0
    assert stats.as_dict()["latency_ms"] == 250.0
    stats.count_frame(faces=1, capture_time_s=None)
    assert stats.latency_ms is None
    assert (stats.processed, stats.faces) == (2, 3)


def test_frames_per_second_is_the_rate_of_the_newest_hundred_frames(clock):
    stats = PipelineStats()
    assert stats.frames_per_second == 0.0
    stats.count_frame(0, None)
    assert stats.frames_per_second == 0.0  # one frame has no rate
    for _ in range(4):
        clock[0] += 0.25
        stats.count_frame(0, None)
        assert stats.frames_per_second == 4.0
    for _ in range(100):
        clock[0] += 0.125
        stats.count_frame(0, None)
    assert stats.frames_per_second == 8.0
    assert stats.as_dict()["frames_per_second"] == 8.0


def test_stage_times_are_in_milliseconds(monkeypatch):
    nanoseconds = iter([0, 2_000_000, 10_000_000, 14_000_000])
    monkeypatch.setattr(time, "perf_counter_ns", lambda: next(nanoseconds))
    stats = PipelineStats()
    for _ in range(2):
        with stats.timed("detect"):
            pass
    times = stats.stages()["detect"]
    assert (times.runs, times.mean_ms, times.p50_ms) == (2, 3.0, 2.0)
