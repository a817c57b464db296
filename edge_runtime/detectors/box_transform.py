"""Where the training crop lies relative to a detector's box: found out by running the detector on training faces."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fer_edge.artifacts.contract import BOX_TRANSFORMS, BoxTransform
from fer_edge.edge_runtime.crop import roll_degrees
from fer_edge.edge_runtime.detectors.detector import DETECTORS, Detector, open_detector
from fer_edge.edge_runtime.images import Image, import_cv2

SIDE_PX = 160  # of the pasted face: large enough for every detector
IMAGE_PX = 3 * SIDE_PX  # a third of what is looked at, as around a known face in a live run
LOOKED_FOR_PX = 96
MIN_FACES = 50  # below, a median says little


@dataclass(frozen=True)
class BoxFit:
    """A derived transform and how sure it is.

    Attributes:
        transform: Medians over the faces that were found.
        faces: Faces that were tried.
        found: Faces that the detector found.
        scale_spread: Distance of the quartiles of the scale.
        shift_spread: The same of the vertical shift, in box heights.
    """

    transform: BoxTransform
    faces: int
    found: int
    scale_spread: float
    shift_spread: float


def derive_box_transform(faces: Sequence[Image], detector: Detector) -> BoxFit:
    """Run a detector on training faces and compare its boxes with the crops.

    Each face stands enlarged in the middle of a gray image.

    Args:
        faces: uint8 arrays (side, side) or (side, side, 3), the crops as they are trained on.
        detector: The detector.

    Returns:
        The transform from its box to the crop.

    Raises:
        ValueError: If it finds fewer than 50 of the faces.
    """
    rows = []
    for face in faces:
        fitted = _fit_one(face, detector)
        if fitted:
            rows.append(fitted)
    if len(rows) < MIN_FACES:
        raise ValueError(
            f"{detector.name} found {len(rows)} of {len(faces)} training faces; deriving its box transform takes {MIN_FACES}"
        )
    low, middle, high = np.percentile(np.array(rows), [25, 50, 75], axis=0)
    scale, shift_x, shift_y = (round(float(value), 3) for value in middle)
    spread = high - low
    return BoxFit(BoxTransform(scale, shift_x, shift_y), len(faces), len(rows), float(spread[0]), float(spread[2]))


def derive_box_transforms(faces: Sequence[Image]) -> dict[str, BoxTransform]:
    """Derive the box transform of every detector that is installed.

    Args:
        faces: uint8 arrays (side, side) or (side, side, 3), the crops as they are trained on.

    Returns:
        A transform per detector name: derived, or the usual one where the detector is not installed or does not find these
        faces.
    """
    transforms = dict(BOX_TRANSFORMS)
    for name in (name for name in DETECTORS if name != "none"):
        try:
            transforms[name] = derive_box_transform(faces, open_detector(name)).transform
        except (ImportError, ValueError):
            continue
    return transforms


def _fit_one(face: Image, detector: Detector) -> tuple[float, float, float] | None:
    """Return scale, shift_x and shift_y of one face, None where it was not found."""
    cv2 = import_cv2()
    gray = face if face.ndim == 2 else cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)
    image = np.full((IMAGE_PX, IMAGE_PX), 128, np.uint8)
    image[SIDE_PX:-SIDE_PX, SIDE_PX:-SIDE_PX] = cv2.resize(gray, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC)
    middle = IMAGE_PX / 2
    for detection in detector.detect(np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2RGB), np.uint8), LOOKED_FOR_PX):
        x, y, w, h = detection.box_px
        inside = x <= middle <= x + w and y <= middle <= y + h
        upright = detection.eyes_px is None or abs(roll_degrees(detection.eyes_px)) < 20
        if inside and upright:
            return SIDE_PX / max(w, h), (middle - x - w / 2) / w, (middle - y - h / 2) / h
    return None
