"""Faces from the user's own images or videos, to calibrate with what the model will see at the edge."""

from pathlib import Path

from fer_edge.artifacts.reporter import SILENT, Reporter
from fer_edge.artifacts.run_folder import Run
from fer_edge.convert.prepare_run import crop_convention
from fer_edge.edge_runtime.cameras.files import read_frames
from fer_edge.edge_runtime.crop import crop_face
from fer_edge.edge_runtime.detectors.detector import open_detector
from fer_edge.edge_runtime.images import Image

MAX_FACES = 500
# Consecutive frames of a video show the same face.
FRAME_STEP = 10


def collect_calibration_faces(source: str | Path, run: Run, detector: str = "auto", reporter: Reporter = SILENT) -> list[Image]:
    """Detect and crop faces as the edge will.

    Args:
        source: Folder of images, image or video.
        run: The run to calibrate. Its training resolution decides the crop.
        detector: See open_detector; ``none`` if the images are face crops already.
        reporter: Receives the number of faces found, and the files that cannot be read.

    Returns:
        At most MAX_FACES faces, uint8 arrays (side, side, 3), RGB.

    Raises:
        FileNotFoundError: If ``source`` does not exist.
        ValueError: If nothing there can be read, or no face is found.
    """
    face_detector = open_detector(detector)
    crop = crop_convention(run)
    faces: list[Image] = []
    with reporter.progress("finding faces") as progress:
        for frame in read_frames(source, reporter.warn):
            if frame.number is not None and frame.number % FRAME_STEP:
                continue
            for detection in face_detector.detect(frame.image):
                if face_detector.name == "none":
                    faces.append(frame.image)
                else:
                    faces.append(crop_face(frame.image, detection.box_px, face_detector.name, crop, detection.eyes_px))
            progress(min(len(faces), MAX_FACES), MAX_FACES)
            if len(faces) >= MAX_FACES:
                break
    if not faces:
        raise ValueError(
            f"no face found in '{source}' by the detector '{face_detector.name}'. Pass images or a video that show faces"
        )
    return faces[:MAX_FACES]
