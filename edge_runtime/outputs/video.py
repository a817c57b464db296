"""Annotated videos and images on disk. A file appears under its name only when it is complete."""

import os
import shutil
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from fer_edge.artifacts.atomic_write import atomic_path, lock_temporary, remove_abandoned
from fer_edge.edge_runtime.cameras.camera import OnMessage
from fer_edge.edge_runtime.cameras.capture import UprightCapture, path_for_ffmpeg
from fer_edge.edge_runtime.images import WRITABLE_SUFFIXES, Image, import_cv2, write_image
from fer_edge.edge_runtime.live.pipeline import LabeledFrame
from fer_edge.edge_runtime.outputs.annotate import annotate

VIDEO_CODEC = "mp4v"
VIDEO_SUFFIX = ".mp4"
DEFAULT_IMAGE_SUFFIX = ".jpg"  # of the copy of an image whose name has no suffix that OpenCV writes
DEFAULT_FRAMES_PER_SECOND = 25.0
MIN_FREE_BYTES = 16 << 20  # an .mp4 cannot be read without its index, which is written last
FRAMES_PER_DISK_CHECK = 15
MAX_GAP_S = 2.0  # a longer gap between two frames, for example while the camera was lost, is shortened to this


class _DiscardedError(Exception):
    """Makes atomic_path remove its temporary file."""


class AtomicVideoWriter:
    """Writes an .mp4 under a temporary name, and renames it when it is complete.

    Args:
        path: The file.
        frames_per_second: Frame rate.
        size: Width and height, pixels. Images of other sizes are resized.

    Raises:
        OSError: If the file cannot be written.
    """

    def __init__(self, path: Path, frames_per_second: float, size: tuple[int, int]) -> None:
        self._cv2 = import_cv2()
        self.path = path
        self.frames = 0
        self._size = size
        codec = self._cv2.VideoWriter_fourcc(*VIDEO_CODEC)
        with ExitStack() as stack:
            lock = stack.enter_context(ExitStack())  # closes after the rename
            self._temporary = stack.enter_context(atomic_path(path))
            lock.enter_context(lock_temporary(self._temporary))
            # Through the descriptor of the folder, whose own name may contain characters that OpenCV or FFmpeg rejects.
            folder = os.open(self._temporary.parent, os.O_PATH)
            stack.callback(os.close, folder)
            name = f"/proc/self/fd/{folder}/{self._temporary.name}"
            self._writer: Any = self._cv2.VideoWriter(name, self._cv2.CAP_FFMPEG, codec, frames_per_second, size)
            if not self._writer.isOpened():
                raise OSError(f"cannot write the video '{path}'")
            self._rename_at_exit = stack.pop_all()

    def write(self, image: Image) -> None:
        """Add a frame.

        Args:
            image: uint8 array (height, width, 3), RGB.

        Raises:
            OSError: If the disk is nearly full. finish() still works then.
        """
        # OpenCV's writer does not report a full disk.
        if self.frames % FRAMES_PER_DISK_CHECK == 0 and shutil.disk_usage(self.path.parent).free < MIN_FREE_BYTES:
            raise OSError(f"the disk is nearly full: '{self.path}' ends after {self.frames} frames")
        if (image.shape[1], image.shape[0]) != self._size:
            image = self._cv2.resize(image, self._size, interpolation=self._cv2.INTER_AREA)
        self._writer.write(self._cv2.cvtColor(image, self._cv2.COLOR_RGB2BGR))
        self.frames += 1

    def finish(self, keep_short: bool = False) -> None:
        """Complete and rename the file. Without a frame, remove it.

        Args:
            keep_short: Whether to keep a file in which frames are missing, if any frame can be read.

        Raises:
            OSError: If frames are missing, whether or not the file is kept.
        """
        if not self.frames:
            self.discard()
            return
        self._writer.release()
        with self._rename_at_exit:
            readable = _count_frames(self._temporary)
            if readable != self.frames and not (keep_short and readable > 0):
                raise OSError(f"the video '{self.path}' is incomplete and was removed: is the disk full?")
        if readable != self.frames:
            raise OSError(f"the video '{self.path}' contains {readable} of {self.frames} frames: is the disk full?")

    def discard(self) -> None:
        """Remove the file."""
        self._writer.release()
        with suppress(_DiscardedError), self._rename_at_exit:
            raise _DiscardedError


class VideoRecorder:
    """Records a live source with annotations, in real time: the frame before a dropped one is repeated.

    If the disk is nearly full, the recording ends with a message, and the run continues.

    Args:
        path: An .mp4 file.
        on_message: Called with a line of text when the recording ends early.

    Raises:
        ValueError: If the name does not end in .mp4.
    """

    def __init__(self, path: str | Path, on_message: OnMessage | None = None) -> None:
        self._path = Path(path)
        if self._path.suffix.lower() != VIDEO_SUFFIX:
            raise ValueError(f"a recording must be an {VIDEO_SUFFIX} file. Received: '{path}'")
        self._on_message = on_message
        _remove_abandoned(self._path.parent, on_message)
        self._video: AtomicVideoWriter | None = None
        self._ended = False
        self._frames_per_second = DEFAULT_FRAMES_PER_SECOND
        self._frames_due = 0.0
        self._last_capture_s: float | None = None

    def write(self, labeled: LabeledFrame) -> None:
        """Add one labeled frame."""
        if self._ended:
            return
        frame = labeled.frame
        if self._video is None:
            self._frames_per_second = frame.frames_per_second or DEFAULT_FRAMES_PER_SECOND
            self._video = AtomicVideoWriter(self._path, self._frames_per_second, (frame.width & ~1, frame.height & ~1))
        elapsed_s = 1 / self._frames_per_second
        if frame.capture_time_s is not None and self._last_capture_s is not None:
            elapsed_s = min(frame.capture_time_s - self._last_capture_s, MAX_GAP_S)
        self._last_capture_s = frame.capture_time_s
        self._frames_due += elapsed_s * self._frames_per_second
        image = annotate(labeled)
        try:
            while self._video.frames < round(self._frames_due):
                self._video.write(image)
        except OSError as error:
            self._ended = True
            message = str(error)
            try:
                self._video.finish(keep_short=True)
            except OSError as incomplete:
                message += f"; {incomplete}"
            if self._on_message:
                self._on_message(message)

    def close(self, complete: bool) -> None:
        """Finish the file, however the run ended and even if frames are missing: it cannot be recorded again.

        Raises:
            OSError: If frames are missing.
        """
        if self._video is not None and not self._ended:
            self._ended = True
            self._video.finish(keep_short=True)


class AnnotatedFileWriter:
    """Writes annotated copies of images and video files.

    Args:
        target: A folder in which copies keep their path relative to ``source``. For a single image or video also a file.
        source: The image, video or folder that is labeled.
        on_message: Called with a line of text for each file of a killed run that is removed.

    Attributes:
        written: The files written so far.
    """

    def __init__(self, target: str | Path, source: str | Path, on_message: OnMessage | None = None) -> None:
        self._target = Path(target)
        self._source = Path(source)
        self._target_is_file = not self._source.is_dir() and bool(self._target.suffix)
        self._on_message = on_message
        self._video: AtomicVideoWriter | None = None
        self.written: list[Path] = []

    def write(self, labeled: LabeledFrame) -> None:
        """Write the annotated copy of an image, or the next frame of a video.

        Raises:
            OSError: If it cannot be written.
            ValueError: If the suffix of the target does not fit, or the copy would overwrite its source.
        """
        frame = labeled.frame
        path = self._copy_path(labeled)
        if not frame.number:
            self._finish_video()
        if frame.number is None:
            write_image(path, annotate(labeled))
            self.written.append(path)
            return
        if self._video is None:
            _remove_abandoned(path.parent, self._on_message)
            rate = frame.frames_per_second or DEFAULT_FRAMES_PER_SECOND
            self._video = AtomicVideoWriter(path, rate, (frame.width, frame.height))
        self._video.write(annotate(labeled))

    def close(self, complete: bool) -> None:
        """Finish the last video, or discard it if it is not complete.

        Raises:
            OSError: If the video cannot be written completely.
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

    def _copy_path(self, labeled: LabeledFrame) -> Path:
        source = Path(labeled.frame.source)
        is_image = labeled.frame.number is None
        if self._target_is_file:
            path = self._target
            suffixes = WRITABLE_SUFFIXES if is_image else (VIDEO_SUFFIX,)
            if path.suffix.lower() not in suffixes:
                kind = "an image" if is_image else "a video"
                raise ValueError(f"cannot save {kind} as '{path.name}'; choose one of: {', '.join(suffixes)}, or name a folder")
        else:
            name = source.relative_to(self._source) if self._source.is_dir() else Path(source.name)
            suffixes = WRITABLE_SUFFIXES if is_image else (VIDEO_SUFFIX,)
            suffix = "" if name.suffix.lower() in suffixes else DEFAULT_IMAGE_SUFFIX if is_image else VIDEO_SUFFIX
            path = self._target / name.with_name(f"{name.name}{suffix}")
        if path.resolve() == source.resolve():
            raise ValueError(f"the annotated copy would overwrite '{source}'. Choose another --save")
        return path


def _remove_abandoned(folder: Path, on_message: OnMessage | None) -> None:
    """Remove the unreadable videos of runs that were killed."""
    for path in remove_abandoned(folder, VIDEO_SUFFIX):
        if on_message:
            on_message(f"removed '{path}', left by a run that was killed")


def _count_frames(path: Path) -> int:
    with path_for_ffmpeg(path) as name:
        capture = UprightCapture(name)
        capture.release()
        return int(capture.frame_count)
