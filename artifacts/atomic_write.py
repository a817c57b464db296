"""Write files as a whole or not at all: first under a temporary name in the same folder, then one rename."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path next to ``path`` and rename it to ``path`` when the block ends without an error.

    The temporary name keeps the suffix of ``path``, because some writers derive the format from it. Missing folders are
    created. If the block raises, the temporary file is removed and ``path`` stays as it was.

    Args:
        path: The file to write.

    Yields:
        The temporary path to write to.

    Raises:
        OSError: If the folder cannot be written to or the disk is full.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{uuid.uuid4().hex[:8]}-{target.name}")
    try:
        yield temporary
        # Without the sync, a power cut just after the rename can leave an empty file under the final name.
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


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
