import pytest

from fer_edge.edge_runtime.live import thread_tuning as threads
from fer_edge.edge_runtime.live.thread_tuning import load_classifier


@pytest.fixture
def cores(monkeypatch):
    """Let this machine have so many cores, and an inference take so many milliseconds by number of threads."""

    def set_up(count, times_ms):
        measured = []

        def median_ms(classifier):
            measured.append(classifier.num_threads)
            return times_ms[classifier.num_threads]

        monkeypatch.setattr(threads.os, "sched_getaffinity", lambda process: set(range(count)))
        monkeypatch.setattr(threads, "_median_ms", median_ms)
        return measured

    return set_up


@pytest.mark.parametrize(
    ("count", "times_ms", "chosen", "measured"),
    [
        (4, {1: 10, 2: 6, 4: 4}, 4, [1, 2, 4]),
        (4, {1: 10, 2: 6, 4: 5.9}, 2, [1, 2, 4]),  # hardly faster: the other stages make better use of two cores
        (4, {1: 10, 2: 12, 4: 15}, 1, [1, 2, 4]),
        (2, {1: 10, 2: 6}, 2, [1, 2]),
        (1, {}, 1, []),
    ],
)
def test_more_threads_only_where_they_were_measured_to_be_faster(int8_model, cores, count, times_ms, chosen, measured):
    seen = cores(count, times_ms)
    assert load_classifier(int8_model).num_threads == chosen
    assert seen == measured


def test_a_number_that_was_asked_for_is_not_measured(int8_model, cores):
    seen = cores(4, {})
    assert load_classifier(int8_model, threads=3).num_threads == 3
    assert seen == []
    with pytest.raises(ValueError, match="num_threads"):
        load_classifier(int8_model, threads=0)


def test_the_time_of_an_inference_is_measured(int8_model):
    assert 0 < threads._median_ms(load_classifier(int8_model, threads=1)) < 1000
