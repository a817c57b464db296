"""Read the zip archive at the end of a .tflite file, with limits: the file may be damaged or hostile."""

import io
import os
import zipfile
from collections.abc import Sequence
from typing import BinaryIO

MAX_MEMBER_BYTES = 1 << 20
MAX_ARCHIVE_BYTES = 4 << 20
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def read_archive(file: BinaryIO, names: Sequence[str]) -> tuple[int, list[bytes]]:
    """Read members of the archive of a .tflite file.

    Args:
        file: The file, seekable.
        names: Names of the members.

    Returns:
        The position of the archive, where the flatbuffer ends, and the content of each member.

    Raises:
        ValueError: If the archive is damaged, or a member is missing or larger than 1 MB.
    """
    size = file.seek(0, os.SEEK_END)
    offset = file.seek(max(0, size - MAX_ARCHIVE_BYTES))
    try:
        with zipfile.ZipFile(io.BytesIO(file.read())) as archive:
            start = offset + min((member.header_offset for member in archive.infolist()), default=0)
            return start, [_read_member(archive, name) for name in names]
    except Exception as error:  # zipfile raises ten kinds of exceptions for damaged archives
        raise ValueError(str(error) or type(error).__name__) from error


def _read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    members = [member for member in archive.infolist() if member.filename == name]
    if len(members) != 1:
        raise ValueError(f"it contains {len(members)} files {name}")
    (member,) = members
    if member.file_size > MAX_MEMBER_BYTES:
        raise ValueError(f"its {name} has {member.file_size} bytes; the maximum is {MAX_MEMBER_BYTES}")
    if member.compress_type not in COMPRESSIONS:
        raise ValueError(f"its {name} has the unknown compression {member.compress_type}")
    with archive.open(member) as content:
        return content.read(MAX_MEMBER_BYTES + 1)  # checks the sum too; the size in the archive may be wrong
