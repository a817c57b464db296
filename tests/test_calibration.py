import keras
import numpy as np
import pytest

from fer_edge.artifacts.metrics import expected_calibration_error
from fer_edge.train.networks import build_network
from fer_edge.train.temperature import apply_temperature, fit_temperature, with_temperature
from fer_edge.train.unsure_threshold import unsure_threshold


def test_the_calibration_error_is_the_mean_gap_between_confidence_and_accuracy():
    sure = np.array([[0.9, 0.1]] * 10, np.float32)
    assert expected_calibration_error(sure, np.array([0] * 9 + [1])) == pytest.approx(0, abs=1e-6)
    assert expected_calibration_error(sure, np.array([0] * 5 + [1] * 5)) == pytest.approx(0.4, abs=1e-6)
    mixed = np.array([[0.95, 0.05], [0.55, 0.45]], np.float32)
    assert expected_calibration_error(mixed, np.array([0, 1])) == pytest.approx((0.05 + 0.55) / 2, abs=1e-6)


def test_fit_temperature_finds_the_applied_temperature():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20000, 4)) * 2
    right = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    targets = np.array([rng.choice(4, p=row) for row in right])
    too_sure = with_temperature(right.astype(np.float32), 0.5)
    found = fit_temperature(too_sure, np.eye(4, dtype=np.float32)[targets])
    assert found == pytest.approx(2.0, rel=0.05)
    mended = with_temperature(too_sure, found)
    assert expected_calibration_error(mended, targets) < 0.02 < expected_calibration_error(too_sure, targets)
    assert (mended.argmax(axis=1) == right.argmax(axis=1)).all()


def test_a_temperature_in_the_weights_equals_one_on_the_output():
    keras.utils.set_random_seed(0)
    model = build_network("cnn_nano", 32, 4)
    faces = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.float32)
    before = np.asarray(model(faces, training=False))
    apply_temperature(model, 0.3)
    assert np.asarray(model(faces, training=False)) == pytest.approx(with_temperature(before, 0.3), abs=1e-4)


def test_the_unsure_threshold_is_where_labels_become_more_often_right_than_wrong():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1, 20000)
    probabilities = np.stack([confidence, 1 - confidence], axis=1).astype(np.float32)
    right = rng.uniform(size=20000) < 2 * confidence - 0.9  # above 0.5 from a confidence of 0.7
    assert unsure_threshold(probabilities, np.where(right, 0, 1)) == pytest.approx(0.7, abs=0.02)
    assert unsure_threshold(probabilities, np.ones(20000, int)) == 1
    assert unsure_threshold(probabilities, np.zeros(20000, int)) == pytest.approx(0.5, abs=0.01)
