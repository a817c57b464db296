"""The files of a dataset: a folder or a zip, by their path inside it."""

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from fer_edge.artifacts.reporter import Progress
from fer_edge.edge_runtime.file_types import IMAGE_SUFFIXES
from fer_edge.edge_runtime.images import Image, decode_image
from fer_edge.train.dataset import DataError

HIDDEN = ("__MACOSX", ".")
UTF8_FLAG = 0x800  # of a zip member whose name is UTF-8


class DatasetFiles:
    """The files of a folder or a zip.

    Args:
        path: The folder or zip.

    Attributes:
        path: The folder or zip.
        folders: Paths of the folders inside it.
        files: Paths of the files inside it, sorted.

    Raises:
        DataError: If it is neither a folder nor a zip, or a damaged zip.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._zip: zipfile.ZipFile | None = None
        self._members: dict[str, zipfile.ZipInfo] = {}
        if path.is_dir():
            names = [p.relative_to(path).as_posix() + ("/" if p.is_dir() else "") for p in sorted(path.rglob("*"))]
        else:
            self._zip = _open_zip(path)
            self._members = {_member_name(member): member for member in self._zip.infolist()}
            names = sorted(self._members)
        shown = [name for name in names if not any(part.startswith(HIDDEN) for part in PurePosixPath(name).parts)]
        self.folders = [name.rstrip("/") for name in shown if name.endswith("/")]
        self.files = [name for name in shown if not name.endswith("/")]

    @property
    def images(self) -> list[str]:
        """Paths of the files that are images by their suffix."""
        return [name for name in self.files if name.lower().endswith(IMAGE_SUFFIXES)]

    def read(self, name: str) -> bytes:
        """Return the content of a file.

        Raises:
            ValueError: If it cannot be read.
        """
        if self._zip is None:
            return (self.path / name).read_bytes()
        try:
            return self._zip.read(self._members[name])
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
            raise ValueError(f"cannot read '{name}' from {self.path} ({error})") from error

    def decoded(self, names: Sequence[str], damaged: list[str], progress: Progress | None) -> Iterator[tuple[str, Image]]:
        """Yield the name and the image, uint8 (height, width, 3), RGB, of each file that can be decoded.

        Args:
            names: Paths of images.
            damaged: Receives a line for each file that cannot be decoded.
            progress: Called with (files done, number of files).
        """
        for done, name in enumerate(names, start=1):
            try:
                image = decode_image(self.read(name), name)
            except ValueError as error:
                damaged.append(str(error))
            else:
                yield name, image
            if progress:
                progress(done, len(names))

    def close(self) -> None:
        """Close the zip."""
        if self._zip is not None:
            self._zip.close()


def gray_if_equal(image: Image) -> Image:
    """Return one channel if all three are equal, as in a gray image.

    Args:
        image: uint8 array (height, width, 3).

    Returns:
        uint8 array (height, width), or ``image`` itself.
    """
    first = image[:, :, 0]
    if np.array_equal(first, image[:, :, 1]) and np.array_equal(first, image[:, :, 2]):
        return np.ascontiguousarray(first)
    return image


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        with path.open("rb") as file:
            if file.read(2) != b"PK":
                raise DataError(f"{path} is neither a folder nor a zip nor a .csv file. Give one of these") from error
        raise DataError(f"{path} is a truncated or damaged zip ({error}). Download it again") from error


def _member_name(member: zipfile.ZipInfo) -> str:
    """Return the name of a member. macOS writes UTF-8 without the flag for it, so Python decodes it as code page 437."""
    if not member.flag_bits & UTF8_FLAG:
        try:
            return member.filename.encode("cp437").decode("utf-8")
        except UnicodeError:
            pass
    return member.filename
