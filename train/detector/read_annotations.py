"""Read annotations of faces: those of ``fer-edge dev annotate``, WIDER FACE's text files and COCO's JSON."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fer_edge.artifacts.face_annotations import (
    AnnotatedFace,
    AnnotatedImage,
    FaceAnnotations,
    Rectangle,
    read_annotations,
)
from fer_edge.train.dataset import DataError

FACE_CATEGORIES = ("face", "human face")
PERSON_CATEGORY = "person"  # its keypoints 1 and 2 are the eyes
# A face of WIDER FACE reaches from the forehead to the chin and is higher than wide; Haar's box is a square around its center.
WIDER_COLUMNS = 10
WIDER_INVALID = 7
# Haar's side in units of the distance between the eyes, and of the shift of its center below them. Measured on FER2013: the
# eyes of its crops, which are Haar boxes, are 0.40 of the side apart, 0.38 of it below the upper edge.
SIDE_PER_EYE_DISTANCE = 2.5
EYES_FROM_TOP = 0.38

Sizes = dict[str, tuple[int, int]]


def load_annotations(path: Path, sizes: Sizes) -> FaceAnnotations:
    """Read the faces of the images of a folder or zip, in any of the formats.

    Args:
        path: ``faces.json``, a COCO JSON file, or a text file of WIDER FACE.
        sizes: Width and height of each image by its name, pixels. WIDER FACE's files lack them.

    Raises:
        FileNotFoundError: If there is no such file.
        DataError: If it has no boxes, a box is outside its image, or its format is unknown.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"no annotations '{path}'. Write them: fer-edge dev annotate FOLDER, or give WIDER or COCO files"
        )
    try:
        annotations = _read(path, sizes)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise DataError(f"{path} has no usable annotations of faces: {error}") from error
    if not any(image.faces for image in annotations.images):
        raise DataError(
            f"{path} has no boxes of faces that belong to the images. Images without faces are backgrounds: "
            "--data backgrounds=PATH"
        )
    return annotations


def _read(path: Path, sizes: Sizes) -> FaceAnnotations:
    if path.suffix.lower() == ".txt":
        images = _wider(path.read_text(encoding="utf-8").splitlines(), sizes)
        return FaceAnnotations(path.name, "as stated by the source", (), tuple(images))
    values = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(values, dict) and "annotations" in values and "categories" in values:
        return FaceAnnotations(path.name, _coco_licenses(values), (), tuple(_coco(values)))
    return read_annotations(path)


def _wider(lines: list[str], sizes: Sizes) -> Iterator[AnnotatedImage]:
    """Yield the images of a WIDER FACE file: the name, the number of faces, and a line of numbers per face."""
    by_suffix = {name.rsplit("/images/", 1)[-1]: name for name in sizes} | {name: name for name in sizes}
    position = 0
    while position < len(lines):
        name, count = lines[position].strip(), int(lines[position + 1])
        rows = [[float(part) for part in line.split()] for line in lines[position + 2 : position + 2 + max(count, 1)]]
        if any(len(row) < 4 for row in rows) or len(rows) < max(count, 1):
            raise ValueError(f"line {position + 3}: expected {max(count, 1)} lines of at least four numbers after '{name}'")
        position += 2 + max(count, 1)
        if name not in by_suffix:
            continue
        width, height = sizes[by_suffix[name]]
        faces: list[Rectangle] = []
        ignored: list[Rectangle] = []
        for row in rows[:count]:
            box = _square(row[0], row[1], row[2], row[3])
            unusable = len(row) >= WIDER_COLUMNS and row[WIDER_INVALID] > 0
            if row[2] <= 0 or row[3] <= 0:
                continue  # WIDER FACE has a few empty boxes
            (ignored if unusable else faces).append(box)
        yield AnnotatedImage(by_suffix[name], width, height, tuple(AnnotatedFace(box) for box in faces), tuple(ignored))


def _coco(values: dict[str, Any]) -> Iterator[AnnotatedImage]:
    """Yield the images of a COCO file: boxes of a category face, or the eyes of persons."""
    categories = {entry["id"]: str(entry["name"]).lower() for entry in values["categories"]}
    if not any(name in FACE_CATEGORIES or name == PERSON_CATEGORY for name in categories.values()):
        raise ValueError(f"no category 'face' or 'person'; it has: {', '.join(sorted(categories.values())[:10])}")
    rows: dict[Any, list[dict[str, Any]]] = {}
    for row in values["annotations"]:
        rows.setdefault(row["image_id"], []).append(row)
    for image in values["images"]:
        faces: list[AnnotatedFace] = []
        ignored: list[Rectangle] = []
        for row in rows.get(image["id"], []):
            category = categories[row["category_id"]]
            x, y, w, h = (float(number) for number in row.get("bbox") or (0, 0, 0, 0))
            if w <= 0 or h <= 0:
                raise ValueError(f"annotation {row.get('id')} has no box")
            if category in FACE_CATEGORIES and row.get("iscrowd"):
                ignored.append((x, y, w, h))
            elif category in FACE_CATEGORIES:
                faces.append(AnnotatedFace(_square(x, y, w, h)))
            elif category == PERSON_CATEGORY:
                face = _face_of_keypoints(row.get("keypoints") or [])
                if face is not None:
                    faces.append(face)
                else:
                    ignored.append((x, y, w, h))
        yield AnnotatedImage(str(image["file_name"]), int(image["width"]), int(image["height"]), tuple(faces), tuple(ignored))


def _face_of_keypoints(keypoints: list[float]) -> AnnotatedFace | None:
    """Return the face around the two visible eyes of a COCO person; None where they are not both visible."""
    if len(keypoints) < 9 or keypoints[5] < 2 or keypoints[8] < 2:
        return None
    first, second = sorted([(keypoints[3], keypoints[4]), (keypoints[6], keypoints[7])])
    distance = ((first[0] - second[0]) ** 2 + (first[1] - second[1]) ** 2) ** 0.5
    if distance < 1:
        return None
    side = SIDE_PER_EYE_DISTANCE * distance
    x, y = (first[0] + second[0]) / 2, (first[1] + second[1]) / 2
    return AnnotatedFace((x - side / 2, y - EYES_FROM_TOP * side, side, side), (*first, *second))


def _square(x: float, y: float, width: float, height: float) -> Rectangle:
    side = (width + height) / 2
    return (x + width / 2 - side / 2, y + height / 2 - side / 2, side, side)


def _coco_licenses(values: dict[str, Any]) -> str:
    names = sorted({str(entry.get("name", "")) for entry in values.get("licenses", [])})
    return "; ".join(filter(None, names)) or "not stated"
