"""Control what C and C++ libraries write to standard error: libjpeg and libpng name no file and cannot be asked to be quiet."""

import contextlib
import os
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from fer_edge.artifacts.debug import is_debugging

STDERR_LOCK = threading.Lock()
# Start of the lines of libraries. Everything else is from another thread, and is passed on.
LIBRARY_LINE = re.compile(
    rb"libpng |Corrupt JPEG|Premature end|Invalid SOS|Inconsistent progression|Unknown Adobe|Warning: unknown JFIF|"
    rb"Unsupported marker|Application transferred|\[ ?(WARN|ERROR|INFO|DEBUG|FATAL)|imdecode_|TIFF|OpenCV|\s*$"
)


class Captured:
    """What a block wrote to standard error.

    Attributes:
        text: The text, complete after the block.
    """

    text = ""


@contextlib.contextmanager
def suppress_stderr() -> Iterator[None]:
    """Discard everything that the process writes to standard error in the block, including C++ code. Exceptions pass."""
    with Path(os.devnull).open("wb") as null, _redirected(null.fileno()):
        yield


@contextlib.contextmanager
def capture_stderr() -> Iterator[Captured]:
    """Keep what libraries write to standard error in the block. FER_EDGE_DEBUG shows it too.

    Yields:
        The text, complete after the block.
    """
    captured = Captured()
    memory = os.memfd_create("stderr")
    try:
        with _redirected(memory):
            yield captured
        if os.lseek(memory, 0, os.SEEK_CUR):
            content = os.pread(memory, 1 << 16, 0)
            captured.text = content.decode(errors="replace")
            _pass_on(content)
    finally:
        os.close(memory)


def _pass_on(content: bytes) -> None:
    debug = is_debugging()
    lines = [line for line in content.splitlines(keepends=True) if debug or not LIBRARY_LINE.match(line)]
    if lines:
        with contextlib.suppress(OSError):
            os.write(2, b"".join(lines))


@contextlib.contextmanager
def _redirected(target: int) -> Iterator[None]:
    """Redirect file descriptor 2 to another one in the block."""
    with STDERR_LOCK:
        try:
            saved = os.dup(2)
        except OSError:  # a service without standard error
            yield
            return
        try:
            _flush()
            os.dup2(target, 2)
            yield
        finally:
            _flush()
            os.dup2(saved, 2)
            os.close(saved)


def _flush() -> None:
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
