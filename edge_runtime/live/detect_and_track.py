"""Find the faces of successive frames: detect every few frames, track in between."""

import time
from dataclasses import dataclass

import numpy as np

from fer_edge.edge_runtime.cameras.frame import Frame
from fer_edge.edge_runtime.crop import Box
from fer_edge.edge_runtime.detectors.detection import MIN_FACE_PX, Detection, Detector
from fer_edge.edge_runtime.images import Image, import_cv2
from fer_edge.edge_runtime.live.stats import PipelineStats
from fer_edge.edge_runtime.live.tracker import TrackedFace, Tracker

MAX_INTERVAL_FRAMES = 10  # between two detections
MAX_INTERVAL_S = 0.4  # between two detections of a live source
MIN_IDLE_FRACTION = 0.3  # of the time spent waiting for frames; above, there is time for more detections
MIN_FACE_FRACTION = 1 / 8  # smallest face in a video or live source, relative to the frame's shorter side
MIN_FACE_FRACTION_STILL = 1 / 16  # in a single image: there is time for the faces of a group
MAX_FACES = 16  # in a frame of a video or live source
BORDER_FRACTION = 0.25  # of an image's side, around an image without a face: detectors miss faces that touch the edge
MIN_BORDERED_FACE_FRACTION = 0.4  # of the image's shorter side: the border helps the face of a tight crop only


@dataclass
class DetectionInterval:
    """The number of frames from one detection to the next. It adapts to the load or is fixed.

    Attributes:
        frames: Current number of frames, >= 1.
        fixed: Whether the number never changes.
    """

    frames: int = 1
    fixed: bool = True

    def adapt(self, dropped: int, idle_fraction: float) -> None:
        """Adapt the interval to the load since the last detection.

        Args:
            dropped: Number of frames dropped since then.
            idle_fraction: Fraction of the time since then that was spent waiting for frames, 0..1.
        """
        if self.fixed:
            return
        if dropped:
            self.frames = min(self.frames + 1, MAX_INTERVAL_FRAMES)
        elif idle_fraction > MIN_IDLE_FRACTION:
            self.frames = max(self.frames - 1, 1)


class DetectAndTrack:
    """Finds and numbers the faces of successive frames.

    Args:
        detector: Finds faces in one image.
        interval: Number of frames from one detection to the next.
        min_face_px: Side of the smallest face, pixels. None: 1/16 (images) or 1/8 (frames) of the shorter side, at least 32.
        max_faces: Maximum number of faces per frame; the largest are kept. None: 16, no limit in single images.
        stats: Receives counts and times.

    Attributes:
        left_out: Number of faces above the maximum in the newest detection.
    """

    def __init__(
        self,
        detector: Detector,
        interval: DetectionInterval,
        min_face_px: int | None,
        max_faces: int | None,
        stats: PipelineStats,
    ) -> None:
        self._detector = detector
        self._interval = interval
        self._min_face_px = min_face_px
        self._stats = stats
        self._max_faces = max_faces
        self.left_out = 0
        self._tracker = Tracker()
        self._frames_since_detection = 0
        self._detected_s: float | None = None
        self._dropped = 0
        self._waited_s = 0.0

    def update(self, frame: Frame, dropped: int = 0, waited_s: float = 0.0) -> list[TrackedFace]:
        """Return the faces of the next frame.

        Args:
            frame: The frame.
            dropped: Total number of frames dropped so far.
            waited_s: Total time spent waiting for frames so far, seconds.
        """
        self._frames_since_detection += 1
        now = time.monotonic()
        if self._detected_s is not None and self._frames_since_detection < self._interval.frames:
            # Only live sources have a capture time. The result of a video must not depend on the speed of the machine.
            late = frame.capture_time_s is not None and now - self._detected_s > MAX_INTERVAL_S
            if not late:
                with self._stats.timed("track"):
                    faces = self._tracker.track(frame.gray)
                if faces is not None:
                    return faces
        return self._detect(frame, now, dropped, waited_s)

    def reset(self) -> None:
        """Discard the previous frames: the next one is unrelated to them."""
        self._tracker.reset()
        self._detected_s = None

    def _detect(self, frame: Frame, now: float, dropped: int, waited_s: float) -> list[TrackedFace]:
        previous_boxes: list[Box] | None = None
        if self._detected_s is not None:
            previous_boxes = self._tracker.boxes
            idle_fraction = (waited_s - self._waited_s) / max(now - self._detected_s, 1e-9)
            self._interval.adapt(dropped - self._dropped, idle_fraction)
        self._dropped, self._waited_s, self._detected_s, self._frames_since_detection = dropped, waited_s, now, 0
        self._stats.detect_every = self._interval.frames
        single = frame.number is None
        fraction = MIN_FACE_FRACTION_STILL if single else MIN_FACE_FRACTION
        min_face_px = self._min_face_px or max(MIN_FACE_PX, round(min(frame.width, frame.height) * fraction))
        with self._stats.timed("detect"):
            image = frame.gray if self._detector.needs_gray else frame.image
            detections = self._detector.detect(image, min_face_px, previous_boxes)
            if single and not detections:
                detections = _detect_with_border(self._detector, image, min_face_px)
        kept = detections[: self._max_faces or (None if single else MAX_FACES)]
        self.left_out = len(detections) - len(kept)
        will_track = self._interval.frames > 1 or not self._interval.fixed
        return self._tracker.update(kept, frame.gray if will_track else None)


def _detect_with_border(detector: Detector, image: Image, min_face_px: int) -> list[Detection]:
    """Search for a face that fills the image. Its edge pixels are repeated around it."""
    height, width = image.shape[:2]
    border = round(BORDER_FRACTION * max(height, width))
    cv2 = import_cv2()
    bordered = cv2.copyMakeBorder(image, border, border, border, border, cv2.BORDER_REPLICATE)
    min_face_px = max(min_face_px, round(MIN_BORDERED_FACE_FRACTION * min(height, width)))
    return [_shifted(face, border) for face in detector.detect(np.asarray(bordered, np.uint8), min_face_px)]


def _shifted(face: Detection, border: int) -> Detection:
    """Return a face found in an image with a border, in pixels of the image without it."""
    x, y, width, height = face.box_px
    eyes = None
    if face.eyes_px:
        (ax, ay), (bx, by) = face.eyes_px
        eyes = ((ax - border, ay - border), (bx - border, by - border))
    return Detection((x - border, y - border, width, height), eyes, face.score)
