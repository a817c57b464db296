"""Label the faces of a live source or of files with one function call."""

from dataclasses import replace
from pathlib import Path

from fer_edge.edge_runtime.cameras.camera import OnMessage
from fer_edge.edge_runtime.cameras.source import open_source
from fer_edge.edge_runtime.detectors.detector import open_detector
from fer_edge.edge_runtime.live.pipeline import Pipeline, PipelineSettings
from fer_edge.edge_runtime.live.smoothing import Smoothing
from fer_edge.edge_runtime.live.thread_tuning import load_classifier
from fer_edge.edge_runtime.orientation import Orientation

DEFAULT_SMOOTHING = Smoothing()


def stream(
    source: str | Path = "auto",
    model: str | Path | None = None,
    *,
    detector: str = "auto",
    detect_every: int | None = None,
    min_face_px: int | None = None,
    min_face_score: float | None = None,
    max_faces: int | None = None,
    smoothing: Smoothing = DEFAULT_SMOOTHING,
    min_confidence: float | None = None,
    person: str | None = None,
    views: int = 1,
    threads: int | None = None,
    frame_size: tuple[int, int] = (640, 480),
    fps: float = 30.0,
    pixel_format: str = "rgb",
    rotate: int = 0,
    flip: bool = False,
    wait: bool = False,
    every_frame: bool = False,
    on_message: OnMessage | None = None,
) -> Pipeline:
    """Label the faces of a camera, stream, video, folder or image: ``for frame in fer_edge.stream(): print(frame.faces)``.

    Args:
        source: ``auto`` (a camera), ``picamera2``, ``rpicam``, ``/dev/videoN``, a URL, ``-`` (standard input), or a path.
        model: A .tflite file, a folder, a bundled model's name, or None: the newest int8 model in ``runs``, else bundled.
        detector: auto, blazeface, yunet, haar, own, a YuNet .onnx or detector .tflite file, or none: each frame is one face.
        detect_every: Frames from one detection to the next. None: 3 in videos; adapts to the load of a live source.
        min_face_px: Side of the smallest face, pixels. None: 1/16 (images) or 1/8 (frames) of the shorter side, at least 32.
        min_face_score: Faces with a lower score are dropped, 0..1. None: the default of the detector.
        max_faces: Maximum number of faces per frame; the largest are kept. None: 16, no limit in single images.
        smoothing: How labels are smoothed over time. NO_SMOOTHING returns the model's prediction for each frame.
        min_confidence: Replaces ``smoothing.min_confidence``: below this probability, 0..1, a face is unsure.
        person: A person whose correction is applied to every face before smoothing, see ``fer-edge personalize``.
        views: 2 classifies the mirror image of each face too and averages, at twice the time.
        threads: Number of interpreter threads. None measures 1, 2 and 4 and takes the fastest.
        frame_size: (width, height), pixels: requested from a camera, or the size of raw frames on standard input.
        fps: Frame rate requested from a camera, frames per second.
        pixel_format: Format of raw frames on standard input: rgb, bgr, gray, i420, i420-full or yuyv.
        rotate: Degrees by which to rotate the frames clockwise before detection: 0, 90, 180 or 270.
        flip: Whether to swap left and right, after the rotation.
        wait: Whether to wait for a camera or stream that is not available at the start.
        every_frame: If True, no frame of a live source is dropped, and latency can grow.
        on_message: Called with a message when a camera is lost or back, or a file is skipped.

    Returns:
        An iterable of labeled frames. The end of the loop, or its ``close()``, releases the camera. Nothing is stored.

    Raises:
        ValueError, ImportError: If a setting, the source or the model cannot be used, or a part is not installed.
        OSError: If the source, model or person is missing. While iterating: if the camera is missing, busy or not permitted.
    """
    smoothing = smoothing if min_confidence is None else replace(smoothing, min_confidence=min_confidence)
    settings = PipelineSettings(detect_every, min_face_px, max_faces, smoothing, every_frame)
    opened = open_source(source, frame_size, fps, pixel_format, Orientation(rotate, flip), wait)
    classifier = load_classifier(model, threads, person, views)
    return Pipeline(opened, open_detector(detector, min_face_score), classifier, settings, on_message)
