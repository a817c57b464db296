"""The detector protocol and its result."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fer_edge.edge_runtime.crop import Box, Eyes
from fer_edge.edge_runtime.images import Image, import_cv2

MIN_FACE_PX = 32


@dataclass(frozen=True)
class Detection:
    """A detected face.

    Attributes:
        box_px: Box (x, y, width, height), pixels of the image. It may extend beyond the image.
        eyes_px: Centers of the eyes, pixels of the image, the eye further left first. None if the detector returns no eyes.
        score: How sure the detector is that this is a face, 0..1. Scores of different detectors are not comparable.
    """

    box_px: Box
    eyes_px: Eyes | None = None
    score: float = 1.0


class Detector(Protocol):
    """Finds faces in an image.

    Attributes:
        name: Name of the detector's box transform in the contract.
        needs_gray: Whether the detector uses only a gray image.
    """

    name: str
    needs_gray: bool

    def detect(
        self, image: Image, min_face_px: int = MIN_FACE_PX, previous_boxes: Sequence[Box] | None = None
    ) -> list[Detection]:
        """Find the faces in an image.

        Args:
            image: uint8 array (height, width, 3), RGB, or (height, width), gray.
            min_face_px: Side of the smallest face to find, pixels. A larger value makes the search faster.
            previous_boxes: Boxes in the previous frame of the same source. A detector may search around them and search only
                a part of the rest per call. None searches the whole image.

        Returns:
            The faces, largest first.
        """


def largest_box(detections: Sequence[Detection]) -> Box | None:
    """Return the box with the largest area, None if there is no detection."""
    return largest_first(detections)[0].box_px if detections else None


def largest_first(detections: Sequence[Detection]) -> list[Detection]:
    """Return the detections, those with the largest area first."""
    return sorted(detections, key=lambda detection: -detection.box_px[2] * detection.box_px[3])


def three_channels(image: Image) -> Image:
    """Return an image (height, width, 3) as it is, and a gray one (height, width) with three equal channels."""
    return image if image.ndim == 3 else np.asarray(import_cv2().cvtColor(image, import_cv2().COLOR_GRAY2RGB), np.uint8)
