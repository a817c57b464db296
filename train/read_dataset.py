"""Datasets: class folders, FER2013's csv, the original CK+ release and synthetic faces, all read by load_faces.

Sources of the layouts: FER2013 (Goodfellow et al., 2013, Kaggle challenge), CK+ (Lucey et al., 2010).
"""

import csv
import io
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np

from fer_edge.artifacts.contract import CANONICAL_LABELS
from fer_edge.artifacts.reporter import SILENT, Progress, Reporter
from fer_edge.edge_runtime.detectors.detector import largest_box, open_detector
from fer_edge.edge_runtime.file_types import IMAGE_SUFFIXES
from fer_edge.edge_runtime.images import Image, decode_image, import_cv2
from fer_edge.train.dataset import DataError, FaceDataset
from fer_edge.train.synthetic import synthetic_faces

SYNONYMS = {
    "anger": "angry",
    "contemptuous": "contempt",
    "disgusted": "disgust",
    "fearful": "fear",
    "afraid": "fear",
    "happiness": "happy",
    "joy": "happy",
    "sadness": "sad",
    "surprised": "surprise",
}
DROP = "-"
MAX_SKIPPED_FRACTION = 0.01
FER2013_CODES = {0: "angry", 1: "disgust", 2: "fear", 3: "happy", 4: "sad", 5: "surprise", 6: "neutral"}
FER2013_SIDE = 48
CKPLUS_CODES = {1: "angry", 2: "contempt", 3: "disgust", 4: "fear", 5: "happy", 6: "sad", 7: "surprise"}
CKPLUS_FRAMES = 3  # the last frames of a sequence, which show the expression at its peak
CKPLUS_SUBJECT = re.compile(r"(S\d{3})_\d{3}_\d+")
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "publictest": "test",
    "privatetest": "private_test",
}


@dataclass
class _Rows:
    """What a reader collects; one entry per image."""

    ids: list[str] = field(default_factory=list)
    images: list[Image] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    subjects: list[str | None] = field(default_factory=list)
    official_split: list[str | None] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)  # damaged: more than a few are an error
    without_face: list[str] = field(default_factory=list)  # missed by the detector; not a fault of the data

    def add(self, name: str, image: Image, label: str, subject: str | None, official_split: str | None) -> None:
        self.ids.append(name)
        self.images.append(image)
        self.labels.append(label)
        self.subjects.append(subject)
        self.official_split.append(official_split)


class _Store:
    """The files of a folder or a zip, by their path inside it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._zip: zipfile.ZipFile | None = None
        if path.is_dir():
            names = [p.relative_to(path).as_posix() + ("/" if p.is_dir() else "") for p in sorted(path.rglob("*"))]
        else:
            try:
                self._zip = zipfile.ZipFile(path)
            except zipfile.BadZipFile as error:
                with path.open("rb") as file:
                    if file.read(2) != b"PK":
                        raise DataError(f"{path} is neither a folder nor a zip nor a .csv file. Give one of these") from error
                raise DataError(f"{path} is a truncated or damaged zip ({error}). Download it again") from error
            names = sorted(self._zip.namelist())
        hidden = ("__MACOSX", ".")
        shown = [name for name in names if not any(part.startswith(hidden) for part in PurePosixPath(name).parts)]
        self.folders = [name.rstrip("/") for name in shown if name.endswith("/")]
        self.files = [name for name in shown if not name.endswith("/")]

    def read(self, name: str) -> bytes:
        if self._zip is None:
            return (self.path / name).read_bytes()
        try:
            return self._zip.read(name)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
            raise ValueError(f"cannot read '{name}' from {self.path} ({error})") from error

    def close(self) -> None:
        if self._zip is not None:
            self._zip.close()


def load_faces(source: str, label_map: Mapping[str, str] | None = None, progress: Progress | None = None) -> FaceDataset:
    """Load a dataset.

    Args:
        source: A folder, a zip or a csv file; or ``synthetic``, or ``synthetic:N`` with N identities.
        label_map: Labels of further class names, such as ``{"contempt": "neutral"}``; the label ``-`` leaves the class out.
        progress: Called with (images read, number of images).

    Returns:
        The faces, labels in canonical order.

    Raises:
        FileNotFoundError: If there is nothing at ``source``.
        DataError: If it has no images, an unknown class, an empty class or too many damaged images, or lacks a class of the
            map.
    """
    if source == "synthetic" or source.startswith("synthetic:"):
        if label_map:
            raise DataError(f"the synthetic faces have no classes to map. Received: {', '.join(label_map)}")
        return synthetic_faces(_synthetic_identities(source), progress=progress)
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(f"no dataset at '{source}'. Give a folder, a zip or a csv, or 'synthetic' to try without data")
    label_of = _ClassNames(source, label_map or {})
    mapped = tuple(f"{name}={label}" for name, label in (label_map or {}).items())
    if path.suffix.lower() == ".csv":
        rows = _read_csv(path.read_bytes(), label_of, progress)
    else:
        rows = _read_store(_Store(path), label_of, progress)
    missing = [name for name in label_map or {} if name not in label_of.seen]
    if missing:
        raise DataError(f"{source} has no class '{missing[0]}' to map; it has: {', '.join(sorted(label_of.seen))}")
    return replace(_finish(path, rows), label_map=mapped)


def read_faces(source: str | Path, label_map: Sequence[str] = (), reporter: Reporter = SILENT) -> FaceDataset:
    """Load a dataset for a command: report progress, and warn of the images that cannot be used.

    Args:
        source: See load_faces.
        label_map: CLASS=LABEL per renamed class, see parse_label_map.
        reporter: Receives progress and the warning.

    Raises:
        FileNotFoundError: If there is nothing at ``source``.
        ValueError: If the map or the data cannot be used.
    """
    with reporter.progress("reading faces") as progress:
        faces = load_faces(str(source), parse_label_map(label_map), progress)
    if faces.skipped:
        reasons = "".join(f"\n  {reason}" for reason in faces.skipped)
        reporter.warn(f"{len(faces.skipped)} of {len(faces) + len(faces.skipped)} images skipped:{reasons}")
    return faces


def _read_store(store: _Store, label_of: "_ClassNames", progress: Progress | None) -> _Rows:
    """Read a folder or zip: the original CK+ release, class folders, or a table inside."""
    try:
        if any(name.endswith("_emotion.txt") for name in store.files):
            return _read_ckplus(store, label_of, progress)
        if any(_is_image(name) for name in store.files):
            return _read_class_folders(store, label_of, progress)
        tables = [name for name in store.files if name.lower().endswith(".csv")]
        if not tables:
            raise DataError(f"{store.path} has no images (looked for {', '.join(IMAGE_SUFFIXES)}) and no csv")
        return _read_csv(store.read(tables[0]), label_of, progress)
    finally:
        store.close()


def parse_label_map(pairs: Sequence[str]) -> dict[str, str]:
    """Parse ``CLASS=LABEL`` pairs.

    Raises:
        ValueError: If a pair has no ``=``.
    """
    result = {}
    for pair in pairs:
        name, equals, label = pair.partition("=")
        if not equals or not name or not label:
            raise ValueError(f"a class map is CLASS=LABEL, for example contempt=neutral. Received: '{pair}'")
        result[name.lower()] = label.lower()
    return result


def _synthetic_identities(source: str) -> int:
    _, _, count = source.partition(":")
    if count and not (count.isdigit() and int(count) >= 10):
        raise DataError(f"synthetic:N needs a whole number of identities N, at least 10. Received: '{source}'")
    return int(count) if count else 60


class _ClassNames:
    """Converts a class name of the data to a canonical label; None if the class is dropped.

    ``seen`` has the class names so far, and their canonical names.
    """

    def __init__(self, source: str, label_map: Mapping[str, str]) -> None:
        for name, label in label_map.items():
            if label != DROP and label not in CANONICAL_LABELS:
                known = ", ".join(CANONICAL_LABELS)
                raise DataError(f"cannot map '{name}' to '{label}'; choose one of: {known}, or {DROP}")
        self.seen: set[str] = set()
        self._source = source
        self._label_map = label_map

    def __call__(self, name: str) -> str | None:
        canonical = SYNONYMS.get(name.lower(), name.lower())
        self.seen.update((name.lower(), canonical))
        label = self._label_map.get(name.lower(), self._label_map.get(canonical, canonical))
        if label == DROP:
            return None
        if label not in CANONICAL_LABELS:
            raise DataError(
                f"unknown class '{name}' in {self._source}; known are: {', '.join([*CANONICAL_LABELS, *SYNONYMS])}. "
                f"Rename it, or pass --map {name}=LABEL (--map {name}={DROP} leaves it out)"
            )
        return label


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES)


def _gray_if_equal(image: Image) -> Image:
    """Return one channel if all three are equal, as in a gray image."""
    first = image[:, :, 0]
    if np.array_equal(first, image[:, :, 1]) and np.array_equal(first, image[:, :, 2]):
        return np.ascontiguousarray(first)
    return image


def _decoded(store: _Store, names: Sequence[str], rows: _Rows, progress: Progress | None) -> Iterator[tuple[str, Image]]:
    """Yield the images that can be decoded; add the others to ``skipped``."""
    for done, name in enumerate(names, start=1):
        try:
            image = decode_image(store.read(name), name)
        except ValueError as error:
            rows.skipped.append(str(error))
        else:
            yield name, image
        if progress:
            progress(done, len(names))


def _read_class_folders(store: _Store, label_of: "_ClassNames", progress: Progress | None) -> _Rows:
    images = [name for name in store.files if _is_image(name)]
    loose = [name for name in images if len(PurePosixPath(name).parts) < 2]
    if loose:
        raise DataError(f"{store.path} has images outside class folders, for example '{loose[0]}'. Put each into CLASS/")
    label_of_class = {name: label_of(name) for name in {PurePosixPath(name).parent.name for name in images}}
    kept = [name for name in images if label_of_class[PurePosixPath(name).parent.name]]
    for folder in store.folders:
        empty = not any(name.startswith(folder + "/") for name in store.files)
        if empty and PurePosixPath(folder).name not in SPLIT_NAMES:
            raise DataError(f"the class folder '{folder}' in {store.path} has no images. Fill it or remove it")
    # A zip with one outer folder and the unpacked folder are the same data. So ids do not include the folders that all share.
    shared = _shared_depth([PurePosixPath(name).parts[:-2] for name in images])
    rows = _Rows()
    for name, image in _decoded(store, kept, rows, progress):
        path = PurePosixPath(*PurePosixPath(name).parts[shared:])
        subject = CKPLUS_SUBJECT.match(path.name)
        label = label_of_class[path.parent.name] or ""
        rows.add(str(path), _gray_if_equal(image), label, subject[1] if subject else None, _official_split(PurePosixPath(name)))
    if rows.official_split and "test" not in rows.official_split:
        # A release whose test folder has only PrivateTest images uses those as its test split.
        rows.official_split = ["test" if split == "private_test" else split for split in rows.official_split]
    return rows


def _shared_depth(folders: Sequence[tuple[str, ...]]) -> int:
    """Return the number of leading folders that all paths share."""
    levels = zip(*folders, strict=False)  # ends with the shortest path
    return next((depth for depth, names in enumerate(levels) if len(set(names)) > 1), min(map(len, folders)))


def _official_split(path: PurePosixPath) -> str | None:
    prefix = SPLIT_NAMES.get(path.name.split("_")[0].lower())
    if prefix:
        return prefix
    return next((SPLIT_NAMES[name.lower()] for name in path.parts[:-2] if name.lower() in SPLIT_NAMES), None)


def _read_csv(data: bytes, label_of: "_ClassNames", progress: Progress | None) -> _Rows:
    """Read FER2013's original table: emotion (0..6), pixels (48 x 48 numbers), Usage."""
    csv.field_size_limit(1 << 20)
    text = io.StringIO(data.decode("utf-8-sig", errors="replace"))
    try:
        reader = csv.DictReader(text)
        table = [{(key or "").strip(): value for key, value in row.items()} for row in reader]
    except csv.Error as error:
        raise DataError(f"the csv cannot be read ({error})") from error
    columns = {name.strip() for name in reader.fieldnames or ()}
    missing = {"emotion", "pixels"} - columns
    if missing:
        raise DataError(
            f"the csv lacks the columns {', '.join(sorted(missing))}; it has: {', '.join(sorted(columns)) or 'none'}"
        )
    rows = _Rows()
    for number, row in enumerate(table):
        name = f"row_{number:05d}"
        try:
            pixels = np.array(row["pixels"].split(), np.int64)
            if len(pixels) != FER2013_SIDE**2 or pixels.min() < 0 or pixels.max() > 255:
                raise ValueError(f"{len(pixels)} numbers, not {FER2013_SIDE**2} in 0..255")
            label = label_of(FER2013_CODES[int(row["emotion"])])
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            if isinstance(error, DataError):
                raise
            rows.skipped.append(f"cannot read csv row {number} ({error})")
        else:
            usage = str(row.get("Usage") or "").strip().lower()
            if label:
                image = pixels.reshape(FER2013_SIDE, FER2013_SIDE).astype(np.uint8)
                rows.add(name, image, label, None, SPLIT_NAMES.get(usage))
        if progress:
            progress(number + 1, len(table))
    return rows


def _read_ckplus(store: _Store, label_of: "_ClassNames", progress: Progress | None) -> _Rows:
    """Read the original CK+ release: the last frames of each sequence that has an ``_emotion.txt``."""
    sequences: dict[str, list[str]] = {}
    for name in store.files:
        if _is_image(name):
            sequences.setdefault("_".join(PurePosixPath(name).stem.split("_")[:2]), []).append(name)
    chosen: dict[str, str] = {}
    rows = _Rows()
    for name in (name for name in store.files if name.endswith("_emotion.txt")):
        sequence = "_".join(PurePosixPath(name).name.split("_")[:2])
        try:
            label = label_of(CKPLUS_CODES[int(float(store.read(name)))])
        except (ValueError, KeyError) as error:
            if isinstance(error, DataError):
                raise
            rows.skipped.append(f"no emotion code 1..7 in '{name}' ({error})")
            continue
        if sequence not in sequences:
            rows.skipped.append(f"no images for '{name}'")
        elif label:
            chosen |= dict.fromkeys(sorted(sequences[sequence])[-CKPLUS_FRAMES:], label)
    detector = open_detector("haar")
    for name, image in _decoded(store, list(chosen), rows, progress):
        box = largest_box(detector.detect(image))
        if box is None:
            rows.without_face.append(f"no face found in '{name}'")
            continue
        x, y, width, height = box
        cv2 = import_cv2()
        gray = cv2.cvtColor(image[y : y + height, x : x + width], cv2.COLOR_RGB2GRAY)
        face = cv2.resize(gray, (FER2013_SIDE, FER2013_SIDE), interpolation=cv2.INTER_AREA)
        rows.add(name, np.asarray(face, np.uint8), chosen[name], PurePosixPath(name).stem.split("_")[0], None)
    return rows


def _finish(path: Path, rows: _Rows) -> FaceDataset:
    total = len(rows.ids) + len(rows.skipped)
    if not rows.ids:
        reason = f"; {len(rows.skipped)} could not be used, first: {rows.skipped[0]}" if rows.skipped else ""
        raise DataError(f"{path} has no usable images{reason}")
    if len(rows.skipped) > MAX_SKIPPED_FRACTION * total:
        raise DataError(
            f"{len(rows.skipped)} of {total} images in {path} cannot be used, more than {MAX_SKIPPED_FRACTION:.0%}. "
            f"First: {'; '.join(rows.skipped[:3])}"
        )
    labels = tuple(label for label in CANONICAL_LABELS if label in set(rows.labels))
    return FaceDataset(
        name=re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-") or "data",
        labels=labels,
        ids=tuple(rows.ids),
        images=tuple(rows.images),
        targets=np.array([labels.index(label) for label in rows.labels], np.int64),
        subjects=tuple(rows.subjects),
        official_split=tuple(rows.official_split),
        skipped=(*rows.skipped, *rows.without_face),
    )
