import pytest

from fer_edge.edge_runtime.detectors.tiling import TileScheduler, expand_box, iou, tiles


def test_iou_is_intersection_over_union():
    assert iou((0, 0, 10, 10), (0, 0, 10, 10)) == 1
    assert iou((0, 0, 10, 10), (5, 0, 10, 10)) == pytest.approx(1 / 3)
    assert iou((0, 0, 10, 10), (20, 0, 10, 10)) == 0
    assert iou((0.0, 0.0, 0.5, 0.5), (0.25, 0.0, 0.5, 0.5)) == pytest.approx(1 / 3)  # not only pixels
    assert iou((0, 0, 0, 0), (0, 0, 0, 0)) == 0


def test_every_small_face_is_completely_inside_a_tile():
    full_frame, *squares = tiles(640, 480, 60)
    assert full_frame == (0, 0, 640, 480)
    for x in range(0, 640 - 60, 20):
        for y in range(0, 480 - 60, 20):
            assert any(
                left <= x and top <= y and x + 60 <= left + w and y + 60 <= top + h and 0.19 * w <= 60
                for left, top, w, h in squares
            ), (x, y)
    assert tiles(640, 480, 128) == [(0, 0, 640, 480)]
    assert len(tiles(7680, 4320, 1)) < 40


def test_tiles_are_searched_in_turn_and_known_faces_every_time():
    scheduler = TileScheduler()
    all_tiles = tiles(640, 480, 60)
    assert scheduler.next_tiles(640, 480, 60, None) == ([], all_tiles)
    known = (100, 100, 60, 60)
    full_frame, *squares = all_tiles
    searched = [scheduler.next_tiles(640, 480, 60, [known]) for _ in range(len(squares) * 3 // 2)]
    assert all(boxes == [known] for boxes, _ in searched)
    assert all(turn == [full_frame] for _, turn in searched[2::3])  # the full frame every third time
    assert sorted(tile for _, (tile,) in searched if tile != full_frame) == sorted(squares)
    assert scheduler.next_tiles(640, 480, 60, [])[1][0] == full_frame
    assert len(scheduler.next_tiles(640, 480, 60, [])[1]) == 4
    assert scheduler.next_tiles(640, 480, 128, []) == ([], [full_frame])
    assert scheduler.next_tiles(640, 480, 60, [known] * 20) == ([], all_tiles)


def test_the_tile_around_a_face_is_three_times_as_wide_and_inside_the_image():
    assert expand_box((100, 100, 60, 60), 640, 480) == (40, 40, 180, 180)
    assert expand_box((-10, 0, 60, 60), 640, 480) == (0, 0, 110, 120)
