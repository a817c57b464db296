"""The Output protocol, and labeled frames as data and as lines of text."""

import json
from typing import Any, Protocol

from fer_edge.artifacts.printable import printable
from fer_edge.edge_runtime.live.pipeline import LabeledFace, LabeledFrame
from fer_edge.edge_runtime.live.smoothing import UNSURE


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
        source, frame (number; None for an image), time (seconds since 1970; only for live frames), and faces: the data of
        LabeledFace.as_dict() for each.
    """
    data: dict[str, Any] = {"source": str(labeled.frame.source), "frame": labeled.frame.number}
    if labeled.frame.time is not None:
        data["time"] = round(labeled.frame.time, 3)
    return {**data, "faces": [face.as_dict() for face in labeled.faces]}


def as_json_line(labeled: LabeledFrame) -> str:
    """Return a labeled frame as one line of JSON."""
    return json.dumps(as_data(labeled))


def as_text_line(labeled: LabeledFrame) -> str:
    """Return a labeled frame as one readable line."""
    frame = labeled.frame
    source = printable(str(frame.source))
    name = source if frame.number is None else f"{source} frame {frame.number}"
    faces = [f"{label_with_percent(face)} at {','.join(map(str, face.box_px))}" for face in labeled.faces]
    return f"{name}: {'; '.join(faces) or 'no face'}"


def label_with_percent(face: LabeledFace) -> str:
    """Return a face's label and probability, such as ``happy 92%`` or ``sad 31% (unsure)``."""
    return f"{printable(face.label)} {face.probability:.0%}{' (unsure)' if face.unsure and face.label != UNSURE else ''}"
