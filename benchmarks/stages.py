"""Time the stages from a frame to the label: detect, preprocess, classify, and end to end."""

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.contract import CropConvention
from fer_edge.artifacts.latency_records import STAGES, StageSamples
from fer_edge.benchmarks.synthetic_scenes import background
from fer_edge.edge_runtime.crop import crop_face
from fer_edge.edge_runtime.detectors.detector import open_detector
from fer_edge.edge_runtime.images import Image, import_cv2

FACE_BOX = (220, 130, 200, 200)
WARMUP_RUNS, MIN_RUNS, MIN_SECONDS = 2, 5, 0.3


def time_stages(
    detector: str, crop: CropConvention, preprocess: Callable[[Image], Image], classify: Callable[[Image], object]
) -> StageSamples | None:
    """Time all stages on a drawn frame with one face.

    Args:
        detector: See open_detector. If it is not installed, ``detect`` and ``end_to_end`` are not measured.
        crop: Crop convention of the model.
        preprocess: From the crop to the input of the model.
        classify: From the input to the probabilities.

    Returns:
        The samples; None without OpenCV.
    """
    try:
        frame = draw_frame()
    except ImportError:
        return None
    try:
        finder = open_detector(detector)
    except (ImportError, FileNotFoundError):
        finder = None
    transform = finder.name if finder and finder.name in crop.box_transforms else next(iter(crop.box_transforms))

    def run_once() -> tuple[int, ...]:
        times = [time.perf_counter_ns()]
        found = finder.detect(frame) if finder else []
        times.append(time.perf_counter_ns())
        face = preprocess(crop_face(frame, found[0].box_px if found else FACE_BOX, transform, crop))
        times.append(time.perf_counter_ns())
        classify(face)
        times.append(time.perf_counter_ns())
        return (*np.diff(times).tolist(), times[-1] - times[0])

    for _ in range(WARMUP_RUNS):
        run_once()
    runs: list[tuple[int, ...]] = []
    start = time.monotonic()
    while len(runs) < MIN_RUNS or time.monotonic() - start < MIN_SECONDS:
        runs.append(run_once())
    measured = STAGES if finder else ("preprocess", "classify")
    samples = {stage: tuple(round(run[STAGES.index(stage)] / 1e6, 4) for run in runs) for stage in measured}
    return StageSamples(samples, finder.name if finder else None, (frame.shape[1], frame.shape[0]))


def draw_frame() -> Image:
    """Draw a frame of 640x480 pixels with a simple face in FACE_BOX.

    Returns:
        uint8 array (480, 640, 3), RGB.
    """
    cv2 = import_cv2()
    scene: npt.NDArray[np.uint8] = background(np.random.default_rng(0)) // 2
    x, y, side, _ = FACE_BOX

    def at(across: float, down: float) -> tuple[int, int]:
        return round(x + across * side), round(y + down * side)

    def ellipse(across: float, down: float, width: float, height: float, shade: int) -> None:
        cv2.ellipse(scene, at(across, down), (round(width * side), round(height * side)), 0, 0, 360, shade, -1)

    ellipse(0.5, 0.42, 0.52, 0.68, 40)  # hair
    ellipse(0.5, 0.55, 0.44, 0.6, 205)
    for eye in (0.3, 0.7):
        ellipse(eye, 0.26, 0.13, 0.03, 60)  # brow
        ellipse(eye, 0.37, 0.14, 0.09, 150)  # socket
        ellipse(eye, 0.38, 0.09, 0.04, 235)
        ellipse(eye, 0.38, 0.04, 0.04, 30)
    ellipse(0.5, 0.5, 0.05, 0.16, 225)  # nose
    ellipse(0.5, 0.65, 0.09, 0.02, 130)
    ellipse(0.5, 0.83, 0.18, 0.05, 95)  # mouth
    soft = cv2.GaussianBlur(scene, (0, 0), 3)
    return np.asarray(cv2.cvtColor(soft, cv2.COLOR_GRAY2RGB), np.uint8)
