"""An image of the faces on which a converted model and the Keras model disagree."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fer_edge.convert.compare import kl_divergence
from fer_edge.edge_runtime.images import Image, import_cv2, write_image
from fer_edge.edge_runtime.outputs.drawn_label import fitted_text

GRID_SUFFIX = "_disagreements.png"
MAX_FACES = 24
COLUMNS = 6
TILE_PX = 160
CAPTION_PX = 44
MARGIN_PX = 4

FloatArray = npt.NDArray[np.float32]


def disagreement_grid_path(model: Path) -> Path:
    """Return the default path of the image for a .tflite file, or for a rejected one."""
    return model.with_name(model.name.replace(".tflite", "") + GRID_SUFFIX)


def disagreements(keras_probs: FloatArray, tflite_probs: FloatArray) -> npt.NDArray[np.intp]:
    """Return the indices of the faces with different labels, largest divergence first.

    Args:
        keras_probs: Probabilities of the Keras model, float32 array (n, classes), 0..1.
        tflite_probs: Probabilities of the .tflite file, float32 array (n, classes), 0..1.
    """
    differ = np.flatnonzero(keras_probs.argmax(axis=1) != tflite_probs.argmax(axis=1))
    return differ[np.argsort(-kl_divergence(keras_probs, tflite_probs)[differ], kind="stable")]


def write_disagreement_grid(
    path: Path,
    faces: Sequence[Image],
    targets: npt.NDArray[np.int64],
    keras_probs: FloatArray,
    tflite_probs: FloatArray,
    labels: Sequence[str],
) -> int:
    """Draw the worst disagreeing faces into one image, each with its true label and both predictions.

    Args:
        path: The image. It is not written if there are no such faces.
        faces: uint8 arrays (height, width) or (height, width, 3), RGB.
        targets: Class indices, int64 array (n,).
        keras_probs: Probabilities of the Keras model, float32 array (n, classes), 0..1.
        tflite_probs: Probabilities of the .tflite file, float32 array (n, classes), 0..1.
        labels: Label names in output order.

    Returns:
        Number of faces with different labels.

    Raises:
        OSError: If the file cannot be written.
    """
    worst = disagreements(keras_probs, tflite_probs)
    if not len(worst):
        return 0
    cv2 = import_cv2()
    drawn = worst[:MAX_FACES]
    rows = -(-len(drawn) // COLUMNS)
    grid = np.full((rows * (TILE_PX + CAPTION_PX), min(len(drawn), COLUMNS) * TILE_PX, 3), 255, np.uint8)
    for tile, index in enumerate(drawn):
        top, left = tile // COLUMNS * (TILE_PX + CAPTION_PX), tile % COLUMNS * TILE_PX
        face = np.asarray(faces[index])
        face = np.repeat(face[:, :, None], 3, axis=2) if face.ndim == 2 else face
        grid[top : top + TILE_PX, left : left + TILE_PX] = cv2.resize(face, (TILE_PX, TILE_PX), interpolation=cv2.INTER_NEAREST)
        caption = (
            _caption("true", int(targets[index]), labels),
            _caption("Keras", int(keras_probs[index].argmax()), labels, f"{keras_probs[index].max():.2f}"),
            _caption("file", int(tflite_probs[index].argmax()), labels, f"{tflite_probs[index].max():.2f}"),
        )
        for line, text in enumerate(caption):
            baseline_px = (left + MARGIN_PX, top + TILE_PX + 13 + 13 * line)
            cv2.putText(grid, text, baseline_px, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    write_image(path, grid)
    return len(worst)


def _caption(source: str, label: int, labels: Sequence[str], probability: str = "") -> str:
    """Return a line of text that fits into the width of a tile."""
    cv2 = import_cv2()

    def has_room(text: str) -> bool:
        return bool(cv2.getTextSize(f"{source}: {text}", cv2.FONT_HERSHEY_SIMPLEX, 0.4, 1)[0][0] <= TILE_PX - 2 * MARGIN_PX)

    return f"{source}: {fitted_text(labels[label], labels, probability, has_room)}"
