import pytest

from fer_edge.edge_runtime.live import thread_tuning
from fer_edge.edge_runtime.live.thread_tuning import load_classifier


@pytest.fixture
def cores(monkeypatch):
    """Set the number of cores, and the milliseconds of an inference by number of threads."""

    def set_up(count, times_ms):
        measured = []

        def median_ms(classifier):
            measured.append(classifier.num_threads)
            return times_ms[classifier.num_threads]

        monkeypatch.setattr(thread_tuning.os, "sched_getaffinity", lambda process: set(range(count)))
        monkeypatch.setattr(thread_tuning, "_median_ms", median_ms)
        return measured

    return set_up


@pytest.mark.parametrize(
    ("count", "times_ms", "chosen", "measured"),
    [
        (4, {1: 10, 2: 6, 4: 4}, 4, [1, 2, 4]),
        (4, {1: 10, 2: 6, 4: 5.9}, 2, [1, 2, 4]),  # 4 threads are hardly faster, and the other stages need cores too
        (4, {1: 10, 2: 12, 4: 15}, 1, [1, 2, 4]),
        (2, {1: 10, 2: 6}, 2, [1, 2]),
        (1, {}, 1, []),
    ],
)
def test_more_threads_are_used_only_if_they_are_measurably_faster(int8_model, cores, count, times_ms, chosen, measured):
    seen = cores(count, times_ms)
    assert load_classifier(int8_model).num_threads == chosen
    assert seen == measured


def test_a_requested_number_of_threads_is_not_measured(int8_model, cores):
    seen = cores(4, {})
    assert load_classifier(int8_model, threads=3).num_threads == 3
    assert seen == []
    with pytest.raises(ValueError, match="num_threads"):
        load_classifier(int8_model, threads=0)


def test_the_time_of_an_inference_is_measured(int8_model):
    assert 0 < thread_tuning._median_ms(load_classifier(int8_model, threads=1)) < 1000
