"""The live runtime in one call."""

from dataclasses import replace
from pathlib import Path

from fer_edge.edge_runtime.cameras.camera import OnMessage
from fer_edge.edge_runtime.cameras.source import open_source
from fer_edge.edge_runtime.detectors.detector import open_detector
from fer_edge.edge_runtime.live.pipeline import Pipeline, PipelineSettings
from fer_edge.edge_runtime.live.smoothing import Smoothing
from fer_edge.edge_runtime.live.thread_tuning import load_classifier

DEFAULT_SMOOTHING = Smoothing()


def stream(
    source: str | Path = "auto",
    model: str | Path | None = None,
    *,
    detector: str = "auto",
    detect_every: int | None = None,
    min_face_px: int | None = None,
    max_faces: int = 16,
    smoothing: Smoothing = DEFAULT_SMOOTHING,
    min_confidence: float | None = None,
    threads: int | None = None,
    frame_size: tuple[int, int] = (640, 480),
    fps: float = 30.0,
    pixel_format: str = "rgb",
    every_frame: bool = False,
    on_message: OnMessage | None = None,
) -> Pipeline:
    """Label the faces of a camera, a stream, a video, a folder or an image, frame by frame.

        for frame in fer_edge.stream("/dev/video0", "mobilenet_v2_ck48_int8.tflite"):
            for face in frame.faces:
                print(face.label, face.probability, face.box_px)

    Nothing is stored and nothing leaves the machine. Break out of the loop, or call ``close()``, to let go of the camera.

    Args:
        source: ``auto`` (the Raspberry Pi camera, else the first USB camera), ``picamera2``, ``rpicam``, ``/dev/videoN``, an
            address (rtsp://, http://...), ``-`` (raw frames on standard input), or a path.
        model: A .tflite file; a folder: its newest int8 model; a network that comes with fer-edge, such as ``cnn_nano``; None
            for the newest int8 model of the folder ``runs``, else the default that comes with fer-edge.
        detector: auto, blazeface, yunet, haar, a YuNet .onnx file, or none: each frame is one face.
        detect_every: Frames from one detection to the next; None adapts to the load.
        min_face_px: Smallest face to look for, pixels of the frame.
        max_faces: Faces a frame at most; the largest stay.
        smoothing: How labels are smoothed over time. NO_SMOOTHING returns the model's prediction for each frame.
        min_confidence: Replaces smoothing.min_confidence: below this probability, 0..1, the label is "unsure".
        threads: Threads of the classifier; None measures a few and takes the fastest.
        frame_size: Width and height to ask a camera for, or of the frames on standard input, pixels.
        fps: Rate to ask a camera for.
        pixel_format: Order of the bytes on standard input: rgb, bgr, gray, i420 or yuyv.
        every_frame: Label every frame of a camera too, however late.
        on_message: Called with a line when a camera is lost or back, or a file is left out.

    Returns:
        An iterable of labeled frames: ``frame.faces``, ``frame.image``, ``frame.number``; its ``stats`` count and time.

    Raises:
        FileNotFoundError: If there is no such source or model.
        ValueError: If a setting, the source or the model cannot be used.
        ImportError: If the interpreter, OpenCV or the detector's model is missing.
        OSError: If no camera is found; while iterating, if it is busy, missing or denied.
    """
    if min_confidence is not None:
        smoothing = replace(smoothing, min_confidence=min_confidence)
    settings = PipelineSettings(detect_every, min_face_px, max_faces, smoothing, every_frame)
    opened = open_source(source, frame_size, fps, pixel_format)
    classifier = load_classifier(model, threads)
    return Pipeline(opened, open_detector(detector), classifier, settings, on_message)
