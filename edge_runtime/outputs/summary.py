"""Labeled files for readers: a line per image; for a video a progress bar, and a summary at its end."""

import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import IO

from fer_edge.artifacts.printable import printable
from fer_edge.edge_runtime.live.pipeline import LabeledFrame
from fer_edge.edge_runtime.outputs.output import as_text_line

NO_FACE = "no face"
DEFAULT_FRAMES_PER_SECOND = 25.0
BAR_CHARACTERS = 30
BAR_INTERVAL_S = 0.2


@dataclass
class VideoSummary:
    """How the time of a video is divided among the labels.

    Attributes:
        source: Name of the video.
        frame_count: Number of frames that the video states; None if unknown.
        frames_per_second: Frame rate.
        frames: Number of labeled frames.
        shares: Frames by label. A frame with several faces is divided among them.
        faces: Numbers of the faces so far.
    """

    source: str
    frame_count: int | None
    frames_per_second: float
    frames: int = 0
    shares: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    faces: set[int | None] = field(default_factory=set)

    def add(self, labeled: LabeledFrame) -> None:
        """Add the next frame."""
        self.frames += 1
        self.faces.update(face.number for face in labeled.faces)
        for label in [face.label for face in labeled.faces] or [NO_FACE]:
            self.shares[label] += 1 / max(len(labeled.faces), 1)

    def __str__(self) -> str:
        """Return the summary: one line for the video, and one per label, the largest share first."""
        seconds = self.frames / self.frames_per_second
        count = f"{self.frames} frame{'' if self.frames == 1 else 's'}"
        if self.frame_count and self.frames != self.frame_count:
            count = f"{self.frames} of {self.frame_count} frames"
        faces = f"{len(self.faces)} face{'' if len(self.faces) == 1 else 's'}"
        width = max(map(len, map(printable, self.shares)), default=0)
        lines = [f"{self.source}: {count}, {seconds:.1f} s, {faces}"]
        for label, share in sorted(self.shares.items(), key=lambda item: (-item[1], item[0])):
            lines.append(f"  {printable(label):{width}} {share / self.frames:5.0%} {share / self.frames_per_second:8.1f} s")
        return "\n".join(lines)


class FileReport:
    """Prints a line per image, and a summary per video.

    Args:
        file: Receives the lines and summaries.
        terminal: Receives the progress bar; None shows none.
    """

    def __init__(self, file: IO[str], terminal: IO[str] | None = None) -> None:
        self._file = file
        self._bar = ProgressBar(terminal)
        self._summary: VideoSummary | None = None

    def write(self, labeled: LabeledFrame) -> None:
        """Print an image, or count a frame of a video."""
        frame = labeled.frame
        if not frame.number:
            self._finish_video()
        if frame.number is None:
            self._print(as_text_line(labeled))
            return
        if self._summary is None:
            rate = frame.frames_per_second or DEFAULT_FRAMES_PER_SECOND
            self._summary = VideoSummary(printable(str(frame.source)), frame.frame_count, rate)
        self._summary.add(labeled)
        self._bar.show(self._summary.source, self._summary.frames, self._summary.frame_count)

    def close(self, complete: bool) -> None:
        """Print the summary of the last video, also if it is not complete."""
        self._finish_video()

    def _finish_video(self) -> None:
        self._bar.clear()
        if self._summary is not None:
            self._print(str(self._summary))
            self._summary = None

    def _print(self, text: str) -> None:
        self._file.write(text + "\n")
        self._file.flush()


class ProgressBar:
    """A line on a terminal that is overwritten.

    Args:
        terminal: The terminal; None shows nothing.
    """

    def __init__(self, terminal: IO[str] | None) -> None:
        self._terminal = terminal
        self._shown_s = float("-inf")
        self._width = 0

    def show(self, title: str, done: int, total: int | None) -> None:
        """Update the line, at most five times per second.

        Args:
            title: Name of the job.
            done: Number of frames so far.
            total: Number of all frames; None if unknown.
        """
        now = time.monotonic()
        if self._terminal is None or now - self._shown_s < BAR_INTERVAL_S:
            return
        self._shown_s = now
        text = f"{title[-40:]}  {done} frames"
        if total:
            filled = min(BAR_CHARACTERS * done // total, BAR_CHARACTERS)
            text = f"{title[-40:]}  [{'#' * filled}{'.' * (BAR_CHARACTERS - filled)}] {done}/{total} frames"
        self._write("\r" + text.ljust(self._width))
        self._width = len(text)

    def clear(self) -> None:
        """Remove the line."""
        if self._width:
            self._write("\r" + " " * self._width + "\r")
            self._width = 0

    def _write(self, text: str) -> None:
        if self._terminal is not None:
            self._terminal.write(text)
            self._terminal.flush()


def terminal_of_errors() -> IO[str] | None:
    """Return standard error if it is a terminal, else None."""
    return sys.stderr if sys.stderr is not None and sys.stderr.isatty() else None
