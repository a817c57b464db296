"""Read the original CK+ release: the last frames of each labeled sequence, cropped by the Haar box.

Source: Lucey et al., 2010.
"""

from collections import Counter
from pathlib import PurePosixPath

import numpy as np

from fer_edge.artifacts.reporter import Progress
from fer_edge.edge_runtime.detectors.detection import largest_box
from fer_edge.edge_runtime.detectors.detector import open_detector
from fer_edge.edge_runtime.images import Image, import_cv2
from fer_edge.train.class_names import assign_labels
from fer_edge.train.dataset_files import DatasetFiles
from fer_edge.train.dataset_rows import Rows
from fer_edge.train.read_options import ReadOptions

CODES = {1: "angry", 2: "contempt", 3: "disgust", 4: "fear", 5: "happy", 6: "sad", 7: "surprise"}
CODE_SUFFIX = "_emotion.txt"
FRAMES = 3  # the last frames of a sequence, which show the expression at its peak
FACE_SIDE = 48  # pixels, as in CK+48


def read_ckplus(files: DatasetFiles, options: ReadOptions, progress: Progress | None = None) -> Rows:
    """Read the last frames of each sequence that has an ``_emotion.txt``.

    Args:
        files: The folder or zip.
        options: Renamed classes, and the check of the number of images per class.
        progress: Called with (images read, number of images).
    """
    rows = Rows()
    frames = _labeled_frames(files, rows)
    label_of_class = assign_labels(frames.values(), options.parsed_label_map(), str(files.path)) if frames else {}
    kept = {name: label for name, class_name in frames.items() if (label := label_of_class[class_name])}
    options.report_counts(Counter(kept.values()))
    detector = open_detector("haar")
    for name, image in files.decoded(list(kept), rows.skipped, progress):
        box = largest_box(detector.detect(image))
        if box is None:
            rows.without_face.append(f"no face found in '{name}'")
            continue
        rows.add(name, _crop(image, box), kept[name], PurePosixPath(name).stem.split("_")[0], None)
    return rows


def _labeled_frames(files: DatasetFiles, rows: Rows) -> dict[str, str]:
    """Return the class name of each frame to read."""
    sequences: dict[str, list[str]] = {}
    for name in files.images:
        sequences.setdefault("_".join(PurePosixPath(name).stem.split("_")[:2]), []).append(name)
    frames: dict[str, str] = {}
    for name in (name for name in files.files if name.endswith(CODE_SUFFIX)):
        sequence = "_".join(PurePosixPath(name).name.split("_")[:2])
        try:
            class_name = CODES[int(float(files.read(name)))]
        except (ValueError, KeyError) as error:
            rows.skipped.append(f"no emotion code 1..7 in '{name}' ({error})")
            continue
        if sequence in sequences:
            frames |= dict.fromkeys(sorted(sequences[sequence])[-FRAMES:], class_name)
        else:
            rows.skipped.append(f"no images for '{name}'")
    return frames


def _crop(image: Image, box: tuple[int, int, int, int]) -> Image:
    cv2 = import_cv2()
    x, y, width, height = box
    gray = cv2.cvtColor(image[y : y + height, x : x + width], cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(gray, (FACE_SIDE, FACE_SIDE), interpolation=cv2.INTER_AREA), np.uint8)
