"""Labeled frames as data, as lines and as annotated pictures."""

import json
from typing import Any, Protocol

import numpy as np

from fer_edge.edge_runtime.images import Image, import_cv2
from fer_edge.edge_runtime.live.pipeline import LabeledFace, LabeledFrame

GREEN = (60, 220, 60)
BLACK = (0, 0, 0)
FONT_SCALE_PER_PX = 1 / 700  # text grows with the picture


class Output(Protocol):
    """Somewhere that labeled frames go."""

    def write(self, labeled: LabeledFrame) -> None:
        """Take one labeled frame."""

    def close(self, complete: bool) -> None:
        """Finish: what was written is whole after this.

        Args:
            complete: Whether the source was run to its end, or a live one was stopped. False after an error.
        """


def as_data(labeled: LabeledFrame) -> dict[str, Any]:
    """Return a labeled frame as plain data.

    Returns:
        source, frame (number, None for a picture), time (seconds since 1970, of live frames only), and faces: face (its
        number, not in single pictures), box_px, label, probability, probabilities.
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
    """Return a labeled frame as one line for people."""
    frame = labeled.frame
    name = str(frame.source) if frame.number is None else f"{frame.source} frame {frame.number}"
    told = [f"{face.label} {face.probability:.0%} at {','.join(map(str, face.box_px))}" for face in labeled.faces]
    return f"{name}: {'; '.join(told) or 'no face'}"


def annotate(labeled: LabeledFrame) -> Image:
    """Return a copy of the frame's picture with a box, label and probability for each face.

    Returns:
        uint8 array (height, width, 3), RGB.
    """
    cv2 = import_cv2()
    picture = labeled.frame.image.copy()
    scale = max(0.4, max(picture.shape[:2]) * FONT_SCALE_PER_PX)
    thickness = max(1, round(2 * scale))
    for face in labeled.faces:
        x, y, width, height = face.box_px
        cv2.rectangle(picture, (x, y), (x + width, y + height), GREEN, thickness)
        text = f"{face.label} {face.probability:.0%}"
        (text_width, text_height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
        left = max(0, min(x, picture.shape[1] - text_width))
        base = y - below if y - below - text_height > 0 else min(y + height + text_height + below, picture.shape[0] - below)
        cv2.rectangle(picture, (left, base - text_height - below // 2), (left + text_width, base + below), GREEN, -1)
        cv2.putText(picture, text, (left, base), cv2.FONT_HERSHEY_SIMPLEX, scale, BLACK, thickness, cv2.LINE_AA)
    return np.asarray(picture, np.uint8)
