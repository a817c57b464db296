"""Detection and labels on portraits, each of which shows one whole head: found faces, additional faces, correct labels, time.

``python -m fer_edge.benchmarks.portraits --data wild_dev.zip --detector all --model cnn_nano --tight``
"""

import threading
import zipfile
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import click
import numpy as np

from fer_edge.artifacts.latency_records import Environment, MachineState
from fer_edge.artifacts.typed_json import append_json_lines
from fer_edge.benchmarks.environment import describe_environment, read_state
from fer_edge.benchmarks.tables import text_table
from fer_edge.edge_runtime.cameras.camera import OnMessage
from fer_edge.edge_runtime.cameras.frame import Frame
from fer_edge.edge_runtime.classify import Classifier
from fer_edge.edge_runtime.crop import Box
from fer_edge.edge_runtime.detectors.detection import Detector
from fer_edge.edge_runtime.detectors.detector import installed_detectors, open_detector
from fer_edge.edge_runtime.file_types import IMAGE_SUFFIXES
from fer_edge.edge_runtime.images import Image, decode_image
from fer_edge.edge_runtime.live.pipeline import LabeledFace, Pipeline

MIN_FACE_FRACTION = 0.3  # of the portrait's side: a smaller box is not the face of the head that fills the portrait
TIGHT_SCALES = (1.0, 1.2)  # sides of a tight crop, as multiples of the detector's box


@dataclass(frozen=True)
class Portrait:
    """An image of one whole head.

    Attributes:
        name: Its path in the dataset.
        label: Name of its class folder.
        read: Returns the image, uint8 array (height, width, 3), RGB.
    """

    name: str
    label: str
    read: Callable[[], Image]


@dataclass(frozen=True)
class PortraitsResult:
    """One detector and one model on all portraits.

    Attributes:
        detector: Name of the detector.
        model: Name of the .tflite file.
        images: Number of portraits.
        found: Fraction of portraits whose face was found, 0..1: a box that contains the center and is at least 0.3 of the side.
        additional_per_image: Mean number of other faces; of all faces where that one was not found.
        correct: Fraction of portraits that are labeled correctly, 0..1. A missed face counts as wrong.
        recall: The same per class.
        portraits_per_class: Number of portraits per class.
        p50_ms: Median time of the detection per image, milliseconds.
        p90_ms: 90th percentile, milliseconds.
        tight_images: Number of tight crops, one per found face; None if not measured.
        tight_found: Fraction of tight crops in which the face was found, 0..1.
        tight_additional_per_image: As additional_per_image, of the tight crops.
    """

    detector: str
    model: str
    images: int
    found: float
    additional_per_image: float
    correct: float
    recall: dict[str, float]
    portraits_per_class: dict[str, int]
    p50_ms: float
    p90_ms: float
    tight_images: int | None = None
    tight_found: float | None = None
    tight_additional_per_image: float | None = None


@dataclass(frozen=True)
class PortraitsRecord:
    """Detectors and models on the portraits of a dataset, measured on one machine."""

    what: str
    data: str
    environment: Environment
    before: MachineState
    results: tuple[PortraitsResult, ...]
    after: MachineState


class PortraitSource:
    """The portraits as single images of a pipeline.

    Args:
        portraits: The portraits.
    """

    name = "portraits"
    live = False

    def __init__(self, portraits: Sequence[Portrait]) -> None:
        self._portraits = portraits

    def frames(self, stop: threading.Event, on_message: OnMessage | None = None) -> Generator[Frame, None, None]:
        """Yield one frame per portrait, in order.

        Args:
            stop: Ends the frames when another thread sets it.
            on_message: Not used.
        """
        for portrait in self._portraits:
            if stop.is_set():
                return
            yield Frame(portrait.name, None, portrait.read())


def read_portraits(data: Path) -> list[Portrait]:
    """List the portraits of a zip or folder of class folders. The images are decoded later.

    Args:
        data: The zip or folder; each image is in a folder that has the name of its class.

    Raises:
        FileNotFoundError: If there is no such zip or folder.
        ValueError: If it is not a zip or contains no images in class folders.
    """
    if data.is_dir():
        paths = [path for path in sorted(data.rglob("*")) if path.suffix.lower() in IMAGE_SUFFIXES]
        readers = {path.relative_to(data).as_posix(): path.read_bytes for path in paths}
    elif data.is_file():
        try:
            archive = zipfile.ZipFile(data)
        except zipfile.BadZipFile as error:
            raise ValueError(f"'{data}' is not a zip: {error}. Give a zip or a folder of class folders") from error
        names = [name for name in sorted(archive.namelist()) if Path(name).suffix.lower() in IMAGE_SUFFIXES]
        readers = {name: partial(archive.read, name) for name in names}
    else:
        raise FileNotFoundError(f"no portraits at '{data}'. Give a zip or a folder of class folders")
    portraits = [
        Portrait(name, Path(name).parts[-2], partial(_decode, read, name))
        for name, read in readers.items()
        if len(Path(name).parts) > 1
    ]
    if not portraits:
        raise ValueError(f"'{data}' has no images in class folders. Supported suffixes: {', '.join(IMAGE_SUFFIXES)}")
    return portraits


def _decode(read: Callable[[], bytes], name: str) -> Image:
    return decode_image(read(), name)


def check_labels(portraits: Sequence[Portrait], classifier: Classifier) -> list[str]:
    """Return the classes of the portraits, sorted.

    Args:
        portraits: The portraits.
        classifier: The model.

    Raises:
        ValueError: If the model has no label for a class of the portraits.
    """
    classes = sorted({portrait.label for portrait in portraits})
    if unknown := [name for name in classes if name not in classifier.labels]:
        raise ValueError(
            f"{classifier.model.name} has no label for the portraits' classes {', '.join(unknown)}; "
            f"its labels: {', '.join(classifier.labels)}. Choose another model, or rename the class folders"
        )
    return classes


def measure_portraits(
    portraits: Sequence[Portrait], detector: Detector, classifier: Classifier, tight: bool = False, seed: int = 0
) -> PortraitsResult:
    """Label portraits as ``fer-edge run`` labels images.

    Args:
        portraits: The portraits.
        detector: The detector.
        classifier: The model.
        tight: Whether to search the faces again in tight crops at the detector's boxes.
        seed: Seed of the scales of the tight crops.

    Raises:
        ValueError: If the model has no label for a class of the portraits.
    """
    classes = check_labels(portraits, classifier)
    outcomes, times = _label(portraits, detector, classifier)
    correct: dict[str, list[bool]] = {name: [] for name in classes}
    for portrait, (face, _) in zip(portraits, outcomes, strict=True):
        correct[portrait.label].append(face is not None and face.label == portrait.label)
    found = [face is not None for face, _ in outcomes]
    result = PortraitsResult(
        detector=detector.name,
        model=classifier.model.name,
        images=len(portraits),
        found=float(np.mean(found)),
        additional_per_image=float(np.mean([additional for _, additional in outcomes])),
        correct=float(np.mean(np.concatenate(list(correct.values())))),
        recall={name: float(np.mean(rows)) for name, rows in correct.items()},
        portraits_per_class={name: len(rows) for name, rows in correct.items()},
        p50_ms=times[0],
        p90_ms=times[1],
    )
    return _with_tight_crops(result, portraits, outcomes, detector, classifier, seed) if tight else result


def _label(
    portraits: Sequence[Portrait], detector: Detector, classifier: Classifier
) -> tuple[list[tuple[LabeledFace | None, int]], tuple[float, float]]:
    """Return the face of the head and the number of other faces per portrait, and the median and 90th percentile, ms."""
    outcomes: list[tuple[LabeledFace | None, int]] = []
    with closing(Pipeline(PortraitSource(portraits), detector, classifier)) as pipeline:
        for labeled in pipeline:
            height, width = labeled.image.shape[:2]
            face = next((face for face in labeled.faces if is_head(face.box_px, width, height)), None)
            outcomes.append((face, len(labeled.faces) - (face is not None)))
        time = pipeline.stats.stages()["detect"]
    return outcomes, (time.p50_ms, time.p90_ms)


def is_head(box: Box, width: int, height: int) -> bool:
    """Whether a box is the face of the head that fills the image.

    Args:
        box: Box (x, y, width, height), pixels.
        width: Width of the image, pixels.
        height: Height of the image, pixels.
    """
    x, y, w, h = box
    covers_center = x <= width / 2 <= x + w and y <= height / 2 <= y + h
    return covers_center and max(w, h) >= MIN_FACE_FRACTION * min(width, height)


def _with_tight_crops(
    result: PortraitsResult,
    portraits: Sequence[Portrait],
    outcomes: Sequence[tuple[LabeledFace | None, int]],
    detector: Detector,
    classifier: Classifier,
    seed: int,
) -> PortraitsResult:
    """Add the search in tight crops to a result. Each found face is cut out at its box, scaled by 1.0 to 1.2."""
    rng = np.random.default_rng(seed)
    crops = []
    for portrait, (face, _) in zip(portraits, outcomes, strict=True):
        scale = float(rng.uniform(*TIGHT_SCALES))
        if face is not None:
            crops.append(replace(portrait, read=partial(_tight_crop, portrait, face.box_px, scale)))
    if not crops:
        return replace(result, tight_images=0)
    tight, _ = _label(crops, detector, classifier)
    return replace(
        result,
        tight_images=len(crops),
        tight_found=float(np.mean([face is not None for face, _ in tight])),
        tight_additional_per_image=float(np.mean([additional for _, additional in tight])),
    )


def _tight_crop(portrait: Portrait, box: Box, scale: float) -> Image:
    """Cut the scaled box out of a portrait. The part outside the portrait is missing."""
    x, y, w, h = box
    margin_x, margin_y = round(w * (scale - 1) / 2), round(h * (scale - 1) / 2)
    image = portrait.read()
    return image[max(0, y - margin_y) : y + h + margin_y, max(0, x - margin_x) : x + w + margin_x].copy()


def results_table(results: Sequence[PortraitsResult]) -> str:
    """Return the results as a table for terminals, with the recall per class below."""
    header = ("detector", "model", "found", "additional per image", "p50 ms", "correct", "tight found", "tight additional")
    rows = [
        (
            result.detector,
            result.model,
            f"{result.found:.4f}",
            f"{result.additional_per_image:.4f}",
            f"{result.p50_ms:.1f}",
            f"{result.correct:.4f}",
            "-" if result.tight_found is None else f"{result.tight_found:.4f}",
            "-" if result.tight_additional_per_image is None else f"{result.tight_additional_per_image:.4f}",
        )
        for result in results
    ]
    classes = results[0].portraits_per_class
    recall_header = ("recall", "model", *(f"{name} ({count})" for name, count in classes.items()))
    recall_rows = [(result.detector, result.model, *(f"{result.recall[name]:.3f}" for name in classes)) for result in results]
    return f"{text_table(header, rows)}\n\n{text_table(recall_header, recall_rows)}"


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Zip or folder of class folders of portraits.")
@click.option(
    "--detector", "detectors", multiple=True, default=("all",), show_default=True, help="A detector, or all installed ones."
)
@click.option("--model", "models", multiple=True, help="As for fer-edge run.  [default: as fer-edge run]")
@click.option("--tight", is_flag=True, help="Search the faces again in tight crops.")
@click.option("--record", type=click.Path(path_type=Path), help="Append the results to this JSON-lines file.")
def main(data: Path, detectors: tuple[str, ...], models: tuple[str, ...], tight: bool, record: Path | None) -> None:
    """Measure detectors and models on portraits. --detector and --model may be repeated."""
    try:
        portraits = read_portraits(data)
        names = [name for choice in detectors for name in (sorted(installed_detectors()) if choice == "all" else [choice])]
        opened = [open_detector(name) for name in names]
        classifiers = [Classifier(model) for model in models or (None,)]
        before = read_state()
        results = tuple(
            measure_portraits(portraits, detector, classifier, tight) for detector in opened for classifier in classifiers
        )
        if record:
            environment = describe_environment()
            append_json_lines(record, [PortraitsRecord("portraits", data.stem, environment, before, results, read_state())])
    except (ValueError, OSError, ImportError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(results_table(results))


if __name__ == "__main__":
    main()
