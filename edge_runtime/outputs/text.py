"""Labeled frames as lines of text: on a terminal, as JSON lines, as CSV."""

import csv
import io
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from fer_edge.artifacts.printable import csv_cell
from fer_edge.edge_runtime.cameras.camera import OnMessage
from fer_edge.edge_runtime.live.pipeline import LabeledFrame
from fer_edge.edge_runtime.live.stats import PipelineStats
from fer_edge.edge_runtime.outputs.output import as_json_line, as_text_line, label_with_percent

LOG_SUFFIXES = (".jsonl", ".csv")
COLUMNS = ("source", "frame", "time", "face", "x", "y", "width", "height", "score", "label", "probability")

FormatFrame = Callable[[LabeledFrame], str]


def csv_header(labels: tuple[str, ...]) -> str:
    """Return the header row for a model's labels, without a newline."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow([*COLUMNS, *map(csv_cell, labels)])
    return text.getvalue()


class CsvFormatter:
    """Formats labeled frames as CSV, one row per face. Call it with one frame after another.

    Args:
        labels: The model's labels, one column each.
        header: Whether the first call returns the header row too.
    """

    def __init__(self, labels: tuple[str, ...], header: bool = True) -> None:
        self._labels = labels
        self._header = header

    def __call__(self, labeled: LabeledFrame) -> str:
        """Return the rows of a frame; an empty string if it has no faces."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if self._header:
            self._header = False
            text.write(csv_header(self._labels) + "\n")
        frame = labeled.frame
        for face in labeled.faces:
            probabilities = [f"{face.probabilities[label]:.4f}" for label in self._labels]
            time = "" if frame.time is None else f"{frame.time:.3f}"
            source, label = csv_cell(str(frame.source)), csv_cell(face.label)
            score, probability = f"{face.score:.3f}", f"{face.probability:.4f}"
            row = [source, frame.number, time, face.number, *face.box_px, score, label, probability]
            writer.writerow([*row, *probabilities])
        return text.getvalue().rstrip("\n")


class LineWriter:
    """Writes each frame to an open file.

    Args:
        format_frame: Returns the text of a frame, without the last newline. An empty text is not written.
        file: The file.
    """

    def __init__(self, format_frame: FormatFrame, file: IO[str]) -> None:
        self._format_frame = format_frame
        self._file = file

    def write(self, labeled: LabeledFrame) -> None:
        """Write and flush one frame, so that readers see it at once and a kill loses at most one line."""
        line = self._format_frame(labeled)
        if line:
            self._file.write(line + "\n")
            self._file.flush()

    def close(self, complete: bool) -> None:
        """Do nothing: the caller closes the file."""


class LogFile:
    """Appends each frame to a .jsonl or .csv file.

    If the disk is full, the log ends with a message, and the run continues.

    Args:
        path: The file. Its content is kept.
        labels: The model's labels.
        on_message: Called with a line of text when the log ends early.

    Raises:
        ValueError: If the file is neither .jsonl nor .csv, or a .csv with other columns.
        OSError: If the file cannot be written.
    """

    def __init__(self, path: str | Path, labels: tuple[str, ...], on_message: OnMessage | None = None) -> None:
        target = Path(path)
        suffix = target.suffix.lower()
        if suffix not in LOG_SUFFIXES:
            raise ValueError(f"a log must be a {' or '.join(LOG_SUFFIXES)} file. Received: '{path}'")
        target.parent.mkdir(parents=True, exist_ok=True)
        empty = not target.exists() or target.stat().st_size == 0
        if suffix == ".csv" and not empty:
            _check_header(target, csv_header(labels))
        self._file = target.open("a", encoding="utf-8", errors="backslashreplace", newline="")
        if not empty and not _ends_with_newline(target):
            self._file.write("\n")  # a process was killed in the middle of the last line
        format_frame: FormatFrame = CsvFormatter(labels, header=empty) if suffix == ".csv" else as_json_line
        self._writer = LineWriter(format_frame, self._file)
        self._path = path
        self._on_message = on_message
        self._ended = False

    def write(self, labeled: LabeledFrame) -> None:
        """Append one frame."""
        if self._ended:
            return
        try:
            self._writer.write(labeled)
        except OSError as error:
            self._ended = True
            with suppress(OSError):  # closing flushes the line that did not fit
                self._file.close()
            if self._on_message:
                self._on_message(f"the log '{self._path}' ends here: {error.strerror or error}")

    def close(self, complete: bool) -> None:
        """Close the file."""
        self._file.close()


class StatusLine:
    """Shows the current faces: one line that is overwritten on a terminal, or one line per change in a file.

    Args:
        file: The terminal or file.
        stats: The pipeline's counters, shown on a terminal.
        min_interval_s: Time between two updates of a terminal if nothing changes, seconds.
    """

    def __init__(self, file: IO[str], stats: PipelineStats, min_interval_s: float = 0.1) -> None:
        self._file = file
        self._stats = stats
        self._min_interval_s = min_interval_s
        self._is_terminal = file.isatty()
        self._last: tuple[tuple[int | None, str], ...] | None = None
        self._updated_s = float("-inf")

    def write(self, labeled: LabeledFrame) -> None:
        """Show one frame."""
        current = tuple(sorted((face.number, face.label) for face in labeled.faces))
        now = labeled.frame.capture_time_s or 0.0
        changed = current != self._last
        if not changed and (not self._is_terminal or now - self._updated_s < self._min_interval_s):
            return
        self._last, self._updated_s = current, now
        if not self._is_terminal:
            self._file.write(as_text_line(labeled) + "\n")
        else:
            faces = ", ".join(map(label_with_percent, labeled.faces)) or "no face"
            text = f"{self._stats.frames_per_second:5.1f} frames/s  {faces}"
            width = shutil.get_terminal_size().columns - 1
            self._file.write("\r" + text[:width].ljust(width))
        self._file.flush()

    def close(self, complete: bool) -> None:
        """Keep the last line on the terminal."""
        if self._is_terminal and self._last is not None:
            self._file.write("\n")
            self._file.flush()


def _check_header(path: Path, expected: str) -> None:
    with path.open(encoding="utf-8", errors="replace") as file:
        header = file.readline().rstrip("\n")
    if header != expected:
        raise ValueError(
            f"the log '{path}' has other columns, probably from a model with other labels. Expected: '{expected}'. "
            f"Received: '{header}'. Choose another file"
        )


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1) == b"\n"
