"""What comes out of the pipeline: JSON lines, text lines, annotated pictures and videos."""

import json
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from fer_edge.edge_runtime.pictures import PICTURE_SUFFIXES, Picture, import_cv2, write_picture
from fer_edge.edge_runtime.pipeline import LabelledFrame

GREEN = (60, 220, 60)
BLACK = (0, 0, 0)
FONT_SCALE_PER_PX = 1 / 700  # text grows with the picture
VIDEO_CODEC = "mp4v"
VIDEO_SUFFIX = ".mp4"


def as_data(labelled: LabelledFrame) -> dict[str, Any]:
    """Return a labelled frame as plain data: source, frame, and faces with box_px, label, probability, probabilities."""
    return {
        "source": str(labelled.frame.source),
        "frame": labelled.frame.number,
        "faces": [
            {
                "box_px": list(face.box_px),
                "label": face.prediction.label,
                "probability": face.prediction.probability,
                "probabilities": face.prediction.as_dict(),
            }
            for face in labelled.faces
        ],
    }


def as_json_line(labelled: LabelledFrame) -> str:
    """Return a labelled frame as one line of JSON."""
    return json.dumps(as_data(labelled))


def as_text_line(labelled: LabelledFrame) -> str:
    """Return a labelled frame as one line for people."""
    frame = labelled.frame
    name = str(frame.source) if frame.number is None else f"{frame.source} frame {frame.number}"
    told = [
        f"{face.prediction.label} {face.prediction.probability:.0%} at {','.join(map(str, face.box_px))}"
        for face in labelled.faces
    ]
    return f"{name}: {'; '.join(told) or 'no face'}"


def annotate(labelled: LabelledFrame) -> Picture:
    """Return a copy of the frame's picture with a box, label and probability for each face.

    Returns:
        uint8 array (height, width, 3), RGB.
    """
    cv2 = import_cv2()
    picture = labelled.frame.picture.copy()
    scale = max(0.4, max(picture.shape[:2]) * FONT_SCALE_PER_PX)
    thickness = max(1, round(2 * scale))
    for face in labelled.faces:
        x, y, width, height = face.box_px
        cv2.rectangle(picture, (x, y), (x + width, y + height), GREEN, thickness)
        text = f"{face.prediction.label} {face.prediction.probability:.0%}"
        (text_width, text_height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
        left = max(0, min(x, picture.shape[1] - text_width))
        base = y - below if y - below - text_height > 0 else min(y + height + text_height + below, picture.shape[0] - below)
        cv2.rectangle(picture, (left, base - text_height - below // 2), (left + text_width, base + below), GREEN, -1)
        cv2.putText(picture, text, (left, base), cv2.FONT_HERSHEY_SIMPLEX, scale, BLACK, thickness, cv2.LINE_AA)
    return np.asarray(picture, np.uint8)


class AnnotatedCopies:
    """Writes annotated copies of pictures and videos; a video gets its name when it is whole.

    Args:
        target: A folder, in which copies keep their place below ``source``; for a single picture or video also a file.
        source: What is run on.
    """

    def __init__(self, target: str | Path, source: str | Path) -> None:
        self._target = Path(target)
        self._source = Path(source)
        self._one_file = not self._source.is_dir() and bool(self._target.suffix)
        self._frames_written = 0
        self._video: Any = None
        self._video_paths: tuple[Path, Path] | None = None
        self.written: list[Path] = []

    def __enter__(self) -> "AnnotatedCopies":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close_video(whole=kind is None)

    def write(self, labelled: LabelledFrame) -> None:
        """Write the annotated copy of one picture, or one more frame of a video.

        Raises:
            OSError: If it cannot be written.
            ValueError: If the target's ending does not fit, or the copy would overwrite its source.
        """
        path = self._path(labelled)
        if labelled.frame.number is None:
            self._close_video(whole=True)
            write_picture(path, annotate(labelled))
            self.written.append(path)
            return
        if labelled.frame.number == 0:
            self._close_video(whole=True)
            self._open_video(path, labelled)
        cv2 = import_cv2()
        self._video.write(cv2.cvtColor(annotate(labelled), cv2.COLOR_RGB2BGR))
        self._frames_written += 1

    def _path(self, labelled: LabelledFrame) -> Path:
        source = labelled.frame.source
        still = labelled.frame.number is None
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

    def _open_video(self, path: Path, labelled: LabelledFrame) -> None:
        cv2 = import_cv2()
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{uuid.uuid4().hex[:8]}-{path.name}")
        height, width = labelled.frame.picture.shape[:2]
        codec = cv2.VideoWriter_fourcc(*VIDEO_CODEC)
        self._video = cv2.VideoWriter(str(temporary), codec, labelled.frame.frames_per_second or 25.0, (width, height))
        self._video_paths = temporary, path
        self._frames_written = 0
        if not self._video.isOpened():
            raise OSError(f"cannot write the video '{path}'")

    def _close_video(self, whole: bool) -> None:
        if self._video_paths is None:
            return
        temporary, path = self._video_paths
        self._video.release()
        self._video_paths = None
        try:
            # OpenCV's writer tells nobody of a full disk: count what can be read back.
            if whole and _count_frames(temporary) != self._frames_written:
                raise OSError(f"the video '{path}' could not be written whole: is the disk full?")
            if whole:
                temporary.replace(path)
                self.written.append(path)
        finally:
            temporary.unlink(missing_ok=True)


def _count_frames(path: Path) -> int:
    cv2 = import_cv2()
    capture = cv2.VideoCapture(str(path))
    try:
        return int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    finally:
        capture.release()
