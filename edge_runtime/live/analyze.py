"""Label the faces of images with one function call."""

import os
import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, overload

from fer_edge.edge_runtime.cameras.camera import OnMessage
from fer_edge.edge_runtime.cameras.frame import Frame
from fer_edge.edge_runtime.cameras.image_frame import ImageInput, to_frame
from fer_edge.edge_runtime.classify import Classifier
from fer_edge.edge_runtime.detectors.detection import Detector
from fer_edge.edge_runtime.detectors.detector import open_detector
from fer_edge.edge_runtime.find_model import find_model
from fer_edge.edge_runtime.live.pipeline import LabeledFace, Pipeline, PipelineSettings
from fer_edge.edge_runtime.live.smoothing import Smoothing
from fer_edge.edge_runtime.live.thread_tuning import load_classifier
from fer_edge.edge_runtime.personal.people import person_file

MAX_LOADED = 4  # models with their detectors that stay in memory


@overload
def analyze(
    images: list[ImageInput] | tuple[ImageInput, ...],
    model: str | Path | None = None,
    *,
    bgr: bool = False,
    detector: str = "auto",
    min_face_px: int | None = None,
    min_face_score: float | None = None,
    max_faces: int | None = None,
    min_confidence: float | None = None,
    person: str | None = None,
) -> list[list[LabeledFace]]: ...


@overload
def analyze(
    images: ImageInput,
    model: str | Path | None = None,
    *,
    bgr: bool = False,
    detector: str = "auto",
    min_face_px: int | None = None,
    min_face_score: float | None = None,
    max_faces: int | None = None,
    min_confidence: float | None = None,
    person: str | None = None,
) -> list[LabeledFace]: ...


def analyze(
    images: Any,
    model: str | Path | None = None,
    *,
    bgr: bool = False,
    detector: str = "auto",
    min_face_px: int | None = None,
    min_face_score: float | None = None,
    max_faces: int | None = None,
    min_confidence: float | None = None,
    person: str | None = None,
) -> list[LabeledFace] | list[list[LabeledFace]]:
    """Find and label the faces of an image, or of each image of a list, as ``fer-edge run`` does.

        for face in fer_edge.analyze("photo.jpg"):
            print(face.label, face.probability, face.box_px)

    The model and the detector stay loaded, so that the next call is fast. Any thread may call this function; calls with the
    same model and detector wait for each other.

    Args:
        images: An image, or a list or tuple of images. An image is one of:

            - a path (str or Path), or a URL (http://, rtsp://...): its first frame
            - a uint8 array (height, width, 3), RGB, or (height, width), gray
            - a PIL image; its EXIF orientation is applied
            - bytes: the content of an image file

        model: A .tflite file; a folder: its newest int8 model; the name of a bundled model, such as ``mobilenet_v2``; or
            None: the newest int8 model in the folder ``runs``, otherwise the bundled default.
        bgr: Whether arrays are BGR, as OpenCV reads them.
        detector: auto, blazeface, yunet, haar, own, a YuNet .onnx or detector .tflite file, or none: each image is one face.
        min_face_px: Side of the smallest face, pixels. None: 1/16 of the image's shorter side, but at least 32.
        min_face_score: Faces with a lower score are dropped, 0..1. None: the default of the detector.
        max_faces: Maximum number of faces per image; the largest are kept. None: no limit.
        min_confidence: Below this probability, 0..1, a face is marked as unsure. None: the threshold of the model's
            contract, or 0.4 if it has none.
        person: Name of a person whose correction is applied to every face, see ``fer-edge personalize``.

    Returns:
        The faces of the image, largest first; an empty list if there is none. For a list, a list of faces per image.

    Raises:
        TypeError: If an image is of another type.
        ValueError: If an array is not an image, an image cannot be decoded, or a setting or the model cannot be used.
        FileNotFoundError: If an image, the model or the person does not exist.
        ImportError: If the interpreter, OpenCV or the detector's model is not installed.
        OSError: If a file or URL cannot be read.
    """
    several = isinstance(images, (list, tuple))
    settings = PipelineSettings(
        min_face_px=min_face_px, max_faces=max_faces, smoothing=Smoothing(min_confidence=min_confidence)
    )
    loaded = _load(model, detector, min_face_score, person)
    source = ImageSource(images if several else [images], bgr)
    with loaded.lock:
        results = [list(labeled.faces) for labeled in Pipeline(source, loaded.detector, loaded.classifier, settings)]
    return results if several else results[0]


class ImageSource:
    """Images from memory or files as the source of a pipeline.

    Args:
        images: The images, see ``analyze``.
        bgr: Whether arrays are BGR.
    """

    name = "images"
    live = False

    def __init__(self, images: Sequence[ImageInput], bgr: bool) -> None:
        self._images = images
        self._bgr = bgr

    def frames(self, stop: threading.Event, on_message: OnMessage | None = None) -> Generator[Frame, None, None]:
        """Yield one frame per image. An error names the position of its image if there are several.

        Args:
            stop: As in Source.frames.
            on_message: Not used.

        Raises:
            TypeError: If an image is of an unknown type.
            ValueError: If it cannot be decoded.
            OSError: If it cannot be read.
        """
        for index, image in enumerate(self._images):
            if stop.is_set():
                return
            yield to_frame(image, self._bgr, name="image" if len(self._images) == 1 else f"images[{index}]")


@dataclass(frozen=True)
class _Loaded:
    classifier: Classifier
    detector: Detector
    lock: Any = field(default_factory=threading.Lock)  # interpreters and cascades serve one thread at a time


_loading = threading.Lock()


def _load(model: str | Path | None, detector: str, min_face_score: float | None, person: str | None) -> _Loaded:
    """Return the loaded model and detector. If the file of the model or person has changed, it is loaded again."""
    path = find_model(model).resolve()
    files = [path] if person is None else [path, person_file(person)]
    version = tuple((file.stat().st_mtime_ns, file.stat().st_size) for file in files if file.is_file())
    with _loading:  # otherwise two threads load the same model
        return _load_once(path, person, version, detector, min_face_score)


@lru_cache(maxsize=MAX_LOADED)
def _load_once(
    path: Path, person: str | None, version: tuple[tuple[int, int], ...], detector: str, min_face_score: float | None
) -> _Loaded:
    return _Loaded(load_classifier(path, person=person), open_detector(detector, min_face_score))


def _forget() -> None:
    """Start without locks that a thread of the parent process may hold forever."""
    global _loading
    _loading = threading.Lock()
    _load_once.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
