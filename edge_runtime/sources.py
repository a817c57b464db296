"""Where frames come from: pictures, folders and video files. A live camera will be one more kind of source here."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fer_edge.edge_runtime.pictures import PICTURE_SUFFIXES, Picture, import_cv2, read_picture

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")


@dataclass(frozen=True)
class Frame:
    """One picture, or one frame of a video.

    Attributes:
        source: The file it comes from.
        number: Number of the frame in its video, from 0; None for a picture.
        picture: uint8 array (height, width, 3), RGB.
        frames_per_second: Of the video; None for a picture.
    """

    source: Path
    number: int | None
    picture: Picture
    frames_per_second: float | None = None


def list_files(source: str | Path) -> list[Path]:
    """Return the pictures and videos of a source: the file itself, or those of a folder and its sub-folders.

    Raises:
        FileNotFoundError: If there is nothing at ``source``.
        ValueError: If it is a file of another kind, or a folder without pictures and videos.
    """
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(f"no picture, folder or video at '{source}'")
    known = PICTURE_SUFFIXES + VIDEO_SUFFIXES
    if path.is_file():
        if path.suffix.lower() not in known:
            raise ValueError(f"'{path}' is neither a picture nor a video; known endings: {', '.join(known)}")
        return [path]
    files = [file for file in sorted(path.rglob("*")) if file.is_file() and file.suffix.lower() in known]
    if not files:
        raise ValueError(f"the folder '{path}' holds no pictures and no videos; known endings: {', '.join(known)}")
    return files


def read_frames(source: str | Path, on_skip: Callable[[str], None] | None = None) -> Iterator[Frame]:
    """Yield the frames of a picture, a folder or a video file, in order of their names.

    Args:
        source: File or folder.
        on_skip: Called with the reason for each file of a folder that cannot be read. A single file that cannot be
            read raises instead.

    Raises:
        FileNotFoundError: If there is nothing at ``source``.
        ValueError: If it holds nothing to read, or no file of it can be read.
    """
    files = list_files(source)
    unread = 0
    for file in files:
        try:
            if file.suffix.lower() in VIDEO_SUFFIXES:
                yield from _video_frames(file)
            else:
                yield Frame(file, None, read_picture(file))
        except (ValueError, OSError) as error:
            unread += 1
            if unread == len(files):
                raise
            if on_skip:
                on_skip(str(error))


def _video_frames(path: Path) -> Iterator[Frame]:
    cv2 = import_cv2()
    capture = cv2.VideoCapture(str(path))
    try:
        rate = float(capture.get(cv2.CAP_PROP_FPS)) or 25.0
        number = 0
        while True:
            read, frame = capture.read()
            if not read:
                break
            yield Frame(path, number, np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8), rate)
            number += 1
    finally:
        capture.release()
    if not number:
        raise ValueError(f"cannot read a single frame of the video '{path}': it is damaged or of an unknown codec")
