"""Standard input, output and error as a command can rely on them, also if the caller has closed them."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from fer_edge.artifacts.debug import is_debugging


def open_standard_streams() -> None:
    """Replace closed standard streams by the null device, and let output escape characters that it cannot show.

    Without this, the next file to be opened would get the number of the closed stream, and the messages of libraries would be
    written into it.
    """
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)  # the lowest free number
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(descriptor, mode, closefd=False))
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # a test's stream has none
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


@contextmanager
def without_library_messages() -> Iterator[None]:
    """Hide what libpng, libjpeg, FFmpeg and OpenCV write to standard error in the block; FER_EDGE_DEBUG shows it.

    Messages of Python pass, as long as they go through sys.stderr.
    """
    stderr = sys.stderr
    if is_debugging() or not _is_descriptor_2(stderr):
        yield
        return
    stderr.flush()
    visible = os.dup(2)
    with Path(os.devnull).open("wb") as null, os.fdopen(visible, "w", buffering=1, errors="backslashreplace") as replacement:
        os.dup2(null.fileno(), 2)
        sys.stderr = replacement
        try:
            yield
        finally:
            sys.stderr = stderr
            replacement.flush()
            os.dup2(visible, 2)


def _is_descriptor_2(stream: TextIO) -> bool:
    try:
        return stream.fileno() == 2
    except (OSError, ValueError, AttributeError):  # replaced by a test, for example
        return False
