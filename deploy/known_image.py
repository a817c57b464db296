"""The self-test: a board must find the same face in a known image as this machine."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fer_edge.edge_runtime.detectors.blazeface import PACKAGE, PACKAGE_FILE, blazeface_model
from fer_edge.edge_runtime.detectors.detector import open_detector
from fer_edge.edge_runtime.detectors.detector_network import own_detector_model
from fer_edge.edge_runtime.detectors.yunet import yunet_model
from fer_edge.edge_runtime.live.analyze import analyze

# ARM and x86 round differently in float: BlazeFace, YuNet, the last layers of the own detector and, rarely, Haar's sums.
MAX_BOX_DIFFERENCE_PX = 6
MAX_PROBABILITY_DIFFERENCE = 0.06


@dataclass(frozen=True)
class DetectorFile:
    """A detector and the file that it needs on the board.

    Attributes:
        name: The value of ``--detector`` on the board: a name, or the name of a file in the folder of the release.
        local: The value of ``--detector`` on this machine.
        file: The file to copy, if any.
        place: Where the file goes in the folder of the release; ``{packages}`` stands for the packages of the environment.
    """

    name: str
    local: str
    file: Path | None = None
    place: str = ""

    @property
    def is_path(self) -> bool:
        """Whether the name is that of a file in the folder of the release."""
        return self.name == self.place


def detector_file(name: str) -> DetectorFile:
    """Find the detector that ``--detector`` means on this machine, and its file.

    Args:
        name: As for open_detector; ``auto`` is decided here, so that the board uses the same one.

    Raises:
        ValueError: If the name is unknown.
        ImportError: If its library or model is not installed here.
    """
    chosen = open_detector(name).name
    if chosen == "blazeface":
        return DetectorFile("blazeface", "blazeface", blazeface_model(), f"{{packages}}/{PACKAGE}/{PACKAGE_FILE}")
    if chosen == "yunet":
        path = Path(name) if name.endswith(".onnx") else yunet_model()
        return DetectorFile("detector.onnx", str(path), path, "detector.onnx")
    if chosen == "own":
        path = Path(name) if name.endswith(".tflite") else own_detector_model()
        return DetectorFile("detector.tflite", str(path), path, "detector.tflite")
    return DetectorFile(chosen, chosen)


def expected_faces(image: Path, model: Path, detector: str) -> list[dict[str, Any]]:
    """Return the faces that this machine finds.

    Args:
        image: The known image.
        model: The model.
        detector: The detector, as this machine names it.
    """
    return [
        {"box_px": list(face.box_px), "label": face.label, "probability": face.probability}
        for face in analyze(image, model, detector=detector)
    ]


def check_faces(expected: Sequence[dict[str, Any]], found: Sequence[dict[str, Any]]) -> None:
    """Compare the faces that the board found with those of this machine.

    Args:
        expected: Box, label and probability of each face.
        found: The same of the board.

    Raises:
        RuntimeError: If they differ by more than rounding.
    """
    same = len(expected) == len(found) and all(
        one["label"] == other["label"]
        and abs(one["probability"] - other["probability"]) <= MAX_PROBABILITY_DIFFERENCE
        and max(abs(a - b) for a, b in zip(one["box_px"], other["box_px"], strict=True)) <= MAX_BOX_DIFFERENCE_PX
        for one, other in zip(expected, found, strict=True)
    )
    if not same:
        raise RuntimeError(
            f"the self-test fails: on this machine the known image shows {_text(expected)}, on the board {_text(found)}. "
            "Nothing was changed. Report it with the output of 'fer-edge doctor --json' of both"
        )


def _text(faces: Sequence[dict[str, Any]]) -> str:
    return (
        ", ".join(f"{face['label']} {face['probability']:.2f} at {','.join(map(str, face['box_px']))}" for face in faces)
        or "no face"
    )
