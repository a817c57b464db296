"""A picture of the faces on which a converted model and the Keras model disagree."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fer_edge.convert.compare import kl_divergence
from fer_edge.edge_runtime.images import Image, import_cv2, write_image

SHEET_SUFFIX = "_disagreements.png"
MOST_FACES = 24
COLUMNS = 6
TILE_PX = 160
CAPTION_PX = 44

FloatArray = npt.NDArray[np.float32]


def disagreement_grid_path(model: Path) -> Path:
    """Return where the sheet of a .tflite file lies, or of a rejected one, when nothing else is asked for."""
    return model.with_name(model.name.replace(".tflite", "") + SHEET_SUFFIX)


def disagreements(before: FloatArray, after: FloatArray) -> npt.NDArray[np.intp]:
    """Return the indices of the faces that got another label, the farthest apart first.

    Args:
        before: float32 array (n, classes), of the Keras model.
        after: float32 array (n, classes), of the .tflite file.
    """
    differ = np.flatnonzero(before.argmax(axis=1) != after.argmax(axis=1))
    return differ[np.argsort(-kl_divergence(before, after)[differ], kind="stable")]


def write_disagreement_grid(
    path: Path,
    faces: Sequence[Image],
    targets: npt.NDArray[np.int64],
    before: FloatArray,
    after: FloatArray,
    labels: Sequence[str],
) -> int:
    """Draw the worst disagreeing faces into one picture, each with its true label and both answers.

    Args:
        path: The picture. It is not written where there is nothing to draw.
        faces: uint8 arrays (height, width) or (height, width, 3).
        targets: int64 array (n,), indices into labels.
        before: float32 array (n, classes), of the Keras model.
        after: float32 array (n, classes), of the .tflite file.
        labels: Label names in output order.

    Returns:
        Number of faces that got another label.

    Raises:
        OSError: If the file cannot be written.
    """
    worst = disagreements(before, after)
    if not len(worst):
        return 0
    cv2 = import_cv2()
    shown = worst[:MOST_FACES]
    rows = -(-len(shown) // COLUMNS)
    sheet = np.full((rows * (TILE_PX + CAPTION_PX), min(len(shown), COLUMNS) * TILE_PX, 3), 255, np.uint8)
    for place, index in enumerate(shown):
        top, left = place // COLUMNS * (TILE_PX + CAPTION_PX), place % COLUMNS * TILE_PX
        face = np.asarray(faces[index])
        face = np.repeat(face[:, :, None], 3, axis=2) if face.ndim == 2 else face
        sheet[top : top + TILE_PX, left : left + TILE_PX] = cv2.resize(
            face, (TILE_PX, TILE_PX), interpolation=cv2.INTER_NEAREST
        )
        answers = (_answer(name, told[index], labels) for name, told in (("Keras", before), ("file", after)))
        for line, text in enumerate((f"true: {labels[targets[index]]}", *answers)):
            place_px = (left + 4, top + TILE_PX + 13 + 13 * line)
            cv2.putText(sheet, text, place_px, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    write_image(path, sheet)
    return len(worst)


def _answer(name: str, probabilities: FloatArray, labels: Sequence[str]) -> str:
    best = int(probabilities.argmax())
    return f"{name}: {labels[best]} {probabilities[best]:.2f}"
