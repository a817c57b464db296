"""Annotated videos and pictures on the disk. A file gets its name when it is whole."""

import os
import shutil
import uuid
from pathlib import Path
from typing import Any

from fer_edge.edge_runtime.cameras.camera import OnMessage
from fer_edge.edge_runtime.images import PICTURE_SUFFIXES, Image, import_cv2, write_image
from fer_edge.edge_runtime.live.pipeline import LabeledFrame
from fer_edge.edge_runtime.outputs.output import annotate

VIDEO_CODEC = "mp4v"
VIDEO_SUFFIX = ".mp4"
RESERVE_BYTES = 16 << 20  # an .mp4 is worth nothing without its index, which is written last
FRAMES_A_CHECK = 15
MOST_REPEATS_S = 2.0  # a gap longer than that, as of a lost camera, is cut short


class AtomicVideoWriter:
    """An .mp4 in the making.

    Args:
        path: Its name once it is whole.
        frames_per_second: Its rate.
        size: Width and height, pixels; other pictures are brought to it.

    Raises:
        OSError: If it cannot be written.
    """

    def __init__(self, path: Path, frames_per_second: float, size: tuple[int, int]) -> None:
        self._cv2 = import_cv2()
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.frames = 0
        self._size = size
        self._temporary = path.with_name(f".{uuid.uuid4().hex[:8]}-{path.name}")
        codec = self._cv2.VideoWriter_fourcc(*VIDEO_CODEC)
        self._writer: Any = self._cv2.VideoWriter(str(self._temporary), codec, frames_per_second, size)
        if not self._writer.isOpened():
            raise OSError(f"cannot write the video '{path}'")

    def write(self, picture: Image) -> None:
        """Add an RGB picture (height, width, 3).

        Raises:
            OSError: If the disk is nearly full: finish() still works then.
        """
        # OpenCV's writer tells nobody of a full disk.
        if self.frames % FRAMES_A_CHECK == 0 and shutil.disk_usage(self.path.parent).free < RESERVE_BYTES:
            raise OSError(f"the disk is nearly full: '{self.path}' ends after {self.frames} frames")
        if (picture.shape[1], picture.shape[0]) != self._size:
            picture = self._cv2.resize(picture, self._size, interpolation=self._cv2.INTER_AREA)
        self._writer.write(self._cv2.cvtColor(picture, self._cv2.COLOR_RGB2BGR))
        self.frames += 1

    def finish(self, keep_short: bool = False) -> None:
        """Close it and give it its name.

        Args:
            keep_short: Whether it gets its name although frames are missing in it, if any can be read.

        Raises:
            OSError: If frames are missing in it, kept or not.
        """
        self._writer.release()
        try:
            held = _count_frames(self._temporary)
            kept = held == self.frames or (keep_short and held > 0)
            if kept:
                # Without the sync a power cut just after the rename can leave an empty file under the final name.
                with self._temporary.open("rb") as file:
                    os.fsync(file.fileno())
                self._temporary.replace(self.path)
        finally:
            self._temporary.unlink(missing_ok=True)
        if not kept:
            raise OSError(f"the video '{self.path}' could not be written whole: is the disk full?")
        if held != self.frames:
            raise OSError(f"the video '{self.path}' holds {held} of {self.frames} frames: is the disk full?")

    def discard(self) -> None:
        """Throw it away."""
        self._writer.release()
        self._temporary.unlink(missing_ok=True)


class VideoRecorder:
    """An annotated video of a live source, in real time: frames that were dropped are stood in for by the one before.

    When the disk is nearly full it ends, says so, and what runs goes on.

    Args:
        path: An .mp4 file.
        on_message: Called with a line when it ends early.

    Raises:
        ValueError: If the name does not end in .mp4.
    """

    def __init__(self, path: str | Path, on_message: OnMessage | None = None) -> None:
        self._path = Path(path)
        if self._path.suffix.lower() != VIDEO_SUFFIX:
            raise ValueError(f"a recording is an {VIDEO_SUFFIX} file. Received: '{path}'")
        self._on_message = on_message
        self._video: AtomicVideoWriter | None = None
        self._ended = False
        self._rate = 25.0
        self._due = 0.0
        self._last_s: float | None = None

    def write(self, labeled: LabeledFrame) -> None:
        """Add one labeled frame."""
        if self._ended:
            return
        frame = labeled.frame
        if self._video is None:
            self._rate = frame.frames_per_second or 25.0
            self._video = AtomicVideoWriter(self._path, self._rate, (frame.width & ~1, frame.height & ~1))
        passed_s = 1 / self._rate
        if frame.capture_time_s is not None and self._last_s is not None:
            passed_s = min(frame.capture_time_s - self._last_s, MOST_REPEATS_S)
        self._last_s = frame.capture_time_s
        self._due += passed_s * self._rate
        picture = annotate(labeled)
        try:
            while self._video.frames < round(self._due):
                self._video.write(picture)
        except OSError as error:
            self._ended = True
            told = str(error)
            try:
                self._video.finish(keep_short=True)
            except OSError as short:
                told += f"; {short}"
            if self._on_message:
                self._on_message(told)

    def close(self, complete: bool) -> None:
        """Finish the file; it is worth having however the run ended, and short as well: it cannot be made again.

        Raises:
            OSError: If it could not be written whole.
        """
        if self._video is not None and not self._ended:
            self._ended = True
            self._video.finish(keep_short=True)


class AnnotatedFileWriter:
    """Annotated copies of pictures and video files.

    Args:
        target: A folder, in which copies keep their place below ``source``; for a single picture or video also a file.
        source: What is run on.
    """

    def __init__(self, target: str | Path, source: str | Path) -> None:
        self._target = Path(target)
        self._source = Path(source)
        self._one_file = not self._source.is_dir() and bool(self._target.suffix)
        self._video: AtomicVideoWriter | None = None
        self.written: list[Path] = []

    def write(self, labeled: LabeledFrame) -> None:
        """Write the annotated copy of one picture, or one more frame of a video.

        Raises:
            OSError: If it cannot be written.
            ValueError: If the target's ending does not fit, or the copy would overwrite its source.
        """
        frame = labeled.frame
        path = self._path(labeled)
        if not frame.number:
            self._finish_video()
        if frame.number is None:
            write_image(path, annotate(labeled))
            self.written.append(path)
            return
        if self._video is None:
            self._video = AtomicVideoWriter(path, frame.frames_per_second or 25.0, (frame.width, frame.height))
        self._video.write(annotate(labeled))

    def close(self, complete: bool) -> None:
        """Give the last video its name, or throw half a copy away.

        Raises:
            OSError: If it could not be written whole.
        """
        if complete:
            self._finish_video()
        elif self._video is not None:
            self._video.discard()

    def _finish_video(self) -> None:
        video, self._video = self._video, None
        if video is not None:
            video.finish()
            self.written.append(video.path)

    def _path(self, labeled: LabeledFrame) -> Path:
        source = Path(labeled.frame.source)
        still = labeled.frame.number is None
        if self._one_file:
            path = self._target
            fitting = PICTURE_SUFFIXES if still else (VIDEO_SUFFIX,)
            if path.suffix.lower() not in fitting:
                kind = "picture" if still else "video"
                raise ValueError(
                    f"cannot save a {kind} as '{path.name}'; choose one of: {', '.join(fitting)}, or name a folder"
                )
        else:
            name = source.relative_to(self._source) if self._source.is_dir() else Path(source.name)
            path = self._target / (name if still or name.suffix == VIDEO_SUFFIX else f"{name}{VIDEO_SUFFIX}")
        if path.resolve() == source.resolve():
            raise ValueError(f"the annotated copy would overwrite '{source}'. Choose another --save")
        return path


def _count_frames(path: Path) -> int:
    cv2 = import_cv2()
    capture = cv2.VideoCapture(str(path))
    try:
        return int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    finally:
        capture.release()
