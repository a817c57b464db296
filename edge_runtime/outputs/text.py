"""Labeled frames as lines: on a terminal, as JSON lines, as CSV."""

import csv
import io
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from fer_edge.edge_runtime.cameras.camera import OnMessage
from fer_edge.edge_runtime.live.pipeline import LabeledFrame
from fer_edge.edge_runtime.live.stats import PipelineStats
from fer_edge.edge_runtime.outputs.output import as_json_line, as_text_line

LOG_SUFFIXES = (".jsonl", ".csv")
COLUMNS = ("source", "frame", "time", "face", "x", "y", "width", "height", "label", "probability")

ToLine = Callable[[LabeledFrame], str]


def csv_header(labels: tuple[str, ...]) -> str:
    """Return the header row for a model's labels, without an end of line."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow([*COLUMNS, *labels])
    return text.getvalue()


class CsvFormatter:
    """One row per face, after a header row. Call it with labeled frames one after another.

    Args:
        labels: The model's labels: one column each.
        header: Whether the header row comes first.
    """

    def __init__(self, labels: tuple[str, ...], header: bool = True) -> None:
        self._labels = labels
        self._header = header

    def __call__(self, labeled: LabeledFrame) -> str:
        """Return the rows of a frame; nothing where no face was found."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if self._header:
            self._header = False
            text.write(csv_header(self._labels) + "\n")
        frame = labeled.frame
        for face in labeled.faces:
            shares = [f"{face.probabilities[label]:.4f}" for label in self._labels]
            when = "" if frame.time is None else f"{frame.time:.3f}"
            writer.writerow(
                [frame.source, frame.number, when, face.number, *face.box_px, face.label, f"{face.probability:.4f}", *shares]
            )
        return text.getvalue().rstrip("\n")


class LineWriter:
    """Prints each frame.

    Args:
        format_frame: Turns a frame into text; an empty one is not printed.
        file: Where to.
    """

    def __init__(self, format_frame: ToLine, file: IO[str]) -> None:
        self._to_line = format_frame
        self._file = file

    def write(self, labeled: LabeledFrame) -> None:
        """Print one frame, at once: who reads along wants it now, and a kill must not cost more than a line."""
        line = self._to_line(labeled)
        if line:
            self._file.write(line + "\n")
            self._file.flush()

    def close(self, complete: bool) -> None:
        """Leave the file to its owner."""


class LogFile:
    """Appends each frame to a .jsonl or .csv file, one write a frame.

    When the disk is full it ends, says so, and what runs goes on.

    Args:
        path: The file; what it holds already stays.
        labels: The model's labels.
        on_message: Called with a line when it ends early.

    Raises:
        ValueError: If it is neither .jsonl nor .csv, or a .csv with other columns.
        OSError: If it cannot be written.
    """

    def __init__(self, path: str | Path, labels: tuple[str, ...], on_message: OnMessage | None = None) -> None:
        target = Path(path)
        if target.suffix.lower() not in LOG_SUFFIXES:
            raise ValueError(f"a log is a file ending in {' or '.join(LOG_SUFFIXES)}. Received: '{path}'")
        target.parent.mkdir(parents=True, exist_ok=True)
        empty = not target.exists() or target.stat().st_size == 0
        rows = target.suffix.lower() == ".csv"
        if rows and not empty:
            _check_header(target, csv_header(labels))
        self._file = target.open("a", encoding="utf-8", newline="")
        if not empty and not _ends_with_newline(target):
            self._file.write("\n")  # a process was killed in the middle of the last line
        format_frame: ToLine = CsvFormatter(labels, header=empty) if rows else as_json_line
        self._lines = LineWriter(format_frame, self._file)
        self._path = path
        self._on_message = on_message
        self._ended = False

    def write(self, labeled: LabeledFrame) -> None:
        """Append one frame."""
        if self._ended:
            return
        try:
            self._lines.write(labeled)
        except OSError as error:
            self._ended = True
            with suppress(OSError):  # the line that did not fit
                self._file.close()
            if self._on_message:
                self._on_message(f"the log '{self._path}' ends here: {error.strerror or error}")

    def close(self, complete: bool) -> None:
        """Close the file."""
        self._file.close()


class StatusLine:
    """What the camera shows now: one line that is written over on a terminal, a line at each change elsewhere.

    Args:
        file: Where to.
        stats: The pipeline's counters, shown on a terminal.
        every_s: Least time between two updates on a terminal, seconds.
    """

    def __init__(self, file: IO[str], stats: PipelineStats, every_s: float = 0.1) -> None:
        self._file = file
        self._stats = stats
        self._every_s = every_s
        self._terminal = file.isatty()
        self._last: tuple[tuple[int | None, str], ...] | None = None
        self._shown_s = float("-inf")

    def write(self, labeled: LabeledFrame) -> None:
        """Show one frame."""
        shown = tuple(sorted((face.number, face.label) for face in labeled.faces))
        now = labeled.frame.capture_time_s or 0.0
        changed = shown != self._last
        if not changed and (not self._terminal or now - self._shown_s < self._every_s):
            return
        self._last, self._shown_s = shown, now
        if not self._terminal:
            self._file.write(as_text_line(labeled) + "\n")
        else:
            told = ", ".join(f"{face.label} {face.probability:.0%}" for face in labeled.faces) or "no face"
            text = f"{self._stats.frames_per_second:5.1f} frames/s  {told}"
            width = shutil.get_terminal_size().columns - 1
            self._file.write("\r" + text[:width].ljust(width))
        self._file.flush()

    def close(self, complete: bool) -> None:
        """Leave the last line standing."""
        if self._terminal and self._last is not None:
            self._file.write("\n")
            self._file.flush()


def _check_header(path: Path, wanted: str) -> None:
    with path.open(encoding="utf-8", errors="replace") as file:
        found = file.readline().rstrip("\n")
    if found != wanted:
        raise ValueError(
            f"the log '{path}' has other columns, as of a model with other labels: '{found}' instead of '{wanted}'. "
            "Choose another file"
        )


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1) == b"\n"
