"""Find the images and videos of a path, and account for the files that are left out."""

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fer_edge.edge_runtime.file_types import IMAGE_SUFFIXES, VIDEO_SUFFIXES, FileType, type_of_file
from fer_edge.edge_runtime.images import FORMATS

VIDEO_FORMATS = "MP4, MOV, AVI, Matroska, WebM, MPEG, MPEG-TS, WMV, FLV, MJPEG, H.264"
# Thumbnails, deleted files and metadata of NAS boxes, Windows and macOS.
SKIPPED_FOLDERS = (
    *("@eadir", "#recycle", "@recycle", "@recently-snapshot", "$recycle.bin", "system volume information"),
    *("@__thumb", "@tmp", "@sharebin", "@sharesnap", "#snapshot", "~snapshot", "found.000"),
    *("__macosx", "lost+found", "thumbs.db"),
)
NAMED_PER_REASON = 3


@dataclass(frozen=True)
class MediaFile:
    """An image or a video.

    Attributes:
        path: The file.
        is_video: Whether it is a video.
    """

    path: Path
    is_video: bool


@dataclass
class LeftOut:
    """The files of a folder that are not read, by reason.

    Attributes:
        names: Names of the files by reason.
    """

    names: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, reason: str, path: Path) -> None:
        """Add a file.

        Args:
            reason: Such as ``GIF``.
            path: The file.
        """
        self.names[reason].append(path.name)

    def add_error(self, error: OSError) -> None:
        """Add a folder that cannot be read."""
        self.add(f"unreadable: {error.strerror}", Path(str(error.filename)))

    def __str__(self) -> str:
        """Return the counts by reason with the first names, such as ``2 GIF (a.gif, b.gif)``; empty if there are none."""
        parts = []
        for reason, names in sorted(self.names.items(), key=lambda item: (-len(item[1]), item[0])):
            more = ", ..." if len(names) > NAMED_PER_REASON else ""
            parts.append(f"{len(names)} {reason} ({', '.join(names[:NAMED_PER_REASON])}{more})")
        return "; ".join(parts)


def find_files(source: str | Path) -> tuple[list[MediaFile], LeftOut]:
    """Return the images and videos of a source: the file itself, or those in a folder and its sub-folders, sorted by path.

    The content of a file decides, not its name. In a folder, links are followed, each folder is read once, and hidden files
    and the folders of SKIPPED_FOLDERS are left out.

    Args:
        source: File or folder.

    Returns:
        The files, at least one, and what the folder contains otherwise.

    Raises:
        FileNotFoundError: If ``source`` does not exist.
        ValueError: If it is another kind of file, or a folder without images and videos.
        OSError: If it cannot be read.
    """
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(f"no image, folder or video at '{source}'")
    left_out = LeftOut()
    if not path.is_dir():
        return [_single_file(path)], left_out
    files = []
    for file in sorted(walk_files(path, left_out)):
        try:
            found = type_of_file(file) if file.is_file() else None
        except OSError as error:
            left_out.add(f"unreadable: {error.strerror}", file)
            continue
        if found is not None and found.kind != "other":
            files.append(MediaFile(file, found.kind == "video"))
        else:
            left_out.add(_reason(file, found), file)
    if not files:
        rest = f". It contains: {left_out}" if left_out.names else ""
        raise ValueError(
            f"the folder '{path}' contains no images or videos that can be read{rest}. "
            f"Supported formats: {FORMATS}; {VIDEO_FORMATS}"
        )
    return files, left_out


def _single_file(path: Path) -> MediaFile:
    if not path.is_file():
        raise ValueError(f"'{path}' is a pipe, a socket or a device, not a file. To read raw frames from a pipe, pass '-'")
    found = type_of_file(path)
    if found is None and path.suffix.lower() in IMAGE_SUFFIXES:
        return MediaFile(path, is_video=False)  # its decoder names the problem
    if found is not None and found.kind != "other":
        return MediaFile(path, found.kind == "video")
    if found is not None:
        remedy = "Pass the file or URL that it names" if found.name == "a playlist" else "Convert it to JPEG, PNG or MP4"
        raise ValueError(f"'{path}' is {found.name}, not an image or video that fer-edge reads. {remedy}")
    if path.stat().st_size == 0:
        raise ValueError(f"'{path}' is empty. Copy it again")
    raise ValueError(f"'{path}' is neither an image nor a video, or damaged. Supported formats: {FORMATS}; {VIDEO_FORMATS}")


def _reason(file: Path, found: FileType | None) -> str:
    if found is not None:
        return found.name.removeprefix("a ")
    if file.is_symlink() and not file.exists():
        return "broken link"
    return "damaged" if file.suffix.lower() in IMAGE_SUFFIXES + VIDEO_SUFFIXES else "of other types"


def walk_files(folder: Path, left_out: LeftOut) -> Iterator[Path]:
    """Yield the files of a folder and its sub-folders, as find_files does.

    Real folders come before links to folders, so that each has the path of its real folder if possible.

    Args:
        folder: The folder.
        left_out: Receives the folders that are skipped or cannot be read.

    Yields:
        Paths of files, in no order; also of devices and broken links.
    """
    seen: set[tuple[int, int]] = set()
    waiting = [folder]
    while waiting:
        links = []
        for start in waiting:
            for root, folders, names in os.walk(start, onerror=left_out.add_error):
                status = Path(root).stat()
                if (status.st_dev, status.st_ino) in seen:
                    folders.clear()
                    continue
                seen.add((status.st_dev, status.st_ino))
                for name in list(folders):
                    if name.lower() in SKIPPED_FOLDERS or name.startswith("."):
                        folders.remove(name)
                        if not name.startswith("."):
                            left_out.add("skipped folder", Path(root, name))
                    elif Path(root, name).is_symlink():
                        links.append(Path(root, name))
                yield from (Path(root, name) for name in names if not name.startswith("."))
        waiting = sorted(links)
