"""The Output protocol, and labeled frames as data, as lines of text and as annotated images."""

import json
from typing import Any, Protocol

import numpy as np

from fer_edge.edge_runtime.images import Image, import_cv2
from fer_edge.edge_runtime.live.pipeline import LabeledFace, LabeledFrame

GREEN = (60, 220, 60)
BLACK = (0, 0, 0)
FONT_SCALE_PER_PX = 1 / 700  # text grows with the image
MIN_FONT_SCALE = 0.4


class Output(Protocol):
    """A destination for labeled frames."""

    def write(self, labeled: LabeledFrame) -> None:
        """Write one labeled frame."""

    def close(self, complete: bool) -> None:
        """Finish. Files are complete after this call.

        Args:
            complete: True if the source reached its end, or a live source was stopped; False after an error.
        """


def as_data(labeled: LabeledFrame) -> dict[str, Any]:
    """Return a labeled frame as plain data.

    Returns:
        source, frame (number; None for an image), time (seconds since 1970; only for live frames), and faces. Each face has
        face (its number; not for images), box_px, label, probability and probabilities.
    """
    data: dict[str, Any] = {"source": str(labeled.frame.source), "frame": labeled.frame.number}
    if labeled.frame.time is not None:
        data["time"] = round(labeled.frame.time, 3)
    return {**data, "faces": [_face_data(face) for face in labeled.faces]}


def _face_data(face: LabeledFace) -> dict[str, Any]:
    data: dict[str, Any] = {
        "box_px": list(face.box_px),
        "label": face.label,
        "probability": face.probability,
        "probabilities": face.probabilities,
    }
    return data if face.number is None else {"face": face.number, **data}


def as_json_line(labeled: LabeledFrame) -> str:
    """Return a labeled frame as one line of JSON."""
    return json.dumps(as_data(labeled))


def as_text_line(labeled: LabeledFrame) -> str:
    """Return a labeled frame as one readable line."""
    frame = labeled.frame
    name = str(frame.source) if frame.number is None else f"{frame.source} frame {frame.number}"
    faces = [f"{label_with_percent(face)} at {','.join(map(str, face.box_px))}" for face in labeled.faces]
    return f"{name}: {'; '.join(faces) or 'no face'}"


def label_with_percent(face: LabeledFace) -> str:
    """Return a face's label and probability, such as ``happy 92%``."""
    return f"{face.label} {face.probability:.0%}"


def annotate(labeled: LabeledFrame) -> Image:
    """Draw a box, a label and a probability for each face on a copy of the frame.

    The label is above the box, or below it if there is no room, and never leaves the image on the left or right unless it is
    wider than the image.

    Returns:
        uint8 array (height, width, 3), RGB.
    """
    cv2 = import_cv2()
    image = labeled.frame.image.copy()
    scale = max(MIN_FONT_SCALE, max(image.shape[:2]) * FONT_SCALE_PER_PX)
    thickness = max(1, round(2 * scale))
    for face in labeled.faces:
        x, y, width, height = face.box_px
        cv2.rectangle(image, (x, y), (x + width, y + height), GREEN, thickness)
        text = label_with_percent(face)
        (text_width, text_height), descent = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
        left = max(0, min(x, image.shape[1] - text_width))
        if y - descent - text_height > 0:
            baseline = y - descent
        else:
            baseline = min(y + height + text_height + descent, image.shape[0] - descent)
        top_left, bottom_right = (left, baseline - text_height - descent // 2), (left + text_width, baseline + descent)
        cv2.rectangle(image, top_left, bottom_right, GREEN, cv2.FILLED)
        cv2.putText(image, text, (left, baseline), cv2.FONT_HERSHEY_SIMPLEX, scale, BLACK, thickness, cv2.LINE_AA)
    return np.asarray(image, np.uint8)
