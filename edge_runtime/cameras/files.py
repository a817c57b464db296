"""Frames of image and video files."""

import threading
from collections.abc import Callable, Generator
from pathlib import Path

from fer_edge.edge_runtime.cameras.camera import OnMessage
from fer_edge.edge_runtime.cameras.capture import UprightCapture, path_for_ffmpeg
from fer_edge.edge_runtime.cameras.find_files import MediaFile, find_files
from fer_edge.edge_runtime.cameras.frame import Frame
from fer_edge.edge_runtime.cameras.mp4_duration import mp4_duration_s
from fer_edge.edge_runtime.images import MAX_PIXELS, read_image

DEFAULT_FRAMES_PER_SECOND = 25.0  # of a video that does not report a plausible rate
MIN_FRAME_BYTES = 8
MIN_ATTEMPTS = 10  # to read on after damage, also where a container estimates too few frames
MIN_SHARE_OF_DURATION = 0.9  # the sound may be longer than the images
MAX_FRAME_S = 0.5  # the last frame may be shown this long
GAP_FRAMES = 10


class FileSource:
    """An image, a video, or a folder of both.

    Args:
        path: The file or folder.
    """

    live = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)

    def frames(self, stop: threading.Event, on_message: OnMessage | None = None) -> Generator[Frame, None, None]:
        """Yield the frames in order of the file names.

        Args:
            stop: As in Source.frames.
            on_message: As in Source.frames.
        """
        for frame in read_frames(self.path, on_message):
            if stop.is_set():
                return
            yield frame


def read_frames(source: str | Path, on_message: Callable[[str], None] | None = None) -> Generator[Frame, None, None]:
    """Yield the frames of an image, a video or a folder, in order of the file names.

    Args:
        source: File or folder.
        on_message: Called with the reason for each file of a folder that cannot be read, with the number of frames of a video
            that only partly can, and at the end with the files of a folder that were left out. If no file can be read, the
            last error is raised instead.

    Raises:
        FileNotFoundError: If ``source`` does not exist.
        ValueError: If it contains no images or videos, or none of its files can be read.
    """
    report = on_message or (lambda text: None)
    files, left_out = find_files(source)
    unreadable = 0
    for file in files:
        try:
            if file.is_video:
                yield from _video_frames(file, report)
            else:
                yield Frame(file.path, None, read_image(file.path))
        except (ValueError, OSError) as error:
            unreadable += 1
            if unreadable == len(files):
                raise
            left_out.add("damaged", file.path)
            report(f"skipped: {error}")
    if left_out.names:
        total = sum(map(len, left_out.names.values()))
        report(f"left out {total} of {len(files) - unreadable + total} in '{source}': {left_out}")


def _video_frames(file: MediaFile, report: Callable[[str], None]) -> Generator[Frame, None, None]:
    """Yield the frames of a video. After a gap in a damaged file, the numbers continue as if the lost frames were there."""
    path = file.path
    with path_for_ffmpeg(path) as name:
        capture = UprightCapture(name)
        count = _plausible_count(capture.frame_count, path.stat().st_size)
        rate = capture.frames_per_second or DEFAULT_FRAMES_PER_SECOND
        read = lost = failed = 0
        end_s = longest_gap_s = 0.0
        try:
            while capture.is_open:
                pixels = capture.read()
                if pixels is None:
                    failed += 1  # each attempt drops one packet, so that reading can go on after damaged ones
                    if failed > max(count - read - lost, MIN_ATTEMPTS):
                        break
                    continue
                lost, failed = (lost + failed if read else 0), 0
                longest_gap_s = max(longest_gap_s, capture.position_s - end_s)
                end_s = max(end_s, capture.position_s)  # the last frames of an AVI file may have no position
                yield Frame(path, read + lost, pixels, "bgr", rate, frame_count=count or None)
                read += 1
        finally:
            capture.release()
    if not read:
        raise ValueError(
            f"cannot read any frame of the video '{path}': it is damaged, was cut off while it was recorded, has an unknown "
            f"codec, or more than {MAX_PIXELS} pixels per frame"
        )
    # Not by the number of frames alone: an edit list hides some, and most containers only estimate it.
    ends_early = end_s < (mp4_duration_s(path) or count / rate) * MIN_SHARE_OF_DURATION - MAX_FRAME_S
    has_gap = longest_gap_s > max(GAP_FRAMES / rate, MAX_FRAME_S) and read < count * MIN_SHARE_OF_DURATION
    if lost or (read < count and (ends_early or has_gap)):
        report(f"the video '{path}' is damaged: {read} of {max(count, read + lost)} frames can be read")


def _plausible_count(reported: float, file_bytes: int) -> int:
    """Return the reported number of frames; 0 if a damaged index reports a negative number or more than the file can hold."""
    return int(reported) if 0 < reported * MIN_FRAME_BYTES <= file_bytes else 0
