"""Turn the frames of a source into labeled frames. Capture, detection and classification run in parallel threads."""

import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from fer_edge.edge_runtime.cameras.camera import OnMessage
from fer_edge.edge_runtime.cameras.frame import Frame
from fer_edge.edge_runtime.cameras.source import Source
from fer_edge.edge_runtime.classify import Classifier, Prediction
from fer_edge.edge_runtime.crop import Box, Eyes, crop_face
from fer_edge.edge_runtime.detectors.detection import Detector
from fer_edge.edge_runtime.images import Image
from fer_edge.edge_runtime.live.detect_and_track import DetectAndTrack, DetectionInterval
from fer_edge.edge_runtime.live.heartbeat import Heartbeat, PolledEvent
from fer_edge.edge_runtime.live.mailbox import Closed, Mailbox
from fer_edge.edge_runtime.live.smoothing import UNSURE, Smoother, Smoothing
from fer_edge.edge_runtime.live.stats import PipelineStats
from fer_edge.edge_runtime.live.tracker import TrackedFace

VIDEO_DETECT_EVERY = 3  # constant, so that a video gives the same result on every machine
JOIN_TIMEOUT_S = 3.0  # a camera that hangs must not prevent the program from exiting


@dataclass(frozen=True)
class LabeledFace:
    """A labeled face in a frame.

    Attributes:
        box_px: Box (x, y, width, height), pixels of the frame.
        prediction: Prediction for the face, smoothed over time unless the source is a single image.
        number: Number of the face, from 1, the same in every frame that shows it. None in single images.
        eyes_px: Eye centers (x, y), pixels of the frame. None if the detector returns no eyes.
        unsure: Whether the probability is below the threshold of the smoothing or the model. The label of a face in a video
            or live source is then "unsure". A single image keeps its most probable label.
        score: How sure the detector is that this is a face, 0..1; 1 without detection. Scores of different detectors are not
            comparable.
    """

    box_px: Box
    prediction: Prediction
    number: int | None = None
    eyes_px: Eyes | None = None
    unsure: bool = False
    score: float = 1.0

    @property
    def label(self) -> str:
        """Return the label. In a video or live source it is "unsure" if no label is probable enough."""
        return self.prediction.label

    @property
    def probability(self) -> float:
        """Return the probability of the label, 0..1."""
        return self.prediction.probability

    @property
    def probabilities(self) -> dict[str, float]:
        """Return the probability of each label, 0..1, by label name."""
        return self.prediction.as_dict()

    @property
    def top_labels(self) -> tuple[str, str]:
        """Return the two most probable labels, the most probable first."""
        return self.prediction.top_labels

    @property
    def margin(self) -> float:
        """Return by how much the most probable label leads the one after it, 0..1."""
        return self.prediction.margin

    def as_dict(self) -> dict[str, Any]:
        """Return the face as JSON-compatible data, as in the lines of ``fer-edge run --json``.

        Returns:
            box_px, score, label, probability, unsure, top_labels, margin and probabilities; before them ``face``, its
            number, unless the source is a single image.
        """
        data: dict[str, Any] = {
            "box_px": list(self.box_px),
            "score": round(self.score, 3),
            "label": self.label,
            "probability": self.probability,
            "unsure": self.unsure,
            "top_labels": list(self.top_labels),
            "margin": self.margin,
            "probabilities": self.probabilities,
        }
        return data if self.number is None else {"face": self.number, **data}


@dataclass(frozen=True)
class LabeledFrame:
    """A frame and its faces.

    Attributes:
        frame: The frame.
        faces: The labeled faces, largest first. Empty if no face was found.
    """

    frame: Frame
    faces: tuple[LabeledFace, ...]

    @property
    def number(self) -> int | None:
        """Return the number of the frame in its source, from 0. None for an image."""
        return self.frame.number

    @property
    def image(self) -> Image:
        """Return the frame as a uint8 array (height, width, 3), RGB."""
        return self.frame.image


@dataclass(frozen=True)
class PipelineSettings:
    """Settings of a pipeline.

    Attributes:
        detect_every: Number of frames from one detection to the next. None: 3 in videos; adapts to the load of a live source.
        min_face_px: Side of the smallest face, pixels. None: 1/16 (images) or 1/8 (frames) of the shorter side, at least 32.
        max_faces: Maximum number of faces per frame; the largest are kept. None: 16, no limit in single images.
        smoothing: How labels are smoothed over time. Not used for single images.
        every_frame: If True, no frame of a live source is dropped, and latency can grow.

    Raises:
        ValueError: If a number is less than 1.
    """

    detect_every: int | None = None
    min_face_px: int | None = None
    max_faces: int | None = None
    smoothing: Smoothing = field(default_factory=Smoothing)
    every_frame: bool = False

    def __post_init__(self) -> None:
        for name in ("detect_every", "min_face_px", "max_faces"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1. Received: {name}={value}")


class Pipeline:
    """Labels the frames of a source. Iterate over it once to get the labeled frames.

    Two threads capture and detect. Classification runs in the thread that iterates. Frames of a live source are dropped when
    there is no time for them, so that the newest frame is always next. Files are labeled frame by frame, in order.

    Args:
        source: Provides the frames.
        detector: Finds the faces. With the detector ``none``, each frame is one face.
        classifier: Labels the faces.
        settings: Settings; None for the defaults.
        on_message: Called with messages for the user, from another thread.

    Attributes:
        stats: Counters and times, always current.
        heartbeat: Since when each stage is busy with a frame.
        live: Whether the source is live, such as a camera.
        model: Path of the classifier's file.
        detector: Name of the detector.
        labels: Label names of the classifier.
    """

    def __init__(
        self,
        source: Source,
        detector: Detector,
        classifier: Classifier,
        settings: PipelineSettings | None = None,
        on_message: OnMessage | None = None,
    ) -> None:
        self.stats = PipelineStats()
        self.stats.threads = classifier.num_threads
        self.heartbeat = Heartbeat()
        self.live = source.live
        self.model = classifier.model
        self.detector = detector.name
        self.labels = classifier.labels
        self._settings = settings or PipelineSettings()
        self._source = source
        self._detector = detector
        self._classifier = classifier
        self._on_message = on_message
        # The loops of the cameras check the event while they wait for a camera, which is not a hang.
        self._stop = PolledEvent(lambda: self.heartbeat.beat("capture"))
        self._suggested = self._reported_left_out = False
        block_when_full = not source.live or self._settings.every_frame
        self._captured: Mailbox[Frame] = Mailbox(block_when_full)
        self._detected: Mailbox[tuple[Frame, list[TrackedFace]]] = Mailbox(block_when_full)
        interval = DetectionInterval(
            self._settings.detect_every or (VIDEO_DETECT_EVERY if block_when_full else 1),
            fixed=self._settings.detect_every is not None or block_when_full,
        )
        self._detect_and_track = DetectAndTrack(
            detector, interval, self._settings.min_face_px, self._settings.max_faces, self.stats
        )
        self._smoother = Smoother(self._settings.smoothing, classifier.contract.unsure_threshold)
        self._threads = [
            threading.Thread(target=target, name=f"fer-edge {target.__name__.strip('_')}", daemon=True)
            for target in (self._capture, self._detect)
        ]

    def __iter__(self) -> Iterator[LabeledFrame]:
        """Start the threads and yield labeled frames until the source ends or close() is called.

        Raises:
            OSError: If the source cannot be opened.
            ValueError: If the source cannot be read.
            RuntimeError: If the pipeline has been iterated over before.
        """
        if any(thread.ident for thread in self._threads):
            raise RuntimeError("a pipeline can be iterated over only once; create another one")
        for thread in self._threads:
            thread.start()
        try:
            while True:
                try:
                    frame, faces = self._detected.get()
                except Closed:
                    return
                with self.heartbeat.busy("label"):
                    labeled = self._label(frame, faces)
                self.stats.count_frame(len(faces), frame.capture_time_s)
                self.stats.dropped = self._captured.dropped + self._detected.dropped
                with self.heartbeat.busy("output"):
                    yield labeled
        finally:
            self.close()

    def __enter__(self) -> "Pipeline":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def stop(self) -> None:
        """Make the iteration end soon. May be called from any thread."""
        self._stop.set()
        self._captured.close()
        self._detected.close()

    def close(self) -> None:
        """Stop, release the source and wait for the threads."""
        if any(thread.is_alive() for thread in self._threads):
            self.stop()
        for thread in self._threads:
            if thread.ident and thread is not threading.current_thread():
                thread.join(JOIN_TIMEOUT_S)

    def _forward_message(self, text: str) -> None:
        self.stats.reopened += text.endswith(" is back")
        # A camera that cannot be reopened for another reason is reported again.
        self.stats.lost += " is lost (" in text and self.stats.lost == self.stats.reopened
        if self._on_message:
            self._on_message(text)

    def _capture(self) -> None:
        try:
            with closing(self._source.frames(self._stop, self._forward_message)) as frames:
                while not self._stop.is_set():
                    with self.stats.timed("capture"), self.heartbeat.busy("capture"):
                        frame = next(frames, None)
                    if frame is None:
                        break
                    self.stats.captured += 1
                    self._captured.put(frame)
        except Closed:
            pass
        except BaseException as error:  # goes to the thread that iterates
            self._captured.close(error)
        finally:
            self._captured.close()

    def _detect(self) -> None:
        try:
            while True:
                frame = self._captured.get()
                dropped = self._captured.dropped + self._detected.dropped
                if not frame.number:  # an image or the first frame of a video is unrelated to the previous frame
                    self._detect_and_track.reset()
                with self.heartbeat.busy("detect"):
                    faces = self._detect_and_track.update(frame, dropped, self._captured.waited_s)
                if frame.number is None and not faces:
                    self._suggest_no_detection(frame)
                if self._settings.max_faces is None and self._detect_and_track.left_out:
                    self._report_left_out(frame, len(faces))
                self._detected.put((frame, faces))
        except Closed:
            self._detected.close()
        except BaseException as error:
            self._detected.close(error)

    def _suggest_no_detection(self, frame: Frame) -> None:
        """Name the remedy for crops without a detectable face, once per run."""
        if self._on_message and not self._suggested:
            self._suggested = True
            self._on_message(f"no face found in '{frame.source}'. If it shows only a face, pass --detector none")

    def _report_left_out(self, frame: Frame, kept: int) -> None:
        """Report that a frame has more faces than the maximum, once per run."""
        if self._on_message and not self._reported_left_out:
            self._reported_left_out = True
            found = kept + self._detect_and_track.left_out
            self._on_message(
                f"'{frame.source}' shows {found} faces; the {kept} largest are labeled. For more, pass --max-faces"
            )

    def _label(self, frame: Frame, faces: list[TrackedFace]) -> LabeledFrame:
        crop = self._classifier.contract.crop
        single = frame.number is None
        labeled = []
        for face in faces:
            with self.stats.timed("crop"):
                pixels = frame.crop_source
                if self._detector.name != "none":
                    pixels = crop_face(pixels, face.box_px, self._detector.name, crop, face.eyes_px)
            with self.stats.timed("classify"):
                (prediction,) = self._classifier.predict(pixels)
            if single:
                number, unsure = None, prediction.probability < self._smoother.min_confidence
            else:
                prediction = self._smoother.update(face.number, prediction, _time_s(frame))
                number, unsure = face.number, prediction.label == UNSURE
            labeled.append(LabeledFace(face.box_px, prediction, number, face.eyes_px, unsure, face.score))
        return LabeledFrame(frame, tuple(labeled))


def _time_s(frame: Frame) -> float:
    """Return the time of a frame, seconds: its capture time, or its position in the video."""
    if frame.capture_time_s is not None:
        return frame.capture_time_s
    return (frame.number or 0) / (frame.frames_per_second or 25.0)
