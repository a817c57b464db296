"""Images with marked faces, and what a detector finds in them."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from fer_edge.artifacts.contract import BoxTransform
from fer_edge.benchmarks.synthetic_scenes import box_of
from fer_edge.edge_runtime.classify import Classifier
from fer_edge.edge_runtime.crop import Box, crop_face
from fer_edge.edge_runtime.detectors.detection import Detection
from fer_edge.edge_runtime.detectors.tiling import iou
from fer_edge.edge_runtime.images import Image

MIN_IOU = 0.3  # from which a detection is the face, after the box transform of the contract
SIZE_BOUNDS_PX = (60, 90, 140, 210, 300)  # of the faces in the parts of a result


@dataclass(frozen=True)
class MarkedFace:
    """A face that a detector must find.

    Attributes:
        box_px: Square box in the convention of Haar, pixels of the image.
        kinds: Properties for the parts of a result, such as ``profile``.
        label: Its expression; None if unknown.
    """

    box_px: Box
    kinds: tuple[str, ...] = ()
    label: str | None = None


@dataclass(frozen=True)
class MarkedImage:
    """An image with marked faces.

    Attributes:
        name: Its name for errors.
        read: Returns the image, uint8 array (height, width, 3), RGB.
        faces: Its faces.
        ignored_px: Boxes in which detections count neither as found nor as false: small faces, crowds.
    """

    name: str
    read: Callable[[], Image]
    faces: tuple[MarkedFace, ...] = ()
    ignored_px: tuple[Box, ...] = ()


@dataclass(frozen=True)
class Part:
    """Faces of one kind or size.

    Attributes:
        faces: Their number.
        found: How many of them were found.
    """

    faces: int
    found: int


@dataclass(frozen=True)
class SetResult:
    """One detector on one set of images.

    Attributes:
        images: Number of images.
        faces: Number of marked faces.
        found: How many of them were found.
        false_per_image: Mean number of detections that are not a marked face.
        iou: Median intersection over union of the found boxes, 0..1; None without any.
        p50_ms: Median time per image, milliseconds.
        p50_cpu_ms: Median CPU time of all threads per image, milliseconds. Other programs affect it less.
        parts: Faces and found faces by kind and size.
        correct: Fraction of the labeled faces that were found and labeled correctly, 0..1; None without labels.
        accuracy: Fraction of the found labeled faces that were labeled correctly, 0..1; None without any.
    """

    images: int
    faces: int
    found: int
    false_per_image: float
    iou: float | None
    p50_ms: float
    p50_cpu_ms: float
    parts: dict[str, Part] = field(default_factory=dict)
    correct: float | None = None
    accuracy: float | None = None


@dataclass(frozen=True)
class Search:
    """How a detector searches an image.

    Attributes:
        name: Name of the detector, for its box transform.
        detect: Returns its detections in an image.
    """

    name: str
    detect: Callable[[Image], Sequence[Detection]]


class _Tally:
    """Counts what one detector finds."""

    def __init__(self, search: Search, classifier: Classifier) -> None:
        self._search, self._classifier = search, classifier
        self._crop = classifier.contract.crop
        self._wall: list[float] = []
        self._cpu: list[float] = []
        self._overlaps: list[float] = []
        self._right: list[bool] = []
        self._false = self._labeled = 0
        self._faces: Counter[str] = Counter()
        self._found: Counter[str] = Counter()

    def add(self, marked: MarkedImage, image: Image) -> None:
        """Search an image, and label the faces that are found."""
        start, start_cpu = time.perf_counter(), time.process_time()
        detections = self._search.detect(image)
        self._wall.append(time.perf_counter() - start)
        self._cpu.append(time.process_time() - start_cpu)
        transform = self._crop.box_transform(self._search.name)
        boxes = [in_convention(detection.box_px, transform) for detection in detections]
        matches = match(boxes, [face.box_px for face in marked.faces])
        self._false += count_false(boxes, set(matches.values()), marked.ignored_px)
        self._labeled += sum(face.label is not None for face in marked.faces)
        for index, face in enumerate(marked.faces):
            parts = ("", *face.kinds, size_part(max(face.box_px[2:])))
            self._faces.update(parts)
            if index in matches:
                self._found.update(parts)
                self._overlaps.append(iou(boxes[matches[index]], face.box_px))
                if face.label is not None:
                    self._right.append(self._label(image, detections[matches[index]]) == face.label)

    def _label(self, image: Image, detection: Detection) -> str:
        pixels = crop_face(image, detection.box_px, self._search.name, self._crop, detection.eyes_px)
        return self._classifier.predict(pixels)[0].label

    def result(self) -> SetResult:
        """Return the result of all images so far."""
        return SetResult(
            images=len(self._wall),
            faces=self._faces[""],
            found=self._found[""],
            false_per_image=self._false / len(self._wall),
            iou=float(np.median(self._overlaps)) if self._overlaps else None,
            p50_ms=1000 * float(np.median(self._wall)),
            p50_cpu_ms=1000 * float(np.median(self._cpu)),
            parts={part: Part(count, self._found[part]) for part, count in sorted(self._faces.items()) if part},
            correct=sum(self._right) / self._labeled if self._labeled else None,
            accuracy=float(np.mean(self._right)) if self._right else None,
        )


def measure_set(images: Sequence[MarkedImage], searches: dict[str, Search], classifier: Classifier) -> dict[str, SetResult]:
    """Run detectors on images, in turn on each image, and the model on the labeled faces that they find.

    Args:
        images: The images, at least one.
        searches: The detectors.
        classifier: The model.

    Returns:
        The result of each detector.
    """
    tallies = {choice: _Tally(search, classifier) for choice, search in searches.items()}
    for marked in images:
        image = marked.read()
        for tally in tallies.values():
            tally.add(marked, image)
    return {choice: tally.result() for choice, tally in tallies.items()}


def in_convention(box: Box, transform: BoxTransform) -> Box:
    """Return a detector's box in the convention of the training crops.

    Args:
        box: Box (x, y, width, height) of the detector, pixels.
        transform: Its box transform.
    """
    x, y, width, height = box
    center = x + width * (0.5 + transform.shift_x), y + height * (0.5 + transform.shift_y)
    return box_of(center, max(width, height) * transform.scale)


def match(boxes: Sequence[Box], faces: Sequence[Box]) -> dict[int, int]:
    """Assign detections to faces, the best overlap first.

    Args:
        boxes: Boxes of the detections.
        faces: Boxes of the faces.

    Returns:
        Index of the detection per index of a found face.
    """
    pairs = sorted(((iou(box, face), f, d) for f, face in enumerate(faces) for d, box in enumerate(boxes)), reverse=True)
    matches: dict[int, int] = {}
    for overlap, face, detection in pairs:
        if overlap >= MIN_IOU and face not in matches and detection not in matches.values():
            matches[face] = detection
    return matches


def count_false(boxes: Sequence[Box], matched: set[int], ignored: Sequence[Box]) -> int:
    """Return the number of false detections.

    Args:
        boxes: Boxes of the detections.
        matched: Indices of those that are marked faces.
        ignored: Boxes that may contain unmarked faces; a detection with its center in one of them does not count.
    """
    centers = [(x + width / 2, y + height / 2) for x, y, width, height in boxes]
    return sum(
        index not in matched and not any(x <= cx <= x + w and y <= cy <= y + h for x, y, w, h in ignored)
        for index, (cx, cy) in enumerate(centers)
    )


def size_part(side_px: float) -> str:
    """Return the name of the part of a result for faces of this side, pixels."""
    bounds = [bound for bound in SIZE_BOUNDS_PX if bound <= side_px]
    if not bounds:
        return f"below {SIZE_BOUNDS_PX[0]} px"
    above = SIZE_BOUNDS_PX[len(bounds) :]
    return f"{bounds[-1]} to {above[0]} px" if above else f"{bounds[-1]} px and more"
