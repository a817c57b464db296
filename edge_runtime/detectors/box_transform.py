"""Measure how the training crop differs from a detector's box, by running the detector on training faces."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from fer_edge.artifacts.contract import BOX_TRANSFORMS, BoxTransform
from fer_edge.edge_runtime.crop import roll_degrees
from fer_edge.edge_runtime.detectors.detection import Detector
from fer_edge.edge_runtime.detectors.detector import DETECTORS, open_detector
from fer_edge.edge_runtime.images import Image, import_cv2

FACE_SIDE_PX = 160  # of the pasted face: large enough for every detector
IMAGE_SIDE_PX = 3 * FACE_SIDE_PX  # the face fills a third, as in the tile around a known face in a live run
MIN_FACE_PX = 96
MAX_ROLL_DEGREES = 20  # a face that appears more tilted was misdetected
MIN_FACES = 50  # the median of fewer faces is not reliable


@dataclass(frozen=True)
class BoxFit:
    """A measured box transform and its spread.

    Attributes:
        transform: Median over the detected faces.
        faces: Number of faces tried.
        found: Number of faces that the detector found.
        scale_spread: Interquartile range of the scale.
        shift_spread: Interquartile range of the vertical shift, in box heights.
    """

    transform: BoxTransform
    faces: int
    found: int
    scale_spread: float
    shift_spread: float


def derive_box_transform(faces: Sequence[Image], detector: Detector) -> BoxFit:
    """Run a detector on training faces and compare its boxes with the crops.

    Each face is enlarged and pasted into the center of a gray image.

    Args:
        faces: uint8 arrays (side, side) or (side, side, 3), the training crops.
        detector: The detector to measure.

    Returns:
        The transform from the detector's box to the crop.

    Raises:
        ValueError: If the detector finds fewer than 50 of the faces.
    """
    rows = [row for row in (_fit_one(face, detector) for face in faces) if row]
    if len(rows) < MIN_FACES:
        raise ValueError(
            f"{detector.name} found {len(rows)} of {len(faces)} training faces; its box transform needs at least {MIN_FACES}"
        )
    low, median, high = np.percentile(np.array(rows), [25, 50, 75], axis=0)
    scale, shift_x, shift_y = (round(float(value), 3) for value in median)
    spread = high - low
    return BoxFit(BoxTransform(scale, shift_x, shift_y), len(faces), len(rows), float(spread[0]), float(spread[2]))


def derive_box_transforms(faces: Sequence[Image]) -> dict[str, BoxTransform]:
    """Measure the box transform of every installed detector.

    Args:
        faces: uint8 arrays (side, side) or (side, side, 3), the training crops.

    Returns:
        One transform per detector name. The default transform if the detector is not installed or finds too few faces.
    """
    transforms = dict(BOX_TRANSFORMS)
    for name in (name for name in DETECTORS if name != "none"):
        with suppress(ImportError):
            transforms[name] = box_transform_for(faces, open_detector(name))
    return transforms


def box_transform_for(faces: Sequence[Image], detector: Detector) -> BoxTransform:
    """Measure the box transform of a detector.

    Args:
        faces: uint8 arrays (side, side) or (side, side, 3), the training crops.
        detector: The detector.

    Returns:
        The default transform if the detector finds too few faces.
    """
    try:
        return derive_box_transform(faces, detector).transform
    except ValueError:
        return BOX_TRANSFORMS.get(detector.name, BoxTransform())


def _fit_one(face: Image, detector: Detector) -> tuple[float, float, float] | None:
    """Return scale, shift_x and shift_y of one face, None if the detector does not find it."""
    cv2 = import_cv2()
    gray = face if face.ndim == 2 else cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)
    image = np.full((IMAGE_SIDE_PX, IMAGE_SIDE_PX), 128, np.uint8)
    enlarged = cv2.resize(gray, (FACE_SIDE_PX, FACE_SIDE_PX), interpolation=cv2.INTER_CUBIC)
    image[FACE_SIDE_PX:-FACE_SIDE_PX, FACE_SIDE_PX:-FACE_SIDE_PX] = enlarged
    center = IMAGE_SIDE_PX / 2
    for detection in detector.detect(np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2RGB), np.uint8), MIN_FACE_PX):
        x, y, w, h = detection.box_px
        inside = x <= center <= x + w and y <= center <= y + h
        upright = detection.eyes_px is None or abs(roll_degrees(detection.eyes_px)) < MAX_ROLL_DEGREES
        if inside and upright:
            return FACE_SIDE_PX / max(w, h), (center - x - w / 2) / w, (center - y - h / 2) / h
    return None
