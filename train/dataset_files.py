"""The files of a dataset: a folder, a zip or a folder of zips, by their path inside it."""

import stat
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from fer_edge.artifacts.reporter import Progress
from fer_edge.edge_runtime.cameras.find_files import SKIPPED_FOLDERS, LeftOut, walk_files
from fer_edge.edge_runtime.file_types import HEAD_BYTES, IMAGE_SUFFIXES, file_type
from fer_edge.edge_runtime.images import Image, decode_image
from fer_edge.train.dataset import DataError
from fer_edge.train.official_splits import split_of_name

UTF8_FLAG = 0x800  # of a zip member whose name is UTF-8
MAX_IMAGE_BYTES = 64 << 20
MAX_TABLE_BYTES = 1 << 30  # fer2013.csv has 301 MB
TABLE_SUFFIXES = (".csv", ".tsv")
# Files that belong to datasets but show no face; they are left out without a word.
COMPANION_SUFFIXES = (".txt", ".md", ".json", ".xml", ".yaml", ".yml", ".html", ".pdf", ".ini", ".py", ".ipynb", ".m", ".mat")
ARCHIVE = "archive"

Read = Callable[[int], bytes]


class DatasetFiles:
    """The files of a folder, a zip, or a folder whose images and tables are all in zips.

    Links are followed. Hidden files, devices, and folders of thumbnails and deleted files are left out.

    Args:
        path: The folder or zip.

    Attributes:
        path: The folder or zip.
        files: Paths of the files inside it, sorted.
        empty_folders: Paths of the folders inside it without any file.
        left_out: Files that are neither images nor tables.

    Raises:
        DataError: If it is neither a folder nor a zip, or a damaged zip.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.left_out = LeftOut()
        self._zips: list[zipfile.ZipFile] = []
        self._bytes: dict[str, int] = {}
        self._read: dict[str, Read] = {}
        folders: set[str] = set()
        if path.is_dir():
            folders = self._add_folder(path)
            zips = [name for name in self._read if name.lower().endswith(".zip")]
            if zips and not any(self._is_content(name) for name in self._read):
                for name in zips:
                    del self._read[name]
                    folders |= self._add_zip(path / name, name[: -len(".zip")])
        else:
            folders = self._add_zip(path, "")
        self.files = sorted(self._read)
        self.empty_folders = [folder for folder in sorted(folders) if not any(f.startswith(f"{folder}/") for f in self.files)]
        self.images = [name for name in self.files if self._is_image(name)]

    @property
    def tables(self) -> list[str]:
        """Paths of the files that are tables by their suffix."""
        return [name for name in self.files if name.lower().endswith(TABLE_SUFFIXES)]

    def read(self, name: str, max_bytes: int = MAX_IMAGE_BYTES) -> bytes:
        """Return the content of a file.

        Args:
            name: Its path.
            max_bytes: A larger file is not read.

        Raises:
            ValueError: If it cannot be read or is larger.
        """
        if self._bytes[name] > max_bytes:
            raise ValueError(f"'{name}' has {self._bytes[name] >> 20} MB, more than {max_bytes >> 20} MB")
        try:
            return self._read[name](max_bytes)
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
        """Close the zips."""
        for archive in self._zips:
            archive.close()

    def _add_folder(self, path: Path) -> set[str]:
        for file in walk_files(path, self.left_out):
            try:
                status = file.stat()
            except OSError:
                self.left_out.add("broken link", file)
                continue
            if not stat.S_ISREG(status.st_mode):
                self.left_out.add("pipe, socket or device", file)
                continue
            name = file.relative_to(path).as_posix()
            self._bytes[name] = status.st_size
            self._read[name] = partial(_read_file, file)
        folders = (p for p in path.rglob("*") if p.is_dir() and not p.is_symlink())
        return {p.relative_to(path).as_posix() for p in folders if not _is_hidden(p.relative_to(path))}

    def _add_zip(self, path: Path, folder: str) -> set[str]:
        """Add the files of a zip.

        Args:
            path: The zip.
            folder: Folder that the zip is taken for; empty for none. If the zip has this folder itself, it is not added twice.
        """
        archive = _open_zip(path)
        self._zips.append(archive)
        folders = set()
        members = {name: member for member in archive.infolist() if not _is_hidden(PurePosixPath(name := _member_name(member)))}
        prefix = f"{folder}/" if folder else ""
        parent = prefix[: -len(PurePosixPath(folder).name) - 1]
        if _has_folder(members, PurePosixPath(folder).name) and not any(parent + name in self._read for name in members):
            prefix = parent
        for member_name, member in members.items():
            name = prefix + member_name
            if name.endswith("/"):
                folders.add(name.rstrip("/"))
                continue
            self._bytes[name] = member.file_size
            self._read[name] = partial(_read_member, archive, member)
        return folders

    def _is_content(self, name: str) -> bool:
        return name.lower().endswith((*IMAGE_SUFFIXES, *TABLE_SUFFIXES))

    def _is_image(self, name: str) -> bool:
        """Return whether a file is an image: by its suffix, otherwise by its first bytes."""
        lower = name.lower()
        if lower.endswith(IMAGE_SUFFIXES):
            return True
        if lower.endswith((*TABLE_SUFFIXES, *COMPANION_SUFFIXES)) or not self._bytes[name]:
            return False
        try:
            head = self._read[name](HEAD_BYTES)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError):
            return False
        found = file_type(head)
        if found is not None and found.kind == "image":
            return True
        archive = archive_kind(head) or ("zip" if lower.endswith(".zip") else None)
        reason = f"{archive} {ARCHIVE}" if archive else found.name.removeprefix("a ") if found else "of other types"
        self.left_out.add(reason, Path(name))
        return False


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


def read_table(path: Path) -> bytes:
    """Return the content of a table.

    Raises:
        DataError: If it is not a regular file, or too large.
    """
    if not path.is_file():
        raise DataError(f"{path} is not a regular file. Give a folder, a zip or a csv")
    if path.stat().st_size > MAX_TABLE_BYTES:
        raise DataError(f"{path} has {path.stat().st_size >> 20} MB, more than {MAX_TABLE_BYTES >> 20} MB. Split it")
    return path.read_bytes()


def _has_folder(names: Iterable[str], folder: str) -> bool:
    """Return whether all files of a zip are in one folder that its name repeats, as in ``faces-20240101-001.zip``."""
    outer = {name.partition("/")[0] for name in names}
    if len(outer) != 1 or not folder.casefold().startswith(min(outer).casefold()):
        return False
    return split_of_name(folder) == split_of_name(min(outer))


def _read_file(file: Path, limit: int) -> bytes:
    with file.open("rb") as stream:
        return stream.read(limit)


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, limit: int) -> bytes:
    with archive.open(member) as stream:
        return stream.read(limit)


def _open_zip(path: Path) -> zipfile.ZipFile:
    if not path.is_file():
        raise DataError(f"{path} is a pipe, a socket or a device. Give a folder, a zip or a csv")
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
        if archive := archive_kind(head):
            raise DataError(f"{path} is a {archive} archive. Unpack it and give the folder") from error
        if head[:2] != b"PK":
            raise DataError(f"{path} is neither a folder nor a zip nor a .csv file. Give one of these") from error
        raise DataError(f"{path} is a truncated or damaged zip ({error}). Download it again") from error


def archive_kind(head: bytes) -> str | None:
    """Return the kind of an archive that cannot be read, by its first HEAD_BYTES bytes; None for anything else."""
    if head[257:262] == b"ustar":
        return "tar"
    magic = ((b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ", "xz"), (b"7z\xbc\xaf", "7z"), (b"Rar!", "rar"))
    return next((kind for start, kind in magic if head.startswith(start)), None)


def _member_name(member: zipfile.ZipInfo) -> str:
    """Return the path of a member, with slashes.

    macOS writes UTF-8 without the flag for it, so Python decodes it as code page 437. Old Windows tools write backslashes.
    """
    name = member.filename
    if not member.flag_bits & UTF8_FLAG:
        with suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return name.replace("\\", "/")


def _is_hidden(path: PurePosixPath | Path) -> bool:
    return any(part.startswith(".") or part.lower() in SKIPPED_FOLDERS for part in path.parts)
