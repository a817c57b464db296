import numpy as np
import pytest
from live import prediction

from fer_edge.edge_runtime.live.smoothing import NO_SMOOTHING, UNSURE, Smoother, Smoothing


def labels(smoothing, happy):
    """The labels of one face with these probabilities of happy, ten frames per second."""
    smoother = Smoother(smoothing)
    return [smoother.update(1, prediction(value), k / 10).label for k, value in enumerate(happy)]


def test_the_average_moves_by_two_thirds_within_its_time_constant():
    smoother = Smoother(Smoothing(time_constant_s=1.0, hysteresis=0.0, min_confidence=0.0))
    smoother.update(1, prediction(0.0), 0.0)
    moved = [smoother.update(1, prediction(1.0), 0.1 * k).probabilities[1] for k in range(1, 11)]
    assert moved[-1] == pytest.approx(1 - np.exp(-1), abs=1e-9)


def test_the_label_changes_only_when_another_one_leads_by_the_hysteresis():
    smoothing = Smoothing(time_constant_s=0.0, hysteresis=0.2, min_confidence=0.0)
    assert labels(smoothing, (0.2, 0.4, 0.45, 0.6, 0.4, 0.2)) == ["angry", "angry", "angry", "happy", "happy", "angry"]


def test_a_label_below_the_min_confidence_is_replaced_by_one_above_it():
    smoothing = Smoothing(time_constant_s=0.0, hysteresis=0.2, min_confidence=0.37)
    assert labels(smoothing, (0.9, 0.35)) == ["happy", "angry"]  # 0.39 leads by less than the hysteresis


def test_a_label_below_the_min_confidence_is_unsure_and_does_not_flicker():
    smoothing = Smoothing(time_constant_s=0.0, hysteresis=0.1, min_confidence=0.5)
    happy = (0.6, 0.49, 0.52, 0.49, 0.52, 0.56)
    assert labels(smoothing, happy) == ["happy", UNSURE, UNSURE, UNSURE, UNSURE, "happy"]
    assert Smoother(smoothing).update(1, prediction(0.49), 0.0).probability == 0.49


def test_the_min_confidence_is_that_of_the_user_else_of_the_model_else_the_default():
    assert [Smoother(Smoothing(), threshold).min_confidence for threshold in (None, 0.3, 0.0)] == [0.4, 0.3, 0.0]
    assert [Smoother(Smoothing(min_confidence=value), 0.3).min_confidence for value in (0.7, 0.0)] == [0.7, 0.0]
    assert Smoother(NO_SMOOTHING, 0.3).min_confidence == 0.0


def test_a_time_before_the_last_frame_does_not_change_the_average():
    smoother = Smoother(Smoothing())
    smoother.update(1, prediction(1.0), 100.0)
    assert smoother.update(1, prediction(0.0), 50.0).label == "happy"


def test_faces_that_left_are_dropped():
    smoother = Smoother(Smoothing())
    for number in range(1000):
        smoother.update(number, prediction(0.5), float(number))
    assert len(smoother._faces) <= 3


@pytest.mark.parametrize("bad", [{"time_constant_s": -1}, {"hysteresis": 2}, {"min_confidence": 1.5}])
def test_smoothing_out_of_range_is_rejected(bad):
    with pytest.raises(ValueError, match="must be between 0 and"):
        Smoothing(**bad)
