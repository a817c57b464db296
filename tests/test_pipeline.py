import threading
import time

import numpy as np
import pytest
from live import FakeClassifier, FakeDetector, FakeSource, flat_image, frame, prediction, textured

from fer_edge.artifacts.contract import CropConvention
from fer_edge.edge_runtime.cameras.frame import Frame
from fer_edge.edge_runtime.crop import crop_face, roll_degrees
from fer_edge.edge_runtime.detectors.detector import Detection, open_detector
from fer_edge.edge_runtime.detectors.tiling import TileScheduler, expand_box, iou, tiles
from fer_edge.edge_runtime.live.detect_and_track import MAX_INTERVAL_FRAMES, DetectAndTrack, DetectionInterval
from fer_edge.edge_runtime.live.mailbox import Closed, Mailbox
from fer_edge.edge_runtime.live.pipeline import Pipeline, PipelineSettings
from fer_edge.edge_runtime.live.smoothing import NO_SMOOTHING, UNSURE, Smoother, Smoothing
from fer_edge.edge_runtime.live.stats import MAX_SAMPLES, PipelineStats
from fer_edge.edge_runtime.live.tracker import Tracker


def run(frames, live=False, detector=None, classifier=None, **settings):
    pipeline = Pipeline(
        FakeSource(frames, live), detector or FakeDetector(), classifier or FakeClassifier(), PipelineSettings(**settings)
    )
    return list(pipeline), pipeline


def test_files_are_labelled_frame_by_frame_in_order_however_slow_the_model():
    done, pipeline = run([frame(k, k) for k in range(30)], classifier=FakeClassifier(lambda: time.sleep(0.002)))
    assert [labeled.number for labeled in done] == list(range(30))
    assert (pipeline.stats.captured, pipeline.stats.processed, pipeline.stats.dropped) == (30, 30, 0)


def test_of_a_live_source_only_the_newest_frame_counts():
    taken = threading.Event()

    def frames():
        for number in range(50):
            yield frame(number, capture_time_s=time.monotonic())
            if number == 0:
                taken.wait(5)  # the first one is being classified while the others arrive
        time.sleep(0.2)

    classifier = FakeClassifier()
    pipeline = Pipeline(FakeSource(frames(), live=True), FakeDetector(), classifier)
    numbers = []
    for labeled in pipeline:
        numbers.append(labeled.number)
        if labeled.number == 0:
            taken.set()
            time.sleep(0.1)
    assert numbers[0] == 0
    assert numbers[-1] == 49
    assert len(numbers) + pipeline.stats.dropped == 50
    assert len(numbers) < 10


def test_every_frame_of_a_live_source_can_be_had():
    done, pipeline = run([frame(k, capture_time_s=float(k)) for k in range(20)], live=True, every_frame=True)
    assert len(done) == 20
    assert pipeline.stats.dropped == 0


def test_an_error_of_the_source_reaches_the_user_after_the_frames_before_it():
    def frames():
        yield frame(0)
        raise OSError("camera on fire")

    pipeline = Pipeline(FakeSource(frames()), FakeDetector(), FakeClassifier())
    got = iter(pipeline)
    assert next(got).number == 0
    with pytest.raises(OSError, match="camera on fire"):
        next(got)
    assert all(not thread.is_alive() for thread in pipeline._threads)


@pytest.mark.parametrize("broken", ["detector", "classifier"])
def test_an_error_of_a_stage_reaches_the_user(broken):
    def fail(*arguments, **named):
        raise ValueError("broken stage")

    detector, classifier = FakeDetector(), FakeClassifier()
    setattr(*((detector, "detect") if broken == "detector" else (classifier, "predict")), fail)
    with pytest.raises(ValueError, match="broken stage"):
        run([frame(k) for k in range(5)], detector=detector, classifier=classifier)


def test_leaving_the_loop_lets_go_of_the_source_and_leaves_no_thread():
    closed = []

    def frames():
        try:
            for number in range(10**6):
                yield frame(number)
        finally:
            closed.append(True)

    before = threading.active_count()
    pipeline = Pipeline(FakeSource(frames()), FakeDetector(), FakeClassifier())
    for labeled in pipeline:
        if labeled.number == 3:
            break
    pipeline.close()
    assert closed == [True]
    assert threading.active_count() == before
    with pytest.raises(RuntimeError, match="once"):
        next(iter(pipeline))


def test_black_frames_frames_of_changing_size_and_of_8k_pass_through():
    sizes = [(64, 64), (7680, 4320), (1, 1), (64, 64), (640, 480)]
    frames = [Frame("x", k, flat_image(0, *size)) for k, size in enumerate(sizes)]
    for name in ("haar", "none"):
        done, _ = run(frames, detector=open_detector(name), detect_every=2)
        assert [len(labeled.faces) for labeled in done] == [1 if name == "none" else 0] * 5
    done, _ = run(frames, detect_every=3)  # a detector whose boxes reach out of the small ones
    assert len(done) == 5


def test_single_pictures_have_nothing_to_do_with_each_other():
    done, _ = run([Frame(f"{k}.png", None, flat_image(value)) for k, value in enumerate((255, 0))])
    assert [labeled.faces[0].label for labeled in done] == ["happy", "angry"]  # not smoothed
    assert [labeled.faces[0].number for labeled in done] == [None, None]


def test_raw_labels_follow_each_frame_and_smooth_ones_the_average():
    frames = [frame(k, 255 if k % 2 else 60) for k in range(20)]
    raw, _ = run(frames, smoothing=NO_SMOOTHING)
    smooth, _ = run(frames)
    assert [labeled.faces[0].label for labeled in raw] == ["angry", "happy"] * 10
    assert len({labeled.faces[0].label for labeled in smooth[4:]}) == 1


def test_faces_keep_their_numbers_and_are_few():
    detector = FakeDetector((0, 0, 30, 30), (34, 34, 25, 25), (40, 0, 20, 20))
    done, _ = run([frame(k) for k in range(3)], detector=detector, max_faces=2)
    assert [[face.number for face in labeled.faces] for labeled in done] == [[1, 2]] * 3


@pytest.mark.parametrize("bad", [{"detect_every": 0}, {"min_face_px": 0}, {"max_faces": 0}])
def test_settings_that_make_no_sense_are_refused(bad):
    with pytest.raises(ValueError, match=r"must be at least 1. Received"):
        PipelineSettings(**bad)


def test_smaller_faces_are_looked_for_in_pictures_than_in_moving_ones():
    detector = FakeDetector()
    run([Frame("p.png", None, flat_image(0, 640, 480))], detector=detector)
    run([frame(0, width=640, height=480)], detector=detector)
    run([frame(0, width=640, height=480)], detector=detector, min_face_px=20)
    assert detector.sizes == [32, 60, 20]


# Detection every N frames, following between


def test_the_detector_is_asked_every_n_frames():
    detector = FakeDetector((40, 30, 40, 40))
    pixels = textured()
    done, pipeline = run([Frame("x", k, pixels) for k in range(9)], detector=detector, detect_every=3)
    assert detector.calls == 3
    assert {face.box_px for labeled in done for face in labeled.faces} == {(40, 30, 40, 40)}
    assert pipeline.stats.stages()["track"].runs == 6


def test_detection_becomes_rarer_while_frames_are_dropped_and_more_frequent_when_there_is_time():
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


def test_the_finder_tells_the_cadence_what_was_dropped_since_the_last_detection():
    finder = DetectAndTrack(
        FakeDetector((40, 30, 40, 40)), DetectionInterval(1, fixed=False), None, 4, stats := PipelineStats()
    )
    pixels = Frame("x", 1, textured())
    for dropped in (0, 2, 4, 4, 4):
        finder.update(pixels, dropped)
    assert stats.detect_every >= 2


def test_a_face_that_moves_is_followed_to_the_pixel_between_detections():
    scene = textured(seed=1, width=200, height=160)
    tracker = Tracker(4)
    gray = scene[:, :, 0]
    (seen,) = tracker.update([Detection((60, 50, 48, 48), ((70.0, 65.0), (95.0, 65.0)))], gray)
    for step in (3, 6, 9):
        moved = np.roll(gray, (step, -2 * step), axis=(0, 1))
        (found,) = tracker.track(moved)
        assert found.number == seen.number
        assert abs(found.box_px[0] - (60 - 2 * step)) <= 1
        assert abs(found.box_px[1] - (50 + step)) <= 1
        assert abs(found.eyes_px[0][1] - (65 + step)) <= 1


def test_a_face_that_is_gone_makes_the_detector_look():
    tracker = Tracker(4)
    tracker.update([Detection((60, 50, 48, 48))], textured(seed=1, width=200, height=160)[:, :, 0])
    assert tracker.track(textured(seed=2, width=200, height=160)[:, :, 0]) is None
    assert tracker.track(np.zeros((160, 200), np.uint8)) is None  # black: nothing to compare
    assert tracker.track(np.zeros((80, 100), np.uint8)) is None  # another size


def test_numbers_go_to_the_nearest_face_and_come_back_after_a_short_absence():
    tracker = Tracker(4)
    left, right = Detection((0, 0, 40, 40)), Detection((100, 0, 40, 40))
    assert [face.number for face in tracker.update([left, right], None)] == [1, 2]
    assert [face.number for face in tracker.update([Detection((98, 2, 40, 40)), Detection((5, 0, 40, 40))], None)] == [2, 1]
    assert [face.number for face in tracker.update([right], None)] == [2]
    assert tracker.boxes == [(100, 0, 40, 40)]
    assert [face.number for face in tracker.update([left, right], None)] == [1, 2]
    for _ in range(20):
        tracker.update([], None)
    assert [face.number for face in tracker.update([left], None)] == [3]


def test_overlap_is_intersection_over_union():
    assert iou((0, 0, 10, 10), (0, 0, 10, 10)) == 1
    assert iou((0, 0, 10, 10), (5, 0, 10, 10)) == pytest.approx(1 / 3)
    assert iou((0, 0, 10, 10), (20, 0, 10, 10)) == 0


def test_every_small_face_stands_whole_in_one_of_the_parts():
    parts = tiles(640, 480, 60)
    assert parts[0] == (0, 0, 640, 480)
    for x in range(0, 640 - 60, 20):
        for y in range(0, 480 - 60, 20):
            assert any(
                px <= x and py <= y and x + 60 <= px + w and y + 60 <= py + h and 0.19 * w <= 60 for px, py, w, h in parts[1:]
            ), (x, y)
    assert tiles(640, 480, 128) == [(0, 0, 640, 480)]
    assert len(tiles(7680, 4320, 1)) < 40


def test_parts_are_looked_at_in_turn_and_known_faces_every_time():
    turns = TileScheduler()
    parts = tiles(640, 480, 60)
    assert turns.next_tiles(640, 480, 60, None) == parts
    known = (100, 100, 60, 60)
    whole, *squares = parts
    looked = [turns.next_tiles(640, 480, 60, [known]) for _ in range(len(squares) * 3 // 2)]
    assert {first for first, _ in looked} == {expand_box(known, 640, 480)}
    assert all(second == whole for _, second in looked[2::3])  # the whole image every third time
    assert sorted(second for _, second in looked if second != whole) == sorted(squares)
    assert turns.next_tiles(640, 480, 60, [])[0] == (0, 0, 640, 480)
    assert len(turns.next_tiles(640, 480, 60, [])) == 4
    assert turns.next_tiles(640, 480, 128, []) == [(0, 0, 640, 480)]
    assert turns.next_tiles(640, 480, 60, [known] * 20) == parts


# Smoothing


def test_the_average_takes_two_thirds_of_the_way_in_its_time_constant():
    smoother = Smoother(Smoothing(time_constant_s=1.0, hysteresis=0.0, min_confidence=0.0))
    smoother.update(1, prediction(0.0), 0.0)
    moved = [smoother.update(1, prediction(1.0), 0.1 * k).probabilities[1] for k in range(1, 11)]
    assert moved[-1] == pytest.approx(1 - np.exp(-1), abs=1e-9)


def test_the_label_changes_only_when_another_one_leads_by_the_margin():
    smoother = Smoother(Smoothing(time_constant_s=0.0, hysteresis=0.2, min_confidence=0.0))
    shown = [smoother.update(1, prediction(happy), k / 10).label for k, happy in enumerate((0.2, 0.4, 0.45, 0.6, 0.4, 0.2))]
    assert shown == ["angry", "angry", "angry", "happy", "happy", "angry"]


def test_a_label_below_the_threshold_makes_way_for_one_above_it():
    smoother = Smoother(Smoothing(time_constant_s=0.0, hysteresis=0.2, min_confidence=0.37))
    shown = [smoother.update(1, prediction(happy), k / 10).label for k, happy in enumerate((0.9, 0.35))]
    assert shown == ["happy", "angry"]  # 0.39 leads by less than the margin


def test_what_is_not_probable_enough_is_unsure_and_does_not_flicker_at_the_threshold():
    smoother = Smoother(Smoothing(time_constant_s=0.0, hysteresis=0.1, min_confidence=0.5))
    got = [smoother.update(1, prediction(happy), k / 10) for k, happy in enumerate((0.6, 0.49, 0.52, 0.49, 0.52, 0.56))]
    assert [one.label for one in got] == ["happy", UNSURE, UNSURE, UNSURE, UNSURE, "happy"]
    assert got[1].probability == 0.49


def test_a_clock_that_goes_back_changes_nothing(monkeypatch):
    clock = iter(range(10**6, 0, -3600))
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))
    from live import FakeCamera

    from fer_edge.edge_runtime.cameras.source import LiveSource

    camera = FakeCamera([flat_image(200)] * 20, reconnects=False)
    pipeline = Pipeline(LiveSource(camera), FakeDetector(), FakeClassifier(), PipelineSettings(every_frame=True))
    done = list(pipeline)
    assert [labeled.faces[0].label for labeled in done] == ["happy"] * 20
    assert pipeline.stats.latency_ms >= 0
    smoother = Smoother(Smoothing())
    smoother.update(1, prediction(1.0), 100.0)
    assert smoother.update(1, prediction(0.0), 50.0).label == "happy"


def test_faces_that_left_are_forgotten():
    smoother = Smoother(Smoothing())
    for number in range(1000):
        smoother.update(number, prediction(0.5), float(number))
    assert len(smoother._faces) <= 3


@pytest.mark.parametrize("bad", [{"time_constant_s": -1}, {"hysteresis": 2}, {"min_confidence": 1.5}])
def test_smoothing_out_of_range_is_refused(bad):
    with pytest.raises(ValueError, match="must be between 0 and"):
        Smoothing(**bad)


# What carries it


def test_a_handover_keeps_the_newest_and_counts_what_it_dropped():
    mailbox = Mailbox(block_when_full=False)
    for number in range(5):
        mailbox.put(number)
    assert mailbox.get() == 4
    assert mailbox.dropped == 4
    mailbox.put(5)
    mailbox.close()
    assert mailbox.get() == 5
    with pytest.raises(Closed):
        mailbox.get()
    with pytest.raises(Closed):
        mailbox.put(6)


def test_times_of_a_stage_stay_bounded():
    stats = PipelineStats()
    for _ in range(3 * MAX_SAMPLES):
        with stats.timed("detect"):
            pass
    assert stats.stages()["detect"].runs == 3 * MAX_SAMPLES
    assert len(stats._times["detect"].newest) == MAX_SAMPLES
    assert "track" not in stats.stages()


# Tilted faces


@pytest.mark.parametrize("angle", [-30, -12, 12, 30])
def test_a_tilted_face_is_cut_upright(angle):
    import cv2

    scene = np.zeros((200, 200, 3), np.uint8)
    cv2.rectangle(scene, (80, 80), (119, 99), (255, 255, 255), -1)  # the upper half of a face from 80, 80 to 120, 120
    turn = cv2.getRotationMatrix2D((99.5, 99.5), -angle, 1)
    tilted = cv2.warpAffine(scene, turn, (200, 200))
    eyes = tuple((float(x), float(y)) for x, y in (turn @ np.array([[90, 110], [90, 90], [1, 1]])).T)
    assert roll_degrees(eyes) == pytest.approx(angle)
    crop = CropConvention()
    upright = crop_face(scene, (80, 80, 40, 40), "haar", crop)
    turned = crop_face(tilted, (80, 80, 40, 40), "haar", crop, eyes)
    assert turned.shape == upright.shape == (40, 40, 3)
    askew = crop_face(tilted, (80, 80, 40, 40), "haar", crop)
    errors = [np.abs(face.astype(int) - upright).mean() for face in (turned, askew)]
    assert errors[0] < 12
    assert errors[0] < errors[1] / 2


def test_a_face_cut_off_by_the_border_and_eyes_that_were_misread_still_give_a_crop():
    scene = textured()
    assert crop_face(scene, (-20, -20, 40, 40), "haar", CropConvention(), ((0.0, 5.0), (9.0, 7.0))).shape == (40, 40, 3)
    upside = crop_face(scene, (20, 20, 40, 40), "haar", CropConvention(), ((50.0, 30.0), (30.0, 30.0)))
    assert np.array_equal(upside, crop_face(scene, (20, 20, 40, 40), "haar", CropConvention()))
