import numpy as np
import pytest

from fer_edge.edge_runtime.detectors.decode import Candidates, decode, join, suppress

NO_FACE = -9.0


def empty_maps(rows=16, columns=20):
    return np.full((rows, columns, 1), NO_FACE, np.float32), np.zeros((rows, columns, 7), np.float32)


def test_a_cell_becomes_a_square_box_with_eyes_in_pixels_of_the_input():
    heat, geometry = empty_maps()
    heat[4, 10] = 2.5
    geometry[4, 10] = (0.25, -0.5, np.log(2), -0.2, -0.1, 0.2, -0.15)
    boxes, eyes, logits = decode([heat], [geometry], [8], 0.0)
    assert {boxes.dtype, eyes.dtype, logits.dtype} == {np.dtype(np.float64)}
    center_x, center_y = (10 + 0.5 + 0.25) * 8, (4 + 0.5 - 0.5) * 8
    assert boxes == pytest.approx(np.array([[center_x - 32, center_y - 32, 64, 64]]), abs=1e-6)
    assert eyes == pytest.approx(np.array([[center_x - 12.8, center_y - 6.4, center_x + 12.8, center_y - 9.6]]))
    assert logits == pytest.approx([2.5])


def test_only_local_maxima_above_the_threshold_are_candidates_best_first():
    heat, geometry = empty_maps()
    geometry[:, :, 2] = -1.5  # 7 px: no overlaps
    heat[2, 2], heat[2, 3], heat[10, 10], heat[0, 19], heat[15, 0] = 1.0, 0.9, 3.0, 0.4, -0.1
    found = decode([heat], [geometry], [8], 0.0)
    assert found.logits == pytest.approx([3.0, 1.0, 0.4])
    assert found.boxes[:, 0] + found.boxes[:, 2] / 2 == pytest.approx([84, 20, 156])


def test_maps_of_several_strides_are_joined_and_the_best_are_kept():
    small, small_geometry = empty_maps(32, 40)
    large, large_geometry = empty_maps(16, 20)
    small[2, 2], large[10, 10], large[2, 16] = 1.0, 2.0, 0.5
    found = decode([small, large], [small_geometry, large_geometry], [4, 8], 0.0)
    assert found.logits == pytest.approx([2.0, 1.0, 0.5])
    assert found.boxes[1].tolist() == pytest.approx([2.5 * 4 - 16, 2.5 * 4 - 16, 32, 32])
    best = decode([small, large], [small_geometry, large_geometry], [4, 8], 0.0, max_candidates=1)
    assert best.logits == pytest.approx([2.0])


def test_no_cell_above_the_threshold_gives_empty_arrays():
    found = decode(*([part] for part in empty_maps()), [8], 0.0)
    assert (found.boxes.shape, found.eyes.shape, found.logits.shape) == ((0, 4), (0, 4), (0,))


def test_suppression_drops_overlapping_and_contained_boxes_but_not_chains():
    # The third overlaps only with the second, which the first suppresses. The fourth is inside the first.
    boxes = np.array([[0, 0, 20, 20], [8, 0, 20, 20], [18, 0, 20, 20], [5, 5, 6, 6], [60, 60, 6, 6.0]])
    logits = np.array([3.0, 2.0, 1.0, 2.5, 0.5])
    kept = suppress(Candidates(boxes, np.zeros((5, 4)), logits))
    assert kept.boxes[:, 0].tolist() == [0, 18, 60]
    assert kept.logits.tolist() == [3.0, 1.0, 0.5]


def test_joined_candidates_keep_their_order():
    first = Candidates(np.ones((1, 4)), np.ones((1, 4)), np.array([1.0]))
    second = Candidates(np.zeros((2, 4)), np.zeros((2, 4)), np.array([5.0, 4.0]))
    assert join([first, second]).logits.tolist() == [1.0, 5.0, 4.0]


def test_noise_in_every_cell_is_bounded():
    rng = np.random.default_rng(0)
    heat, geometry = rng.normal(size=(128, 160, 1)), rng.normal(size=(128, 160, 7)) * 100
    found = decode([heat], [geometry], [2], -10.0)
    assert 1 <= len(found.logits) <= 256
    assert np.isfinite(found.boxes).all()
