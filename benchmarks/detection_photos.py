"""Photos with faces marked by hand, from public repositories. The repository has the marks, not the photos.

Each line of detection_photos.jsonl names a file of a GitHub repository, its license and its sha256. No detector trained by
fer-edge has seen these files, and no threshold was chosen on them.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from fer_edge.artifacts.typed_json import read_json_lines
from fer_edge.benchmarks.marked_images import MarkedFace, MarkedImage
from fer_edge.edge_runtime.crop import Box
from fer_edge.edge_runtime.file_types import IMAGE_SUFFIXES
from fer_edge.edge_runtime.images import Image, import_cv2, read_image

MARKS_FILE = Path(__file__).with_name("detection_photos.jsonl")
FRAME_SIZE = (640, 480)  # photos are reduced to fit
MIN_FACE_PX = 60  # in the reduced photo; smaller faces are ignored
NAMED_MISSING = 10


@dataclass(frozen=True)
class Photo:
    """A photo and the faces in it.

    Attributes:
        repository: Its GitHub repository, owner/name.
        commit: A commit that contains it.
        path: Its path in the repository.
        license: The license that the repository states, an SPDX name.
        sha256: Digest of the file.
        width: Width, pixels.
        height: Height, pixels.
        faces: All faces that can be seen, except in ignored areas.
        ignored_px: Areas (x, y, width, height) with crowds, blurred or mostly covered heads and painted faces.
    """

    repository: str
    commit: str
    path: str
    license: str
    sha256: str
    width: int
    height: int
    faces: tuple[MarkedFace, ...]
    ignored_px: tuple[Box, ...]


def read_photos(folder: Path, marks: Path = MARKS_FILE) -> list[MarkedImage]:
    """Find the marked photos in a folder, by their content.

    Args:
        folder: Folder with the photos under any names.
        marks: The JSON-lines file of the marks.

    Returns:
        The photos, reduced to 640 x 480 pixels. Faces smaller than 60 pixels are ignored.

    Raises:
        FileNotFoundError: If the folder, the marks or some photos do not exist. The message names the missing photos.
        ValueError: If a line of the marks is damaged.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder '{folder}'. Give the folder with the photos that {MARKS_FILE.name} lists")
    photos = read_json_lines(Photo, marks)
    if not photos:
        raise FileNotFoundError(f"no marks in '{marks}': they are in the repository of fer-edge, not in the installed package")
    files = {_digest(path): path for path in sorted(folder.rglob("*")) if path.suffix.lower() in IMAGE_SUFFIXES}
    missing = [f"{photo.repository}: {photo.path}" for photo in photos if photo.sha256 not in files]
    if missing:
        named = "\n".join(missing[:NAMED_MISSING]) + ("\n..." if len(missing) > NAMED_MISSING else "")
        raise FileNotFoundError(
            f"{len(missing)} of {len(photos)} photos are not in '{folder}'. Copy them from their GitHub repositories; "
            f"{marks.name} has commits and digests:\n{named}"
        )
    return [_marked(photo, files[photo.sha256]) for photo in photos]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _marked(photo: Photo, path: Path) -> MarkedImage:
    """Return a photo with its marks in pixels of the reduced photo."""
    scale = min(1.0, FRAME_SIZE[0] / photo.width, FRAME_SIZE[1] / photo.height)
    faces = [replace(face, box_px=_scaled(face.box_px, scale)) for face in photo.faces]
    small = [face.box_px for face in faces if face.box_px[2] < MIN_FACE_PX]
    ignored = [_scaled(box, scale) for box in photo.ignored_px]
    large = tuple(face for face in faces if face.box_px[2] >= MIN_FACE_PX)
    return MarkedImage(path.name, partial(_read_reduced, path, scale), large, (*ignored, *small))


def _scaled(box: Sequence[float], scale: float) -> Box:
    x, y, width, height = (round(value * scale) for value in box)
    return x, y, width, height


def _read_reduced(path: Path, scale: float) -> Image:
    image = read_image(path)
    if scale == 1:
        return image
    size = round(image.shape[1] * scale), round(image.shape[0] * scale)
    return np.asarray(import_cv2().resize(image, size, interpolation=import_cv2().INTER_AREA), np.uint8)
