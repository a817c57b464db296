"""Collect what a person shows: images in class folders, or a camera that films the expressions that a prompt asks for."""

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fer_edge.edge_runtime.cameras.camera import CameraError, OnMessage
from fer_edge.edge_runtime.classify import Classifier
from fer_edge.edge_runtime.detectors.detection import Detector
from fer_edge.edge_runtime.file_types import IMAGE_SUFFIXES
from fer_edge.edge_runtime.live.analyze import ImageSource
from fer_edge.edge_runtime.live.pipeline import LabeledFace, LabeledFrame, Pipeline, PipelineSettings
from fer_edge.edge_runtime.personal.correction import Floats, Take, log_probabilities

ROUNDS = 2  # each expression is shown twice, so that leave-one-out has another take of it
PREPARE_S = 2.0  # time to make the expression
FILM_S = 1.75  # time to hold it
MIN_FRAMES = 3  # with a face, per take
MAX_ATTEMPTS = 3  # per take


class TakesError(ValueError):
    """Images or frames from which no correction can be fitted."""


def takes_from_folder(
    folder: Path,
    classifier: Classifier,
    detector: Detector,
    label_of: Callable[[str], str | None],
    on_message: OnMessage | None = None,
) -> list[Take]:
    """Read images from class folders, one take per image.

    Args:
        folder: Contains one folder per expression.
        classifier: The model, without a person.
        detector: Finds the face in each image. The detector ``none`` takes each image as a face crop.
        label_of: From the name of a class folder to a label of the model; None if the model has no such label.
        on_message: Called with a warning about a folder that is left out, or an image with several faces.

    Raises:
        FileNotFoundError: If the folder does not exist.
        TakesError: If it has no class folders with images, or an image has no face.
        ValueError: If an image cannot be decoded.
        OSError: If an image cannot be read.
    """
    warn = on_message or (lambda text: None)
    files: list[tuple[Path, str]] = []
    for class_folder in _class_folders(folder):
        label = label_of(class_folder.name)
        images = [path for path in sorted(class_folder.rglob("*")) if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
        if label is None:
            warn(
                f"'{class_folder}' is left out: '{class_folder.name}' is not a label of {classifier.model.name}. "
                f"Its labels: {', '.join(classifier.labels)}"
            )
        elif not images:
            warn(f"'{class_folder}' has no images")
        else:
            files += [(path, label) for path in images]
    if not files:
        raise TakesError(
            f"'{folder}' has no images for the labels {', '.join(classifier.labels)}. Put the images of each expression "
            f"into a folder with its name, for example '{folder / classifier.labels[0]}'"
        )
    source = ImageSource([path for path, _ in files], bgr=False)
    with Pipeline(source, detector, classifier, PipelineSettings()) as pipeline:
        return [_take_of_image(labeled, *file, warn) for labeled, file in zip(pipeline, files, strict=True)]


def _class_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder '{folder}'. --from takes a folder that contains one folder per expression")
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _take_of_image(labeled: LabeledFrame, path: Path, label: str, warn: OnMessage) -> Take:
    if not labeled.faces:
        raise TakesError(
            f"no face found in '{path}'. Remove the image, use one that shows the whole head, or pass --detector none if the "
            "images are face crops"
        )
    if len(labeled.faces) > 1:
        warn(f"'{path}' has {len(labeled.faces)} faces; the largest one is used")
    return Take(label, tuple(_values(labeled.faces[0]).tolist()))


def _values(face: LabeledFace) -> Floats:
    return log_probabilities(face.prediction.probabilities)


@dataclass(frozen=True)
class Timing:
    """How long a person gets for each expression.

    Attributes:
        prepare_s: Time to make the expression, seconds.
        film_s: Time to hold it, seconds.
        rounds: How often each expression is shown.
    """

    prepare_s: float = PREPARE_S
    film_s: float = FILM_S
    rounds: int = ROUNDS


class CameraWatch:
    """Ends a pipeline when its camera is lost.

    Pass ``on_message`` to the pipeline, then set ``pipeline``.

    Attributes:
        pipeline: The pipeline to end.
        loss: The message about the loss; None while the camera works.
    """

    def __init__(self) -> None:
        self.pipeline: Pipeline | None = None
        self.loss: str | None = None

    def on_message(self, text: str) -> None:
        """Receive a message of the pipeline. Every message of a camera reports a loss or a return."""
        self.loss = self.loss or text.partition("; trying again")[0]
        if self.pipeline is not None:
            # In another thread: this one captures, and stop() must not wait for it.
            threading.Thread(target=self.pipeline.stop).start()


def takes_from_camera(
    pipeline: Pipeline,
    watch: CameraWatch,
    prompt: Callable[[str], None],
    on_frame: Callable[[LabeledFrame], None] | None = None,
    timing: Timing | None = None,
) -> list[Take]:
    """Ask for each expression of the model in turn, and film it. A take is the mean of its frames.

    Args:
        pipeline: Labels the frames of a camera, without smoothing and without a person.
        watch: Got the messages of the pipeline.
        prompt: Called with a line of text whenever it changes, such as ``happy (1 of 16): show it in 2 s``.
        on_frame: Called with each frame.
        timing: Time per expression; None for the default, about a minute for eight labels.

    Raises:
        CameraError: If the camera is lost or ends before the last take.
        TakesError: If the face is not seen in several attempts of a take.
        OSError: If the camera cannot be opened.
    """
    timing = timing or Timing()
    shown = _Prompt(prompt)
    frames = _seen(pipeline, on_frame)
    order = [label for _ in range(timing.rounds) for label in pipeline.labels]
    takes = []
    for number, label in enumerate(order, 1):
        title = f"{label} ({number} of {len(order)})"
        for attempt in itertools.count(1):
            values = _film(frames, watch, shown, title, timing)
            if len(values) >= MIN_FRAMES:
                break
            if attempt == MAX_ATTEMPTS:
                raise TakesError(
                    f"no face seen while '{label}' was filmed, in {MAX_ATTEMPTS} attempts. Nothing was stored. Sit in front of "
                    "the camera, with light on your face, and start again"
                )
            title = f"no face seen, once more: {label} ({number} of {len(order)})"
        takes.append(Take(label, tuple(np.mean(values, axis=0).tolist())))
    shown("done")
    return takes


def _seen(pipeline: Pipeline, on_frame: Callable[[LabeledFrame], None] | None) -> Iterator[LabeledFrame]:
    for labeled in pipeline:
        if on_frame:
            on_frame(labeled)
        yield labeled


class _Prompt:
    """Passes a prompt on when it changes."""

    def __init__(self, prompt: Callable[[str], None]) -> None:
        self._prompt = prompt
        self._text = ""

    def __call__(self, text: str) -> None:
        if text != self._text:
            self._text = text
            self._prompt(text)


def _film(frames: Iterator[LabeledFrame], watch: CameraWatch, shown: _Prompt, title: str, timing: Timing) -> Sequence[Floats]:
    """Count down, then return the log-probabilities of the largest face in each frame."""
    start_s: float | None = None
    values: list[Floats] = []
    for labeled in frames:
        now_s = labeled.frame.capture_time_s or 0.0
        start_s = now_s if start_s is None else start_s
        left_s = timing.prepare_s - (now_s - start_s)
        if left_s > 0:
            shown(f"{title}: show it in {int(np.ceil(left_s))} s")
            continue
        if left_s <= -timing.film_s:
            return values
        shown(f"{title}: hold it")
        if labeled.faces:
            values.append(_values(labeled.faces[0]))
    cause = watch.loss or "it ended"
    raise CameraError(
        "failed",
        f"the camera was lost before all expressions were filmed ({cause}). Nothing was stored. Check it and start again",
    )
