"""Annotate images with the faces on which installed detectors (teachers) agree."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fer_edge.artifacts.contract import BoxTransform, CropConvention
from fer_edge.artifacts.face_annotations import AnnotatedFace, AnnotatedImage, FaceAnnotations, Rectangle
from fer_edge.artifacts.reporter import SILENT, Reporter
from fer_edge.edge_runtime.detectors.detection import MIN_FACE_PX, Detection, Detector
from fer_edge.edge_runtime.detectors.detector import open_detector
from fer_edge.edge_runtime.detectors.tiling import iou
from fer_edge.edge_runtime.detectors.yunet import YuNet
from fer_edge.edge_runtime.images import Image, import_cv2
from fer_edge.train.dataset import DataError
from fer_edge.train.dataset_files import DatasetFiles

MAX_SIDE_PX = 1280  # larger images are searched at this size: the networks see far fewer pixels
AGREEING_IOU = 0.5
SAME_FACE_IOU = 0.2
MAIN_FACE_FRACTION = 0.4  # of the shorter side of the image; such a face in the middle needs one teacher only
# A teacher with such a score needs no other. Of 30 such detections of YuNet that BlazeFace missed, 29 are faces, most of them
# in profile.
SURE_SCORES = {"yunet": 0.8}
# YuNet searches as a teacher at two sizes. Its detections with a low score are ignored if no other teacher agrees: most are
# backs of heads, hands and prints, but some are faces in profile, which must not be taught as background.
YUNET_SIDES_PX = (640, MAX_SIDE_PX)
YUNET_MIN_SCORE = 0.4
YUNET_MIN_FACE_PX = 10  # YuNet's faces from this size to the smallest wanted one become regions to ignore, see annotate_image


@dataclass(frozen=True)
class _Found:
    """A detection of one teacher, its box in the Haar convention."""

    teacher: str
    box: Rectangle
    eyes: Rectangle | None
    is_sure: bool = False


def annotate(
    files: DatasetFiles,
    teachers: Sequence[Detector],
    license_text: str,
    min_face_px: int = MIN_FACE_PX,
    reporter: Reporter = SILENT,
) -> FaceAnnotations:
    """Find the faces in all images of a folder or zip.

    A face is what at least two teachers find (IoU of 0.5 in the same box convention): the mean of their boxes, with the eyes
    of a teacher that returns them. What only one teacher finds is a region to ignore, except a large face in the middle of
    the image, as in portraits, and a detection of YuNet with a score of at least 0.8. With a single teacher, everything that it
    finds is a face.

    Args:
        files: The images.
        teachers: The detectors, see open_teachers.
        license_text: License of the images.
        min_face_px: Side of the smallest face to find, pixels of an image of at most 1280 pixels per side.
        reporter: Receives progress, and a warning of images that cannot be read.

    Returns:
        The faces of each readable image, in the order of their names.

    Raises:
        DataError: If there are no images, or none of them has a face.
    """
    if not files.images:
        raise DataError(f"'{files.path}' has no images to annotate")
    damaged: list[str] = []
    images = []
    with reporter.progress("annotating") as progress:
        for name, image in files.decoded(files.images, damaged, progress):
            images.append(annotate_image(name, image, teachers, min_face_px))
    if damaged:
        reporter.warn(f"{len(damaged)} images left out: {damaged[0]}")
    if not any(image.faces or image.ignore_px for image in images):
        names = ", ".join(_names(teachers))
        raise DataError(
            f"no face in the {len(images)} images of '{files.path}' (teachers: {names}). Use it as backgrounds: "
            "--data backgrounds=PATH"
        )
    return FaceAnnotations(Path(files.path).name, license_text, _names(teachers), tuple(images))


def open_teachers(names: Sequence[str]) -> list[Detector]:
    """Open detectors as teachers. Next to other teachers, YuNet is opened twice: once per size of the search.

    Args:
        names: Names of detectors, or .onnx files of YuNet.

    Raises:
        ImportError: If one is not installed.
        ValueError: If one is unknown.
    """
    teachers: list[Detector] = []
    for name in names:
        if len(names) > 1 and (name == YuNet.name or name.endswith(".onnx")):
            model = None if name == YuNet.name else name
            teachers += [YuNet(model, YUNET_MIN_SCORE, max_side_px=side) for side in YUNET_SIDES_PX]
        else:
            teachers.append(open_detector(name))
    return teachers


def annotate_image(name: str, image: Image, teachers: Sequence[Detector], min_face_px: int = MIN_FACE_PX) -> AnnotatedImage:
    """Find the faces in an image.

    Args:
        name: Its name.
        image: uint8 array (height, width, 3), RGB.
        teachers: The detectors.
        min_face_px: Side of the smallest face to find, pixels of the searched image. Smaller faces of YuNet become regions to
            ignore: enlarged in a scene, they would be taught as background.
    """
    height, width = image.shape[:2]
    scale = min(1.0, MAX_SIDE_PX / max(height, width))
    searched = image
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        searched = np.asarray(import_cv2().resize(image, size, interpolation=import_cv2().INTER_AREA), np.uint8)
    found = []
    for teacher in teachers:
        smallest = min(min_face_px, YUNET_MIN_FACE_PX) if teacher.name == YuNet.name else min_face_px
        transform = CropConvention().box_transform(teacher.name)
        found += [_found(teacher.name, transform, detection, scale) for detection in teacher.detect(searched, smallest)]
    found = [one for one in found if _overlaps(one.box, width, height)]
    faces, ignored = merge(found, len(_names(teachers)), width, height)
    wanted = [face for face in faces if face.box_px[2] * scale >= min_face_px]
    small = [face.box_px for face in faces if face.box_px[2] * scale < min_face_px]
    return AnnotatedImage(name, width, height, tuple(wanted), (*ignored, *small))


def merge(found: Sequence[_Found], teachers: int, width: int, height: int) -> tuple[list[AnnotatedFace], list[Rectangle]]:
    """Merge the detections of all teachers. A sure detection of one teacher is a face unless it is another box of one.

    Args:
        found: The detections.
        teachers: Number of different teachers.
        width: Width of the image, pixels.
        height: Height of the image, pixels.

    Returns:
        The faces, and the regions to ignore.
    """
    faces: list[AnnotatedFace] = []
    alone: list[_Found] = []
    rest = list(found)
    while rest:
        first = rest[0]
        group = [one for one in rest if one is first or iou(one.box, first.box) > AGREEING_IOU]
        rest = [one for one in rest if all(one is not other for other in group)]
        x, y, w, h = np.mean([one.box for one in group], axis=0).tolist()
        eyes = next((one.eyes for one in group if one.eyes is not None), None)
        if len({one.teacher for one in group}) >= min(2, teachers):
            faces.append(AnnotatedFace((x, y, w, h), eyes))
        else:
            alone += group
    ignored: list[Rectangle] = []
    for one in sorted(alone, key=lambda one: not one.is_sure):
        if any(iou(one.box, face.box_px) > SAME_FACE_IOU for face in faces):
            continue  # another box of the same face
        if one.is_sure or _is_main_face(one.box, width, height):
            faces.append(AnnotatedFace(one.box, one.eyes))
        elif all(iou(one.box, box) <= AGREEING_IOU for box in ignored):
            ignored.append(one.box)
    return faces, ignored


def _names(teachers: Sequence[Detector]) -> tuple[str, ...]:
    """Return the names of the teachers, each once."""
    return tuple(dict.fromkeys(teacher.name for teacher in teachers))


def _found(name: str, transform: BoxTransform, detection: Detection, scale: float) -> _Found:
    x, y, w, h = detection.box_px
    side = transform.scale * max(w, h)
    center_x, center_y = x + w * (0.5 + transform.shift_x), y + h * (0.5 + transform.shift_y)
    left, top, side = (value / scale for value in (center_x - side / 2, center_y - side / 2, side))
    eyes = None
    if detection.eyes_px is not None:
        (first_x, first_y), (second_x, second_y) = detection.eyes_px
        eyes = (first_x / scale, first_y / scale, second_x / scale, second_y / scale)
    is_sure = detection.score >= SURE_SCORES.get(name, math.inf)
    return _Found(name, (left, top, side, side), eyes, is_sure)


def _overlaps(box: Rectangle, width: int, height: int) -> bool:
    x, y, w, h = box
    return x < width and y < height and x + w > 0 and y + h > 0


def _is_main_face(box: Rectangle, width: int, height: int) -> bool:
    x, y, w, h = box
    covers_center = x < width / 2 < x + w and y < height / 2 < y + h
    return covers_center and max(w, h) >= MAIN_FACE_FRACTION * min(width, height)
