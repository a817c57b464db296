"""The digest of a file."""

import hashlib
from pathlib import Path


def file_digest(path: Path) -> str:
    """Return the sha256 of a file, hexadecimal, as ``sha256sum`` prints it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
