"""From a source to labeled frames: capture, detection and classification overlap, and only the newest frame counts."""

import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from types import TracebackType

from fer_edge.edge_runtime.cameras.camera import OnMessage
from fer_edge.edge_runtime.cameras.frame import Frame
from fer_edge.edge_runtime.cameras.source import Source
from fer_edge.edge_runtime.classify import Classifier, Prediction
from fer_edge.edge_runtime.crop import Box, Eyes, crop_face
from fer_edge.edge_runtime.detectors.detector import Detector
from fer_edge.edge_runtime.images import Image
from fer_edge.edge_runtime.live.detect_and_track import DetectAndTrack, DetectionInterval
from fer_edge.edge_runtime.live.mailbox import Closed, Mailbox
from fer_edge.edge_runtime.live.smoothing import Smoother, Smoothing
from fer_edge.edge_runtime.live.stats import PipelineStats
from fer_edge.edge_runtime.live.tracker import TrackedFace

VIDEO_EVERY = 3  # frames from one detection to the next in a video: the same on every machine
JOIN_S = 3.0  # a camera that hangs must not keep the program from ending


@dataclass(frozen=True)
class LabeledFace:
    """One face of a frame.

    Attributes:
        box_px: Its box (x, y, width, height), pixels of the frame.
        prediction: What is said of it, smoothed over time unless raw.
        number: The same in every frame that shows this face, from 1; None in single images.
        eyes_px: Its eyes, (x, y) each, pixels of the frame; None where the detector does not know.
    """

    box_px: Box
    prediction: Prediction
    number: int | None = None
    eyes_px: Eyes | None = None

    @property
    def label(self) -> str:
        """Return the label, "unsure" where none is probable enough."""
        return self.prediction.label

    @property
    def probability(self) -> float:
        """Return the label's probability, 0..1."""
        return self.prediction.probability

    @property
    def probabilities(self) -> dict[str, float]:
        """Return the probability of every label, 0..1."""
        return self.prediction.as_dict()


@dataclass(frozen=True)
class LabeledFrame:
    """A frame with its faces, largest first; none where no face was found."""

    frame: Frame
    faces: tuple[LabeledFace, ...]

    @property
    def number(self) -> int | None:
        """Return the number of the frame in its source; None for an image."""
        return self.frame.number

    @property
    def image(self) -> Image:
        """Return the frame, uint8 (height, width, 3), RGB."""
        return self.frame.image


@dataclass(frozen=True)
class PipelineSettings:
    """How a pipeline works.

    Attributes:
        detect_every: Frames from one detection to the next; None adapts to the load for a camera, and is 3 for videos.
        min_face_px: Smallest box, pixels; None for 32 in single images and 1/8 of the frame's shorter side else.
        max_faces: Faces a frame at most; the largest stay.
        smoothing: How labels are steadied over time; never those of single images.
        every_frame: Label every frame of a camera too, however late.
    """

    detect_every: int | None = None
    min_face_px: int | None = None
    max_faces: int = 16
    smoothing: Smoothing = field(default_factory=Smoothing)
    every_frame: bool = False

    def __post_init__(self) -> None:
        for name, value in (("detect_every", self.detect_every), ("min_face_px", self.min_face_px)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1. Received: {name}={value}")
        if self.max_faces < 1:
            raise ValueError(f"max_faces must be at least 1. Received: max_faces={self.max_faces}")


class Pipeline:
    """Labeled frames of a source, to be iterated over once.

    Two threads capture and detect; classification happens in the thread that iterates. A live source's frames are dropped
    where there is no time for them; files are labeled frame by frame, in order.

    Args:
        source: Where frames come from.
        detector: Finds the faces; ``none`` takes each frame as one face.
        classifier: Labels them.
        settings: How.
        on_message: Called with a line about what the user should know. From another thread.

    Attributes:
        stats: Counters and times, up to date at any moment.
        live: Whether the source is a camera or the like.
        model: The classifier's file.
        labels: Its labels.
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
        self.live = source.live
        self.model = classifier.model
        self.labels = classifier.labels
        self._settings = settings or PipelineSettings()
        self._source = source
        self._detector = detector
        self._classifier = classifier
        self._on_message = on_message
        self._stop = threading.Event()
        block_when_full = not source.live or self._settings.every_frame
        self._captured: Mailbox[Frame] = Mailbox(block_when_full)
        self._found: Mailbox[tuple[Frame, list[TrackedFace]]] = Mailbox(block_when_full)
        every = self._settings.detect_every
        interval = DetectionInterval(
            every or (VIDEO_EVERY if block_when_full else 1), fixed=every is not None or block_when_full
        )
        self._finder = DetectAndTrack(detector, interval, self._settings.min_face_px, self._settings.max_faces, self.stats)
        self._smoother = Smoother(self._settings.smoothing)
        self._threads = [
            threading.Thread(target=target, name=f"fer-edge {target.__name__.strip('_')}", daemon=True)
            for target in (self._capture, self._find)
        ]

    def __iter__(self) -> Iterator[LabeledFrame]:
        """Start, and yield labeled frames until the source ends or close() is called.

        Raises:
            OSError: If the source cannot be opened.
            ValueError: If it cannot be read.
            RuntimeError: If it runs already.
        """
        if any(thread.ident for thread in self._threads):
            raise RuntimeError("a pipeline can be iterated over once; make another one")
        for thread in self._threads:
            thread.start()
        try:
            while True:
                try:
                    frame, faces = self._found.get()
                except Closed:
                    return
                labeled = self._label(frame, faces)
                self.stats.count_frame(len(faces), frame.capture_time_s)
                self.stats.dropped = self._captured.dropped + self._found.dropped
                yield labeled
        finally:
            self.close()

    def __enter__(self) -> "Pipeline":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def stop(self) -> None:
        """Let the iteration end soon; from any thread."""
        self._stop.set()
        self._captured.close()
        self._found.close()

    def close(self) -> None:
        """Stop, let go of the source, and wait for the threads."""
        if any(thread.is_alive() for thread in self._threads):
            self.stop()
        for thread in self._threads:
            if thread.ident and thread is not threading.current_thread():
                thread.join(JOIN_S)

    def _tell(self, text: str) -> None:
        self.stats.reopened += text.endswith(" is back")
        if self._on_message:
            self._on_message(text)

    def _capture(self) -> None:
        try:
            with closing(self._source.frames(self._stop, self._tell)) as frames:
                while not self._stop.is_set():
                    with self.stats.timed("capture"):
                        frame = next(frames, None)
                    if frame is None:
                        break
                    self.stats.captured += 1
                    self._captured.put(frame)
        except Closed:
            self._captured.close()
        except BaseException as error:  # to the thread that iterates, which can do something about it
            self._captured.close(error)
        else:
            self._captured.close()

    def _find(self) -> None:
        try:
            while True:
                frame = self._captured.get()
                dropped = self._captured.dropped + self._found.dropped
                if not frame.number:  # an image, or a video's first frame: it has nothing to do with the one before
                    self._finder.reset()
                self._found.put((frame, self._finder.update(frame, dropped, self._captured.waited_s)))
        except Closed:
            self._found.close()
        except BaseException as error:
            self._found.close(error)

    def _label(self, frame: Frame, faces: list[TrackedFace]) -> LabeledFrame:
        crop = self._classifier.contract.crop
        single = frame.number is None
        labeled = []
        for face in faces:
            with self.stats.timed("crop"):
                whole = self._detector.name == "none"
                pixels = frame.crop_source
                cut = pixels if whole else crop_face(pixels, face.box_px, self._detector.name, crop, face.eyes_px)
            with self.stats.timed("classify"):
                (prediction,) = self._classifier.predict(cut)
            if not single:
                prediction = self._smoother.update(face.number, prediction, _moment_s(frame))
            labeled.append(LabeledFace(face.box_px, prediction, None if single else face.number, face.eyes_px))
        return LabeledFrame(frame, tuple(labeled))


def _moment_s(frame: Frame) -> float:
    """Return when a frame was taken: by the monotonic clock, or by its place in the video."""
    if frame.capture_time_s is not None:
        return frame.capture_time_s
    return (frame.number or 0) / (frame.frames_per_second or 25.0)
