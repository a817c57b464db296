import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from live import FakeCamera, FakeClassifier, FakeDetector, FakeSource, flat_image, frame, textured

from fer_edge.artifacts.contract import CropConvention
from fer_edge.edge_runtime.cameras.camera import CameraError, frames_with_reconnect
from fer_edge.edge_runtime.cameras.frame import Frame
from fer_edge.edge_runtime.cameras.source import LiveSource
from fer_edge.edge_runtime.detectors.detector import open_detector
from fer_edge.edge_runtime.live.mailbox import Closed, Mailbox
from fer_edge.edge_runtime.live.pipeline import Pipeline, PipelineSettings
from fer_edge.edge_runtime.live.smoothing import NO_SMOOTHING, Smoothing


def run(frames, live=False, detector=None, classifier=None, **settings):
    pipeline = Pipeline(
        FakeSource(frames, live), detector or FakeDetector(), classifier or FakeClassifier(), PipelineSettings(**settings)
    )
    return list(pipeline), pipeline


def test_files_are_labeled_frame_by_frame_in_order_with_a_slow_model():
    labeled, pipeline = run([frame(k, k) for k in range(30)], classifier=FakeClassifier(lambda: time.sleep(0.002)))
    assert [result.number for result in labeled] == list(range(30))
    assert (pipeline.stats.captured, pipeline.stats.processed, pipeline.stats.dropped) == (30, 30, 0)


def test_a_live_source_is_labeled_at_its_newest_frame():
    first_labeled = threading.Event()

    def frames():
        for number in range(50):
            yield frame(number, capture_time_s=time.monotonic())
            if number == 0:
                first_labeled.wait(5)  # the first frame is classified while the others arrive
        time.sleep(0.2)

    pipeline = Pipeline(FakeSource(frames(), live=True), FakeDetector(), FakeClassifier())
    numbers = []
    for labeled in pipeline:
        numbers.append(labeled.number)
        if labeled.number == 0:
            first_labeled.set()
            time.sleep(0.1)
    assert numbers[0] == 0
    assert numbers[-1] == 49
    assert len(numbers) + pipeline.stats.dropped == 50
    assert len(numbers) < 10


def test_every_frame_of_a_live_source_is_labeled_on_request():
    labeled, pipeline = run([frame(k, capture_time_s=float(k)) for k in range(20)], live=True, every_frame=True)
    assert len(labeled) == 20
    assert pipeline.stats.dropped == 0


def test_an_error_of_the_source_is_raised_after_the_frames_before_it():
    def frames():
        yield frame(0)
        raise OSError("camera on fire")

    pipeline = Pipeline(FakeSource(frames()), FakeDetector(), FakeClassifier())
    iterator = iter(pipeline)
    assert next(iterator).number == 0
    with pytest.raises(OSError, match="camera on fire"):
        next(iterator)
    assert all(not thread.is_alive() for thread in pipeline._threads)


@pytest.mark.parametrize("broken", ["detector", "classifier"])
def test_an_error_of_a_stage_is_raised(broken):
    def fail(*arguments, **named):
        raise ValueError("broken stage")

    detector, classifier = FakeDetector(), FakeClassifier()
    setattr(*((detector, "detect") if broken == "detector" else (classifier, "predict")), fail)
    with pytest.raises(ValueError, match="broken stage"):
        run([frame(k) for k in range(5)], detector=detector, classifier=classifier)


def test_leaving_the_loop_closes_the_source_and_ends_the_threads():
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


def test_black_frames_frames_of_changing_size_and_8k_frames_pass_through():
    sizes = [(64, 64), (7680, 4320), (1, 1), (64, 64), (640, 480)]
    frames = [Frame("x", k, flat_image(0, *size)) for k, size in enumerate(sizes)]
    for name in ("haar", "none"):
        labeled, _ = run(frames, detector=open_detector(name), detect_every=2)
        assert [len(result.faces) for result in labeled] == [1 if name == "none" else 0] * 5
    labeled, _ = run(frames, detect_every=3)  # the boxes of this detector extend beyond the small frames
    assert len(labeled) == 5


def test_single_images_are_independent():
    labeled, _ = run([Frame(f"{k}.png", None, flat_image(value)) for k, value in enumerate((255, 0))])
    assert [result.faces[0].label for result in labeled] == ["happy", "angry"]  # not smoothed
    assert [result.faces[0].number for result in labeled] == [None, None]


@pytest.mark.parametrize(("threshold", "given", "unsure"), [(None, None, True), (0.3, None, False), (0.3, 0.5, True)])
def test_an_image_keeps_its_label_and_a_video_does_not_if_it_is_below_the_threshold(threshold, given, unsure):
    classifier = FakeClassifier()
    classifier.contract = SimpleNamespace(crop=CropConvention(), unsure_threshold=threshold)
    settings = {"classifier": classifier, "smoothing": Smoothing(min_confidence=given)}
    gray = 89  # happy 0.349, angry 0.391
    ((image,), _), ((video,), _) = run([Frame("a.png", None, flat_image(gray))], **settings), run([frame(0, gray)], **settings)
    assert (image.faces[0].label, image.faces[0].unsure) == ("angry", unsure)
    assert (video.faces[0].label, video.faces[0].unsure) == ("unsure" if unsure else "angry", unsure)
    assert video.faces[0].top_labels == image.faces[0].top_labels == ("angry", "happy")


def test_smoothing_averages_labels_that_alternate():
    frames = [frame(k, 255 if k % 2 else 60) for k in range(20)]
    alternating, _ = run(frames, smoothing=NO_SMOOTHING)
    smoothed, _ = run(frames)
    assert [labeled.faces[0].label for labeled in alternating] == ["angry", "happy"] * 10
    assert len({labeled.faces[0].label for labeled in smoothed[4:]}) == 1


def test_faces_keep_their_numbers_and_only_the_largest_are_kept():
    detector = FakeDetector((0, 0, 30, 30), (34, 34, 25, 25), (40, 0, 20, 20))
    labeled, _ = run([frame(k) for k in range(3)], detector=detector, max_faces=2)
    assert [[face.number for face in result.faces] for result in labeled] == [[1, 2]] * 3


@pytest.mark.parametrize("bad", [{"detect_every": 0}, {"min_face_px": 0}, {"max_faces": 0}])
def test_settings_below_one_are_rejected(bad):
    with pytest.raises(ValueError, match=r"must be at least 1. Received"):
        PipelineSettings(**bad)


def test_single_images_are_searched_for_smaller_faces_than_videos():
    detector = FakeDetector()
    run([Frame("p.png", None, flat_image(0, 640, 480))], detector=detector)
    run([frame(0, width=640, height=480)], detector=detector)
    run([frame(0, width=640, height=480)], detector=detector, min_face_px=20)
    assert detector.sizes == [32, 60, 20]


def test_the_detector_runs_every_n_frames():
    detector = FakeDetector((40, 30, 40, 40))
    pixels = textured()
    labeled, pipeline = run([Frame("x", k, pixels) for k in range(9)], detector=detector, detect_every=3)
    assert detector.calls == 3
    assert {face.box_px for result in labeled for face in result.faces} == {(40, 30, 40, 40)}
    assert pipeline.stats.stages()["track"].runs == 6


def test_a_wall_clock_that_goes_back_changes_nothing(monkeypatch):
    clock = iter(range(10**6, 0, -3600))
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))
    camera = FakeCamera([flat_image(200)] * 20, reconnects=False)
    pipeline = Pipeline(LiveSource(camera), FakeDetector(), FakeClassifier(), PipelineSettings(every_frame=True))
    labeled = list(pipeline)
    assert [result.faces[0].label for result in labeled] == ["happy"] * 20
    assert pipeline.stats.latency_ms >= 0


def test_a_mailbox_keeps_the_newest_item_and_counts_the_dropped_ones():
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


class ReopenedCamera:
    """A camera that is lost after its first frame, cannot be reopened for two reasons, and delivers two more frames."""

    name = "camera"
    live = True

    def frames(self, stop, on_message=None):
        frame = np.zeros((64, 64, 3), np.uint8)
        script = [frame, None, CameraError("busy", "busy"), CameraError("missing", "missing"), frame, frame]
        return frames_with_reconnect(FakeCamera(script), stop, on_message, delays_s=(0.0,))


def test_a_camera_that_is_lost_and_back_counts_as_one_loss():
    pipeline = Pipeline(ReopenedCamera(), FakeDetector(), FakeClassifier(), PipelineSettings(every_frame=True))
    assert len(list(pipeline)) == 3
    assert (pipeline.stats.lost, pipeline.stats.reopened) == (1, 1)
