"""From frames to labelled faces: detect, crop by the contract, classify."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fer_edge.edge_runtime.classify import Classifier, Prediction
from fer_edge.edge_runtime.crop import Box, crop_face
from fer_edge.edge_runtime.detect import Detector
from fer_edge.edge_runtime.sources import Frame


@dataclass(frozen=True)
class LabelledFace:
    """One face of a frame.

    Attributes:
        box_px: The detector's box (x, y, width, height), pixels of the frame.
        prediction: What the model says of it.
    """

    box_px: Box
    prediction: Prediction


@dataclass(frozen=True)
class LabelledFrame:
    """A frame with its faces, largest first; none where no face was found."""

    frame: Frame
    faces: tuple[LabelledFace, ...]


def label_frames(frames: Iterable[Frame], detector: Detector, classifier: Classifier) -> Iterator[LabelledFrame]:
    """Find and label the faces of each frame.

    Args:
        frames: Frames with RGB pictures.
        detector: Finds the faces; ``none`` takes each picture as one face.
        classifier: Labels them.

    Yields:
        Each frame with its faces, in order.
    """
    crop = classifier.contract.crop
    for frame in frames:
        faces = []
        for box in detector.detect(frame.picture):
            whole = detector.name == "none"
            face = frame.picture if whole else crop_face(frame.picture, box, detector.name, crop)
            faces.append(LabelledFace(box, classifier.predict(face)[0]))
        yield LabelledFrame(frame, tuple(faces))
