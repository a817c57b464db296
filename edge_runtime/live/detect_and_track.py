"""Which faces a frame shows: by the detector every few frames, by following them in between."""

import time
from dataclasses import dataclass

from fer_edge.edge_runtime.cameras.frame import Frame
from fer_edge.edge_runtime.detectors.detector import MIN_FACE_PX, Detector
from fer_edge.edge_runtime.live.stats import PipelineStats
from fer_edge.edge_runtime.live.tracker import TrackedFace, Tracker

MAX_INTERVAL_FRAMES = 10  # from one detection to the next
MAX_INTERVAL_S = 0.4  # the same as time
IDLE_SHARE = 0.3  # of the time spent waiting for frames: with so much to spare, look more often
MOVING_SHARE = 1 / 8  # smallest face that a camera or a video is searched for, of the frame's shorter side


@dataclass
class DetectionInterval:
    """How many frames lie between two detections. Adapts to the load, or is fixed.

    Attributes:
        frames: Current number of frames from one detection to the next.
        fixed: Whether it never changes.
    """

    frames: int = 1
    fixed: bool = True

    def adapt(self, dropped: int, idle_share: float) -> None:
        """Take the load since the last detection into account.

        Args:
            dropped: Frames that had to be dropped since.
            idle_share: Share of the time since then that was spent waiting for frames, 0..1.
        """
        if self.fixed:
            return
        if dropped:
            self.frames = min(self.frames + 1, MAX_INTERVAL_FRAMES)
        elif idle_share > IDLE_SHARE:
            self.frames = max(self.frames - 1, 1)


class DetectAndTrack:
    """Finds and numbers the faces of frame after frame.

    Args:
        detector: Finds faces in one image.
        interval: When it is asked.
        min_face_px: Smallest box, pixels of the frame; None for the usual: 32 in single images, 1/8 of the shorter side else.
        max_faces: Faces a frame at most; the largest stay.
        stats: Counts and times.
    """

    def __init__(
        self, detector: Detector, interval: DetectionInterval, min_face_px: int | None, max_faces: int, stats: PipelineStats
    ) -> None:
        self._detector = detector
        self._interval = interval
        self._min_face_px = min_face_px
        self._stats = stats
        self._tracker = Tracker(max_faces)
        self._frames_since = 0
        self._detected_s: float | None = None
        self._dropped = 0
        self._waited_s = 0.0

    def update(self, frame: Frame, dropped: int = 0, waited_s: float = 0.0) -> list[TrackedFace]:
        """Return the faces of the next frame.

        Args:
            frame: The frame.
            dropped: Frames dropped so far.
            waited_s: Time spent waiting for frames so far, seconds.
        """
        self._frames_since += 1
        now = time.monotonic()
        # A video's result must not depend on how fast this machine is.
        late = frame.capture_time_s is not None and self._detected_s is not None and now - self._detected_s > MAX_INTERVAL_S
        if self._detected_s is not None and not late and self._frames_since < self._interval.frames:
            with self._stats.timed("track"):
                faces = self._tracker.track(frame.gray)
            if faces is not None:
                return faces
        return self._detect(frame, now, dropped, waited_s)

    def reset(self) -> None:
        """Forget the frames before: the next one has nothing to do with them."""
        self._tracker.reset()
        self._detected_s = None

    def _detect(self, frame: Frame, now: float, dropped: int, waited_s: float) -> list[TrackedFace]:
        previous_boxes = None
        if self._detected_s is not None:
            previous_boxes = self._tracker.boxes
            idle_share = (waited_s - self._waited_s) / max(now - self._detected_s, 1e-9)
            self._interval.adapt(dropped - self._dropped, idle_share)
        self._dropped, self._waited_s, self._detected_s, self._frames_since = dropped, waited_s, now, 0
        self._stats.detect_every = self._interval.frames
        least = self._min_face_px or MIN_FACE_PX
        if not self._min_face_px and frame.number is not None:
            least = max(MIN_FACE_PX, round(min(frame.width, frame.height) * MOVING_SHARE))
        with self._stats.timed("detect"):
            found = self._detector.detect(frame.gray if self._detector.needs_gray else frame.image, least, previous_boxes)
        follows = self._interval.frames > 1 or not self._interval.fixed
        return self._tracker.update(found, frame.gray if follows else None)
