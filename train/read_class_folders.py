"""Read class folders: one folder of images per class, also inside the folders of official splits."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from fer_edge.artifacts.contract import CANONICAL_LABELS
from fer_edge.artifacts.reporter import Progress
from fer_edge.train.class_names import assign_labels, canonical_name, count_labels, list_names
from fer_edge.train.dataset import DataError
from fer_edge.train.dataset_files import DatasetFiles, gray_if_equal
from fer_edge.train.dataset_rows import Rows
from fer_edge.train.official_splits import SPLIT_NAMES, split_of_path
from fer_edge.train.photo_faces import open_cropper
from fer_edge.train.read_options import ReadOptions

CKPLUS_SUBJECT = re.compile(r"(S\d{3})_\d{3}_\d+")  # of CK+48's file names


def read_class_folders(files: DatasetFiles, options: ReadOptions, progress: Progress | None = None) -> Rows:
    """Read class folders. What folder and file names show is checked before an image is decoded.

    Args:
        files: The folder or zip.
        options: Renamed classes, and the check of the number of images per class.
        progress: Called with (images read, number of images).

    Raises:
        DataError: If the folders are not class folders, a class is empty, or a class name cannot be used.
    """
    images = [PurePosixPath(name) for name in files.images]
    shared = _check_folders(files, images)
    label_of_class = assign_labels({path.parent.name for path in images}, options.parsed_label_map(), str(files.path))
    kept = [path for path in images if label_of_class[path.parent.name]]
    options.report_counts(count_labels(Counter(path.parent.name for path in images), label_of_class))
    rows = Rows()
    names = [str(path) for path in kept]
    cropper, rows.notes = open_cropper(files, names, options)
    for name, image in files.decoded(names, rows.skipped, progress):
        # A zip with one outer folder and the unpacked folder are the same data: ids do not include the folders that all share.
        path = PurePosixPath(*PurePosixPath(name).parts[shared:])
        subject = CKPLUS_SUBJECT.match(path.name)
        label = label_of_class[path.parent.name] or ""
        face = cropper.cut(image) if cropper else image
        if face is None:
            rows.without_face.append(f"no face found in '{name}'")
            continue
        rows.add(str(path), gray_if_equal(face), label, subject[1] if subject else None, split_of_path(PurePosixPath(name)))
    if cropper:
        rows.crop, rows.photos = cropper.crop, cropper.summary
    if rows.ids:
        options.report_counts({label: rows.labels.count(label) for label in label_of_class.values() if label})
    if rows.official_split and "test" not in rows.official_split:
        # A release whose test folder has only PrivateTest images uses those as its test split.
        rows.official_split = ["test" if split == "private_test" else split for split in rows.official_split]
    return rows


def _check_folders(files: DatasetFiles, images: Sequence[PurePosixPath]) -> int:
    """Check that the folders are class folders; return the number of outer folders that all images share."""
    loose = [path for path in images if len(path.parts) < 2 or path.parent.name.lower() in SPLIT_NAMES]
    if loose:
        raise DataError(f"{files.path} has images outside class folders, for example '{loose[0]}'. Put each into CLASS/")
    for folder in files.folders:
        empty = not any(name.startswith(folder + "/") for name in files.files)
        if empty and PurePosixPath(folder).name not in SPLIT_NAMES:
            raise DataError(f"the class folder '{folder}' in {files.path} has no images. Fill it or remove it")
    shared = _shared_depth([path.parts[:-2] for path in images])
    if all(canonical_name(path.parent.name) in CANONICAL_LABELS for path in images):
        return shared
    # With names of the user's choice, only the depth of a folder shows that it is a class.
    deep = sorted({name for path in images for name in path.parts[shared:-2] if name.lower() not in SPLIT_NAMES})
    if deep:
        inside = next(path for path in images if deep[0] in path.parts[shared:-2])
        raise DataError(
            f"{files.path} has folders at several levels, so its classes are not clear: '{inside.parent}' is in '{deep[0]}', "
            f"which is not a split ({list_names(list(SPLIT_NAMES))}). Give CLASS/IMAGE or SPLIT/CLASS/IMAGE"
        )
    return shared


def _shared_depth(folders: Sequence[tuple[str, ...]]) -> int:
    """Return the number of leading folders that all paths share."""
    levels = zip(*folders, strict=False)  # ends with the shortest path
    return next((depth for depth, names in enumerate(levels) if len(set(names)) > 1), min(map(len, folders)))
