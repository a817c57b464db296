"""Write files as a whole or not at all: first under a temporary name in the same folder, then one rename."""

import fcntl
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

TEMPORARY_NAME = re.compile(r"\.[0-9a-f]{8}-.+")
UNUSUAL_CHARACTER = re.compile(r"[^A-Za-z0-9._-]")
MAX_PLAIN_CHARACTERS = 60


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path next to ``path`` and rename it to ``path`` when the block ends without an error.

    The temporary name keeps the suffix of ``path``, because some writers derive the format from it. It is short and has only
    characters that every program accepts. Missing folders are created. If the block raises, the temporary file is removed and
    ``path`` stays as it was.

    Args:
        path: The file to write.

    Yields:
        The temporary path to write to.

    Raises:
        OSError: If the folder cannot be written to or the disk is full.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    plain_name = UNUSUAL_CHARACTER.sub("_", target.name)[-MAX_PLAIN_CHARACTERS:]
    temporary = target.with_name(f".{uuid.uuid4().hex[:8]}-{plain_name}")
    try:
        yield temporary
        # Without the sync, a power cut just after the rename can leave an empty file under the final name.
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: str | Path) -> None:
    """Check before long work that a file can be written at its end. Nothing is written.

    Args:
        path: The file. Missing folders will be created.

    Raises:
        IsADirectoryError: If it is a folder.
        NotADirectoryError: If a folder in its path is a file.
        PermissionError: If the user may not write there.
    """
    target = Path(path).absolute()
    if target.is_dir():
        raise IsADirectoryError(f"'{path}' is a folder. Name a file in it")
    folder = next(parent for parent in target.parents if parent.exists())
    if not folder.is_dir():
        raise NotADirectoryError(f"'{folder}' is not a folder, so '{path}' cannot be written. Choose another folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"'{path}' cannot be written: no permission in '{folder}'. Choose another folder")


def atomic_write(path: str | Path, content: bytes | str) -> None:
    """Write a file as a whole or not at all.

    Args:
        path: The file to write.
        content: Its content. Text is written as UTF-8.

    Raises:
        OSError: If the folder cannot be written to or the disk is full.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def lock_temporary(path: Path) -> BinaryIO:
    """Create a temporary file, or open it, and mark it as in use until the returned file is closed or the process ends.

    Args:
        path: From atomic_path. Another writer may open it at the same time.

    Raises:
        OSError: If the file cannot be created.
    """
    file = path.open("ab")
    with suppress(OSError):  # a file system without locks
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return file


def remove_abandoned(folder: Path, suffix: str) -> list[Path]:
    """Remove temporary files of killed processes from a folder, but not from its sub-folders.

    Args:
        folder: The folder; nothing happens if it does not exist.
        suffix: Suffix of the files, such as ``.mp4``. Only files that lock_temporary marks while they are in use may have it.

    Returns:
        The removed files.
    """
    removed = []
    for path in sorted(folder.glob(f".*{suffix}")):
        if not TEMPORARY_NAME.fullmatch(path.name) or path.is_symlink() or not path.is_file():
            continue
        with suppress(OSError), path.open("ab") as file:  # locked, or not writable
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
            removed.append(path)
    return removed
