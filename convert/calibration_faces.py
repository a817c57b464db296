"""Faces of the user's own pictures or videos, to calibrate with what the model's camera will really see."""

from collections.abc import Callable
from pathlib import Path

from fer_edge.convert.convert_run import crop_convention
from fer_edge.convert.run_folder import Run
from fer_edge.edge_runtime.cameras.source import read_frames
from fer_edge.edge_runtime.crop import crop_face
from fer_edge.edge_runtime.detectors.detector import open_detector
from fer_edge.edge_runtime.images import Image

MOST_FACES = 500
# Neighbouring frames of a video hold the same face: one in so many is taken.
FRAMES_APART = 10

Progress = Callable[[int, int], None]


def collect_calibration_faces(
    source: str | Path, run: Run, detector: str = "auto", progress: Progress | None = None
) -> list[Image]:
    """Detect and crop the faces of a folder of pictures or a video as the edge will.

    Args:
        source: Folder, picture or video.
        run: The run that will be calibrated; its training resolution decides the crop.
        detector: See open_detector; ``none`` where the pictures are faces already.
        progress: Called with (faces found, MOST_FACES).

    Returns:
        At most MOST_FACES faces, uint8 arrays (side, side, 3), RGB.

    Raises:
        FileNotFoundError: If there is nothing at ``source``.
        ValueError: If nothing there can be read, or holds no face.
    """
    finder = open_detector(detector)
    crop = crop_convention(run)
    faces: list[Image] = []
    for frame in read_frames(source, on_skip=lambda reason: None):
        if frame.number is not None and frame.number % FRAMES_APART:
            continue
        for found in finder.detect(frame.image):
            whole = finder.name == "none"
            faces.append(frame.image if whole else crop_face(frame.image, found.box_px, finder.name, crop, found.eyes_px))
        if progress:
            progress(min(len(faces), MOST_FACES), MOST_FACES)
        if len(faces) >= MOST_FACES:
            break
    if not faces:
        raise ValueError(f"no face found in '{source}' by the detector '{finder.name}'. Give pictures with faces in them")
    return faces[:MOST_FACES]
