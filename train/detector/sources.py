"""The images of a detector's training: photos with boxes, face crops, and backgrounds, packed into one file of gray pixels.

Workers map the packed file into memory, so that they share it and a resumed training starts without decoding.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.atomic_write import atomic_path
from fer_edge.artifacts.detector_contract import DataSource
from fer_edge.artifacts.face_annotations import ANNOTATIONS_FILE, AnnotatedImage
from fer_edge.artifacts.reporter import SILENT, Reporter
from fer_edge.artifacts.typed_json import from_data, to_data
from fer_edge.edge_runtime.images import Image, import_cv2
from fer_edge.train.dataset import DataError
from fer_edge.train.dataset_files import DatasetFiles
from fer_edge.train.detector.read_annotations import load_annotations
from fer_edge.train.ferplus import names_of_faces, path_in_split

ROLES = ("photos", "portraits", "faces", "backgrounds", "garments")
ANNOTATED_ROLES = ("photos", "portraits")
MAX_SIDE_PX = 480  # of a packed image; a scene has 160x128 pixels
MAX_PHOTO_SIDE_PX = 800  # of a packed photo, whose faces are small
VALIDATION_PERCENT = 8  # of the images of each source, chosen by the digest of their names
TEST_MARKS = ("publictest", "privatetest", "test/")  # parts of file names of official test splits: never used
PIXELS_FILE, INDEX_FILE = "pixels.npy", "images.npz"
FACE_COLUMNS = 8  # x, y, width, height, eyes (x, y twice; NaN where unknown)


@dataclass(frozen=True)
class SourceOption:
    """One ``--data ROLE=PATH``.

    Attributes:
        role: ``photos``: any images with annotations. ``portraits``: likewise, one whole head each. ``faces``: crops of a
            face in the Haar convention. ``backgrounds``: images without faces. ``garments``: likewise, one piece of clothing
            for the upper body each, on which heads are placed.
        path: A folder or zip.
    """

    role: str
    path: Path

    @classmethod
    def parse(cls, text: str) -> "SourceOption":
        """Read ``ROLE=PATH``.

        Raises:
            ValueError: If the role is unknown or there is no path.
        """
        role, _, path = text.partition("=")
        if role not in ROLES or not path:
            raise ValueError(f"--data takes ROLE=PATH with the role {', '.join(ROLES)}. Received: '{text}'")
        return cls(role, Path(path))


@dataclass(frozen=True)
class Sources:
    """Packed images.

    Attributes:
        pixels: All gray pixels, uint8 array (n,), mapped from the file.
        offsets: Position of each image in ``pixels``, int64 array (images,).
        sizes: Height and width of each image, int32 array (images, 2).
        roles: Index of each image's role in ROLES, uint8 array (images,).
        validation: Whether each image is kept for validation, bool array (images,).
        face_ranges: First and last + 1 row of each image in ``faces``, int32 array (images, 2).
        faces: Boxes and eyes, float32 array (faces, 8), see FACE_COLUMNS.
        ignore_ranges: First and last + 1 row of each image in ``ignored``, int32 array (images, 2).
        ignored: Regions to ignore, float32 array (regions, 4): x, y, width, height, pixels.
        data: What the images are.
    """

    pixels: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int32]
    roles: npt.NDArray[np.uint8]
    validation: npt.NDArray[np.bool_]
    face_ranges: npt.NDArray[np.int32]
    faces: npt.NDArray[np.float32]
    ignore_ranges: npt.NDArray[np.int32]
    ignored: npt.NDArray[np.float32]
    data: tuple[DataSource, ...]

    def image(self, index: int) -> Image:
        """Return an image, uint8 array (height, width), gray."""
        height, width = self.sizes[index]
        start = self.offsets[index]
        return self.pixels[start : start + int(height) * int(width)].reshape(height, width)

    def faces_of(self, index: int) -> npt.NDArray[np.float32]:
        """Return the faces of an image, float32 array (n, 8), see FACE_COLUMNS."""
        first, last = self.face_ranges[index]
        return self.faces[first:last]

    def ignored_of(self, index: int) -> npt.NDArray[np.float32]:
        """Return the regions of an image to ignore, float32 array (n, 4): x, y, width, height."""
        first, last = self.ignore_ranges[index]
        return self.ignored[first:last]

    def indices(self, role: str, validation: bool) -> npt.NDArray[np.int64]:
        """Return the indices of the images of a role.

        Args:
            role: One of ROLES.
            validation: Whether those for validation, else those for training.
        """
        return np.flatnonzero((self.roles == ROLES.index(role)) & (self.validation == validation))


@dataclass(frozen=True)
class _Row:
    image: Image
    role: str
    name: str
    faces: npt.NDArray[np.float32]
    ignored: npt.NDArray[np.float32]


def annotations_path(images: Path) -> Path:
    """Return where the annotations of a folder or zip are."""
    return images / ANNOTATIONS_FILE if images.is_dir() else images.with_name(f"{images.name}.{ANNOTATIONS_FILE}")


def pack_sources(
    options: Sequence[SourceOption],
    folder: Path,
    licenses: dict[str, str],
    annotations: dict[str, Path] | None = None,
    ferplus: Path | None = None,
    reporter: Reporter = SILENT,
) -> Sources:
    """Decode the images of all sources and write them into a folder.

    Args:
        options: The sources. Official test splits among their files are left out.
        folder: Folder for the packed files.
        licenses: License of the images by path, as given to ``--license``.
        annotations: Files with annotations by path of the images, as given to ``--annotations``; see annotations_path.
        ferplus: FER+ table; face crops that are not in it, or that an annotator calls "not a face", are left out.
        reporter: Receives progress and warnings.

    Raises:
        FileNotFoundError: If there is nothing at a path, or no annotations.
        DataError: If a source has no images, or there are no faces or no backgrounds.
    """
    rows: list[_Row] = []
    data = []
    allowed = names_of_faces(ferplus) if ferplus else None
    for option in options:
        marked = (annotations or {}).get(str(option.path), annotations_path(option.path))
        found, source = _read_source(option, licenses, marked, allowed, reporter)
        rows += found
        data.append(source)
    roles = {row.role for row in rows}
    if not roles & {"photos", "portraits", "faces"} or not roles & {"backgrounds", "garments"}:
        raise DataError(
            "a detector needs faces and images without faces: --data photos=, portraits= or faces=, and --data backgrounds=. "
            f"Received: {', '.join(f'{option.role}={option.path}' for option in options)}"
        )
    _write(rows, tuple(data), folder)
    return load_sources(folder)


def load_sources(folder: Path) -> Sources:
    """Map packed images into memory.

    Args:
        folder: The folder of pack_sources.

    Raises:
        FileNotFoundError: If the folder has no packed images.
        ValueError: If they are damaged.
    """
    with np.load(folder / INDEX_FILE) as content:
        arrays = dict(content)
    data = tuple(from_data(DataSource, entry) for entry in json.loads(str(arrays.pop("data"))))
    return Sources(np.load(folder / PIXELS_FILE, mmap_mode="r"), **arrays, data=data)


def _read_source(
    option: SourceOption, licenses: dict[str, str], marked: Path, allowed: frozenset[str] | None, reporter: Reporter
) -> tuple[list[_Row], DataSource]:
    if not option.path.exists():
        raise FileNotFoundError(f"no images at '{option.path}' (--data {option.role}={option.path})")
    files = DatasetFiles(option.path)
    try:
        names = [name for name in files.images if not _is_test(name)]
        if option.role == "faces" and allowed is not None:
            names = [name for name in names if path_in_split(name) in allowed]
        if not names:
            raise DataError(f"'{option.path}' has no images for --data {option.role}")
        annotated: dict[str, AnnotatedImage] = {}
        license_text = licenses.get(str(option.path), "not stated")
        teachers: tuple[str, ...] = ()
        damaged: list[str] = []
        decoded = _decode(files, names, damaged, reporter, option)
        if option.role in ANNOTATED_ROLES:
            images = list(decoded)
            sizes = {name: (size[0], size[1]) for name, _, size in images}
            annotations = load_annotations(marked, sizes)
            annotated = {image.name: image for image in annotations.images}
            license_text, teachers = annotations.license, annotations.teachers
            rows = [_annotated_row(option.role, *image, annotated) for image in images if image[0] in annotated]
        else:
            rows = [_plain_row(option.role, name, image) for name, image, _ in decoded]
        if damaged:
            reporter.warn(f"{len(damaged)} images of '{option.path}' left out: {damaged[0]}")
        if not rows:
            raise DataError(f"none of the {len(names)} images of '{option.path}' can be used")
        return rows, DataSource(option.path.name, option.role, len(rows), license_text, teachers)
    finally:
        files.close()


def _decode(
    files: DatasetFiles, names: Sequence[str], damaged: list[str], reporter: Reporter, option: SourceOption
) -> Iterator[tuple[str, Image, tuple[int, int]]]:
    """Yield name, gray image of at most MAX_SIDE_PX or MAX_PHOTO_SIDE_PX, and the original width and height."""
    cv2 = import_cv2()
    max_side = MAX_PHOTO_SIDE_PX if option.role == "photos" else MAX_SIDE_PX
    with reporter.progress(f"reading {option.role}") as progress:
        for name, image in files.decoded(names, damaged, progress):
            gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
            scale = max_side / max(gray.shape)
            if scale < 1:
                size = max(1, round(gray.shape[1] * scale)), max(1, round(gray.shape[0] * scale))
                gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
            yield name, np.asarray(gray, np.uint8), (image.shape[1], image.shape[0])


def _annotated_row(role: str, name: str, image: Image, size: tuple[int, int], annotated: dict[str, AnnotatedImage]) -> _Row:
    entry = annotated[name]
    if (entry.width, entry.height) != size:
        raise DataError(
            f"the annotations of '{name}' are for {entry.width}x{entry.height} pixels, the image has {size[0]}x{size[1]}. "
            "Annotate the images again: fer-edge dev annotate"
        )
    scale = image.shape[1] / size[0]
    missing = (np.nan,) * 4
    faces = [(*face.box_px, *(face.eyes_px or missing)) for face in entry.faces]
    return _Row(
        image,
        role,
        name,
        np.array(faces, np.float32).reshape(-1, FACE_COLUMNS) * scale,
        np.array(entry.ignore_px, np.float32).reshape(-1, 4) * scale,
    )


def _plain_row(role: str, name: str, image: Image) -> _Row:
    height, width = image.shape
    whole = (0, 0, width, height, *(np.nan,) * 4)
    faces = np.array([whole] if role == "faces" else [], np.float32).reshape(-1, FACE_COLUMNS)
    return _Row(image, role, name, faces, np.empty((0, 4), np.float32))


def _is_test(name: str) -> bool:
    lower = name.lower()
    return any(mark in lower for mark in TEST_MARKS)


def _is_validation(name: str) -> bool:
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % 100 < VALIDATION_PERCENT


def _ranges(counts: Sequence[int]) -> npt.NDArray[np.int32]:
    ends = np.cumsum(counts)
    return np.stack([ends - np.asarray(counts), ends], axis=1).astype(np.int32)


def _write(rows: Sequence[_Row], data: tuple[DataSource, ...], folder: Path) -> None:
    pixels = np.concatenate([row.image.reshape(-1) for row in rows])
    areas = [row.image.size for row in rows]
    arrays: dict[str, Any] = {
        "offsets": np.cumsum([0, *areas[:-1]], dtype=np.int64),
        "sizes": np.array([row.image.shape for row in rows], np.int32),
        "roles": np.array([ROLES.index(row.role) for row in rows], np.uint8),
        "validation": np.array([_is_validation(row.name) for row in rows]),
        "face_ranges": _ranges([len(row.faces) for row in rows]),
        "faces": np.concatenate([row.faces for row in rows]),
        "ignore_ranges": _ranges([len(row.ignored) for row in rows]),
        "ignored": np.concatenate([row.ignored for row in rows]),
        "data": np.array(json.dumps([to_data(entry) for entry in data])),
    }
    with atomic_path(folder / PIXELS_FILE) as temporary, temporary.open("wb") as file:
        np.save(file, pixels)
    with atomic_path(folder / INDEX_FILE) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)
