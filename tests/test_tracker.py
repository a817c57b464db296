import numpy as np
import pytest
from live import FakeDetector, textured

from fer_edge.edge_runtime.cameras.frame import Frame
from fer_edge.edge_runtime.detectors.detection import Detection
from fer_edge.edge_runtime.live.detect_and_track import MAX_INTERVAL_FRAMES, DetectAndTrack, DetectionInterval
from fer_edge.edge_runtime.live.stats import PipelineStats
from fer_edge.edge_runtime.live.tracker import Tracker, _subpixel_peak


def test_the_interval_grows_while_frames_are_dropped_and_shrinks_when_there_is_time():
    interval = DetectionInterval(frames=1, fixed=False)
    for _ in range(20):
        interval.adapt(dropped=3, idle_fraction=0.0)
    assert interval.frames == MAX_INTERVAL_FRAMES
    interval.adapt(dropped=0, idle_fraction=0.1)
    assert interval.frames == MAX_INTERVAL_FRAMES
    for _ in range(20):
        interval.adapt(dropped=0, idle_fraction=0.8)
    assert interval.frames == 1
    fixed = DetectionInterval(frames=4)
    fixed.adapt(dropped=9, idle_fraction=0.0)
    assert fixed.frames == 4


def test_the_interval_adapts_to_the_frames_dropped_since_the_last_detection():
    stats = PipelineStats()
    detect_and_track = DetectAndTrack(FakeDetector((40, 30, 40, 40)), DetectionInterval(1, fixed=False), None, 4, stats)
    frame = Frame("x", 1, textured())
    for dropped in (0, 2, 4, 4, 4):
        detect_and_track.update(frame, dropped)
    assert stats.detect_every >= 2


def test_a_face_that_moves_is_tracked_to_the_pixel():
    gray = textured(seed=1, width=200, height=160)[:, :, 0]
    tracker = Tracker()
    (first,) = tracker.update([Detection((60, 50, 48, 48), ((70.0, 65.0), (95.0, 65.0)))], gray)
    for step in (3, 6, 9):
        (face,) = tracker.track(np.roll(gray, (step, -2 * step), axis=(0, 1)))
        assert face.number == first.number
        assert abs(face.box_px[0] - (60 - 2 * step)) <= 1
        assert abs(face.box_px[1] - (50 + step)) <= 1
        assert abs(face.eyes_px[0][1] - (65 + step)) <= 1


@pytest.mark.parametrize(("dx", "dy"), [(4, -3), (-4, 4), (3, 3), (0, -4), (-2, 1)])
def test_a_shift_below_half_a_template_pixel_is_found_within_a_fifth(dx, dy):
    import cv2

    template_pixel = 10  # of a face of 320 pixels, whose template has 32
    gray = cv2.resize(textured(seed=3, width=160, height=160)[:, :, 0], (640, 640), interpolation=cv2.INTER_CUBIC)
    tracker = Tracker()
    tracker.update([Detection((160, 160, 320, 320))], gray)
    (face,) = tracker.track(np.roll(gray, (dy, dx), axis=(0, 1)))
    assert face.box_px[0] - 160 == pytest.approx(dx, abs=0.2 * template_pixel)
    assert face.box_px[1] - 160 == pytest.approx(dy, abs=0.2 * template_pixel)


@pytest.mark.parametrize(("peak", "best", "offset"), [(2.3, 2, 0.3), (1.6, 2, -0.4), (0.2, 0, 0.0), (4.1, 4, 0.0)])
def test_the_peak_is_the_vertex_of_a_parabola_except_at_the_ends(peak, best, offset):
    values = np.array([1 - (x - peak) ** 2 for x in range(5)], np.float32)
    assert _subpixel_peak(values, best) == pytest.approx(offset, abs=1e-5)
    assert _subpixel_peak(np.ones(5, np.float32), 2) == 0.0


@pytest.mark.parametrize(("width", "height"), [(9, 400), (400, 9)])
def test_a_face_in_a_frame_narrower_than_its_template_is_lost(width, height):
    gray = np.random.default_rng(0).integers(0, 256, (height, width), np.uint8)
    tracker = Tracker()
    tracker.update([Detection((0, 0, 400, 400))], gray)
    assert tracker.track(gray) is None


def test_a_face_that_fills_the_frame_is_tracked():
    gray = textured(seed=1, width=96, height=96)[:, :, 0]
    tracker = Tracker()
    tracker.update([Detection((0, 0, 96, 96))], gray)
    (face,) = tracker.track(gray)
    assert face.box_px == (0, 0, 96, 96)


def test_a_lost_face_is_reported():
    tracker = Tracker()
    tracker.update([Detection((60, 50, 48, 48))], textured(seed=1, width=200, height=160)[:, :, 0])
    assert tracker.track(textured(seed=2, width=200, height=160)[:, :, 0]) is None
    assert tracker.track(np.zeros((160, 200), np.uint8)) is None  # black: nothing to compare
    assert tracker.track(np.zeros((80, 100), np.uint8)) is None  # another size


def test_the_nearest_face_keeps_the_number_also_after_a_short_absence():
    tracker = Tracker()
    left, right = Detection((0, 0, 40, 40)), Detection((100, 0, 40, 40))

    def numbers(*detections):
        return [face.number for face in tracker.update(detections, None)]

    assert numbers(left, right) == [1, 2]
    assert numbers(Detection((98, 2, 40, 40)), Detection((5, 0, 40, 40))) == [2, 1]
    assert numbers(right) == [2]
    assert tracker.boxes == [(100, 0, 40, 40)]
    assert numbers(left, right) == [1, 2]
    for _ in range(20):
        tracker.update([], None)
    assert numbers(left) == [3]
