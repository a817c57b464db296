"""Frames of a video or stream that FFmpeg inside OpenCV reads: upright, with square pixels."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fer_edge.edge_runtime.images import MAX_PIXELS, Image, import_cv2, is_utf8
from fer_edge.edge_runtime.orientation import ROTATIONS, Orientation

MAX_FRAMES_PER_SECOND = 240.0
MAX_ASPECT_RATIO = 4.0  # of one pixel; larger values are damage


class UprightCapture:
    """A cv2.VideoCapture that applies the rotation tag and the sample aspect ratio. Frames are BGR.

    Args:
        name: A URL, or a path that FFmpeg cannot take for anything else, see path_for_ffmpeg.
        options: Pairs of an OpenCV property and a value, one after another, for opening.

    Attributes:
        capture: The cv2.VideoCapture.
        frames_per_second: The rate that the video reports; None if it is implausible.
        frame_count: The number of frames that the video reports; for a stream 0, a negative or a huge number.
    """

    def __init__(self, name: str, options: Sequence[int] = ()) -> None:
        cv2 = import_cv2()
        self.capture: Any = cv2.VideoCapture(name, cv2.CAP_FFMPEG, list(options))
        self.capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)  # OpenCV rotates before the aspect ratio can be applied
        self.frames_per_second = reported_rate(self.capture)
        self.frame_count = self.capture.get(cv2.CAP_PROP_FRAME_COUNT)
        rotation = self.capture.get(cv2.CAP_PROP_ORIENTATION_META)
        self._orientation = Orientation(int(rotation)) if rotation in ROTATIONS else Orientation()
        self._aspect_ratio = _aspect_ratio(self.capture)

    @property
    def is_open(self) -> bool:
        """Return whether the video can be read, and its frames have a plausible size."""
        cv2 = import_cv2()
        pixels = self.capture.get(cv2.CAP_PROP_FRAME_WIDTH) * self.capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
        return bool(self.capture.isOpened()) and pixels <= MAX_PIXELS

    def read(self) -> Image | None:
        """Return the next frame (height, width, 3), BGR; None if it cannot be decoded, or at the end."""
        success, pixels = self.capture.read()
        if not success:
            return None
        if self._aspect_ratio != 1:
            cv2 = import_cv2()
            height, width = pixels.shape[:2]
            # The shorter side grows, so that no pixel is lost.
            size = (round(width * max(self._aspect_ratio, 1)), round(height * max(1 / self._aspect_ratio, 1)))
            pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR_EXACT)
        return self._orientation.apply(np.asarray(pixels, np.uint8))

    @property
    def position_s(self) -> float:
        """Return the time of the last frame in the video, seconds."""
        return float(self.capture.get(import_cv2().CAP_PROP_POS_MSEC)) / 1000

    def release(self) -> None:
        """Close the video."""
        self.capture.release()


def reported_rate(capture: Any) -> float | None:
    """Return the frames per second that a cv2.VideoCapture reports, None if the value is implausible.

    Streams often report their clock rate (90000) or NaN.
    """
    rate = float(capture.get(import_cv2().CAP_PROP_FPS))
    return rate if 1 <= rate <= MAX_FRAMES_PER_SECOND else None


def _aspect_ratio(capture: Any) -> float:
    """Return width / height of one pixel; 1 if the video states none."""
    cv2 = import_cv2()
    numerator, denominator = capture.get(cv2.CAP_PROP_SAR_NUM), capture.get(cv2.CAP_PROP_SAR_DEN)
    ratio = numerator / denominator if denominator else 0.0
    plausible = math.isfinite(ratio) and 1 / MAX_ASPECT_RATIO <= ratio <= MAX_ASPECT_RATIO
    return ratio if plausible else 1.0


@contextmanager
def path_for_ffmpeg(path: Path) -> Iterator[str]:
    """Yield a name of a file that OpenCV can pass to FFmpeg, and FFmpeg takes for nothing else.

    In ``14:33.mp4`` or ``concat:a.mp4`` FFmpeg would see a protocol, and in ``%d.jpg`` a series of files. OpenCV rejects names
    that are not UTF-8.

    Args:
        path: A regular file.
    """
    absolute = path.absolute()
    if is_utf8(absolute) and "%" not in str(absolute):
        yield f"file:{absolute}"
        return
    with path.open("rb") as file:
        yield f"file:/proc/self/fd/{file.fileno()}"
