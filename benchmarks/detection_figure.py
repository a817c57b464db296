"""A figure of drawn scenes with the boxes of a detector: scenes in which it is right, then those in which it errs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fer_edge.artifacts.contract import BoxTransform
from fer_edge.benchmarks.detection_benchmark import MIN_FACE_PX
from fer_edge.benchmarks.detection_sets import drawn_face_free, scene_sets
from fer_edge.benchmarks.marked_images import MarkedImage, in_convention, match
from fer_edge.benchmarks.synthetic_scenes import LabeledCrop
from fer_edge.edge_runtime.crop import Box
from fer_edge.edge_runtime.detectors.detection import Detector
from fer_edge.edge_runtime.images import Image, import_cv2

ROWS, COLUMNS = 3, 4
PANEL_SIZE_PX = (320, 240)  # width and height
GAP_PX = 4
SCENES_PER_CONDITION = 40
FOUND, MISSED, FALSE = (40, 190, 60), (230, 40, 40), (255, 150, 0)  # RGB


@dataclass(frozen=True)
class _Panel:
    """A scene and the detections in it."""

    image: Image
    found: list[Box]
    missed: list[Box]
    false: list[Box]

    @property
    def is_right(self) -> bool:
        return not self.missed and not self.false


def detection_figure(detector: Detector, transform: BoxTransform, crops: Sequence[LabeledCrop]) -> tuple[Image, int, int]:
    """Draw twelve scenes with the boxes of a detector. Up to half of them are scenes in which it errs.

    Args:
        detector: The detector.
        transform: Its box transform.
        crops: Face crops for the scenes.

    Returns:
        The figure, uint8 array (height, width, 3), RGB; the number of scenes that were searched, and in how many the detector
        erred.
    """
    panels = [_search(scene, detector, transform) for scene in _scenes(crops)]
    wrong = [panel for panel in panels if not panel.is_right]
    right = [panel for panel in panels if panel.is_right]
    count = ROWS * COLUMNS
    errors = _spread(wrong, max(count // 2, count - len(right)))
    return _draw([*_spread(right, count - len(errors)), *errors]), len(panels), len(wrong)


def _spread(panels: Sequence[_Panel], count: int) -> Sequence[_Panel]:
    """Return at most ``count`` panels at equal distances, so that all conditions are shown."""
    return [panels[k * len(panels) // count] for k in range(count)] if len(panels) > count else panels


def _scenes(crops: Sequence[LabeledCrop]) -> Iterator[MarkedImage]:
    """Yield scenes of all conditions with the face crops, then images without a face."""
    for scenes in scene_sets(crops, SCENES_PER_CONDITION, SCENES_PER_CONDITION).values():
        yield from scenes
    yield from drawn_face_free(SCENES_PER_CONDITION)


def _search(scene: MarkedImage, detector: Detector, transform: BoxTransform) -> _Panel:
    image = scene.read()
    boxes = [in_convention(face.box_px, transform) for face in detector.detect(image, MIN_FACE_PX)]
    faces = [face.box_px for face in scene.faces]
    matches = match(boxes, faces)
    matched = set(matches.values())
    false = [box for index, box in enumerate(boxes) if index not in matched]  # these scenes ignore no region
    missed = [face for index, face in enumerate(faces) if index not in matches]
    return _Panel(image, [boxes[index] for index in matched], missed, false)


def _draw(panels: Sequence[_Panel]) -> Image:
    """Return the panels in rows: green boxes are found faces, red ones missed faces, orange ones false detections."""
    cv2 = import_cv2()
    width, height = PANEL_SIZE_PX
    figure = np.full((ROWS * (height + GAP_PX) - GAP_PX, COLUMNS * (width + GAP_PX) - GAP_PX, 3), 255, np.uint8)
    for number, panel in enumerate(panels):
        image = panel.image.copy()
        for boxes, color in ((panel.found, FOUND), (panel.missed, MISSED), (panel.false, FALSE)):
            for x, y, box_width, box_height in boxes:
                cv2.rectangle(image, (x, y), (x + box_width, y + box_height), color, 4)
        top, left = number // COLUMNS * (height + GAP_PX), number % COLUMNS * (width + GAP_PX)
        figure[top : top + height, left : left + width] = cv2.resize(image, PANEL_SIZE_PX, interpolation=cv2.INTER_AREA)
    return figure
