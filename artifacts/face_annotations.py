"""Where the faces in a folder of images are: written by ``fer-edge dev annotate``, read by the training of a detector."""

import json
from dataclasses import dataclass
from pathlib import Path

from fer_edge.artifacts.atomic_write import atomic_write
from fer_edge.artifacts.typed_json import from_data, to_data

ANNOTATIONS_FILE = "faces.json"
ANNOTATIONS_VERSION = 1

Rectangle = tuple[float, float, float, float]


@dataclass(frozen=True)
class AnnotatedFace:
    """A face in an image.

    Attributes:
        box_px: x, y, width and height of its box in the convention of OpenCV's Haar cascade, pixels.
        eyes_px: Left and right eye (x, y twice; left in the image), pixels; None where they are not known.
    """

    box_px: Rectangle
    eyes_px: Rectangle | None = None


@dataclass(frozen=True)
class AnnotatedImage:
    """The faces in one image.

    Attributes:
        name: Its path inside the folder or zip.
        width: Its width, pixels.
        height: Its height, pixels.
        faces: Its faces.
        ignore_px: Regions that may or may not show a face: x, y, width, height, pixels.
    """

    name: str
    width: int
    height: int
    faces: tuple[AnnotatedFace, ...] = ()
    ignore_px: tuple[Rectangle, ...] = ()


@dataclass(frozen=True)
class FaceAnnotations:
    """The faces in a folder or zip of images.

    Attributes:
        source: Name of the folder or zip.
        license: License of the images, or where it is stated.
        teachers: Detectors that found the faces; empty where people marked them.
        images: The images.
    """

    source: str
    license: str
    teachers: tuple[str, ...]
    images: tuple[AnnotatedImage, ...]
    annotations_version: int = ANNOTATIONS_VERSION

    def __post_init__(self) -> None:
        for image in self.images:
            _check_image(image)


def _check_image(image: AnnotatedImage) -> None:
    if image.width < 1 or image.height < 1:
        raise ValueError(f"an annotated image has at least one pixel. Received: {image.name}, {image.width}x{image.height}")
    for box in (*(face.box_px for face in image.faces), *image.ignore_px):
        x, y, width, height = box
        inside = x < image.width and y < image.height and x + width > 0 and y + height > 0
        if width <= 0 or height <= 0 or not inside:
            raise ValueError(
                f"a box must have an area and overlap its image ({image.name}, {image.width}x{image.height} pixels). "
                f"Received: {', '.join(f'{number:g}' for number in box)}"
            )


def write_annotations(path: Path, annotations: FaceAnnotations) -> None:
    """Write annotations as JSON.

    Args:
        path: The file.
        annotations: The annotations.

    Raises:
        OSError: If the file cannot be written.
    """
    atomic_write(path, json.dumps(to_data(annotations)) + "\n")


def read_annotations(path: Path) -> FaceAnnotations:
    """Read annotations that write_annotations wrote.

    Args:
        path: The file.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is not such a file, or a box is outside its image.
    """
    try:
        return from_data(FaceAnnotations, json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} has no usable annotations of faces ({error}). Write it again: fer-edge dev annotate"
        ) from error
