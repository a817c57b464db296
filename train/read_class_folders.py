"""Read class folders: one folder of images per class, also inside the folders of official splits."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from fer_edge.artifacts.contract import CANONICAL_LABELS
from fer_edge.artifacts.reporter import Progress
from fer_edge.train.class_names import assign_labels, canonical_name, count_labels, normalize
from fer_edge.train.dataset import DataError
from fer_edge.train.dataset_files import DatasetFiles, gray_if_equal
from fer_edge.train.dataset_rows import Rows
from fer_edge.train.official_splits import EXAMPLES, WORDS, WRAPPERS, split_of_image, split_of_name
from fer_edge.train.photo_faces import open_cropper
from fer_edge.train.read_options import ReadOptions

CKPLUS_SUBJECT = re.compile(r"(S\d{3})_\d{3}_\d+")  # of CK+48's file names


@dataclass(frozen=True)
class _ImagePath:
    """An image of a dataset.

    Attributes:
        name: Its path in the dataset.
        class_name: Name of its class folder.
        folders: Names of the folders above the class folder that not all images share.
        image_id: Its id: the path without the folders that all share, in the composed form of Unicode. A zip with one outer
            folder and the unpacked folder are the same data.
    """

    name: str
    class_name: str
    folders: tuple[str, ...]
    image_id: str

    @property
    def split(self) -> str | None:
        """The official split, see split_of_image."""
        return split_of_image(self.folders, PurePosixPath(self.name).name)


def read_class_folders(files: DatasetFiles, options: ReadOptions, progress: Progress | None = None) -> Rows:
    """Read class folders. What folder and file names show is checked before an image is decoded.

    Args:
        files: The folder or zip.
        options: Renamed classes, and the check of the number of images per class.
        progress: Called with (images read, number of images).

    Raises:
        DataError: If the folders are not class folders, a class is empty, or a class name cannot be used.
    """
    images = _image_paths(files)
    _check_folders(files, images)
    label_of_class = assign_labels({image.class_name for image in images}, options.parsed_label_map(), str(files.path))
    options.report_counts(count_labels(Counter(image.class_name for image in images), label_of_class))
    kept = {image.name: image for image in images if label_of_class[image.class_name]}
    rows = Rows(unknown_splits=_unknown_splits(list(kept.values())))
    cropper, rows.notes = open_cropper(files, list(kept), options)
    for name, pixels in files.decoded(list(kept), rows.skipped, progress):
        image = kept[name]
        face = cropper.cut(pixels) if cropper else pixels
        if face is None:
            rows.without_face.append(f"no face found in '{name}'")
            continue
        subject = CKPLUS_SUBJECT.match(PurePosixPath(name).name)
        label = label_of_class[image.class_name] or ""
        rows.add(image.image_id, gray_if_equal(face), label, subject[1] if subject else None, image.split)
    if cropper:
        rows.crop, rows.photos = cropper.crop, cropper.summary
    if files.left_out.names:
        rows.notes = (*rows.notes, f"left out of {files.path}: {files.left_out}")
    if rows.ids:
        options.report_counts({label: rows.labels.count(label) for label in label_of_class.values() if label})
    return rows


def _image_paths(files: DatasetFiles) -> list[_ImagePath]:
    paths = [PurePosixPath(name) for name in files.images]
    # CLASS/SPLIT/IMAGE instead of SPLIT/CLASS/IMAGE
    swapped = all(len(path.parts) > 2 and split_of_name(path.parts[-2]) for path in paths)
    depth = 3 if swapped else 2
    shared = _shared_depth([path.parts[:-depth] for path in paths])
    result = []
    for path in paths:
        folders = path.parts[shared:-depth] + (path.parts[-2:-1] if swapped else ())
        class_name = path.parts[-depth] if len(path.parts) >= depth else ""
        result.append(_ImagePath(str(path), class_name, folders, normalize(str(PurePosixPath(*path.parts[shared:])))))
    return result


def _check_folders(files: DatasetFiles, images: Sequence[_ImagePath]) -> None:
    loose = [image.name for image in images if not image.class_name or image.class_name.lower() in WORDS]
    if loose:
        raise DataError(f"{files.path} has images outside class folders, for example '{loose[0]}'. Put each into CLASS/")
    for folder in files.empty_folders:
        name = PurePosixPath(folder).name
        if not split_of_name(name) and name.lower() not in WRAPPERS:
            raise DataError(f"the class folder '{folder}' in {files.path} has no images. Fill it or remove it")
    if all(canonical_name(image.class_name) in CANONICAL_LABELS for image in images):
        return
    # With names of the user's choice, only the depth of a folder shows that it is a class.
    unknown = _unknown_splits(images)
    if unknown:
        inside = next(image for image in images if unknown[0] in image.folders)
        raise DataError(
            f"{files.path} has folders at several levels, so its classes are not clear: '{inside.class_name}' is in "
            f"'{unknown[0]}', which is not a split ({EXAMPLES}). Give CLASS/IMAGE or SPLIT/CLASS/IMAGE"
        )


def _unknown_splits(images: Sequence[_ImagePath]) -> list[str]:
    """Return the folders above class folders that name no split, of images that are in no split."""
    names = {name for image in images if not image.split for name in image.folders if name.lower() not in WRAPPERS}
    return sorted(names)


def _shared_depth(folders: Sequence[tuple[str, ...]]) -> int:
    """Return the number of leading folders that all paths share."""
    levels = zip(*folders, strict=False)  # ends with the shortest path
    return next((depth for depth, names in enumerate(levels) if len(set(names)) > 1), min(map(len, folders)))
