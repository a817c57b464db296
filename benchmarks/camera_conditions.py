"""Accuracy of models on portraits under difficult conditions of a camera: dark, blurred, small, tilted, compressed, covered.

``python -m fer_edge.benchmarks.camera_conditions --data wild_dev.zip --model cnn_nano --model runs/mine.tflite``
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np

from fer_edge.artifacts.contract import BoxTransform
from fer_edge.artifacts.latency_records import Environment
from fer_edge.artifacts.typed_json import append_json_lines
from fer_edge.benchmarks.degraded_images import CONDITIONS, FaceSquare, degrade
from fer_edge.benchmarks.environment import describe_environment
from fer_edge.benchmarks.portraits import MIN_FACE_FRACTION, Portrait, check_labels, is_head, read_portraits
from fer_edge.benchmarks.tables import text_table
from fer_edge.edge_runtime.classify import Classifier
from fer_edge.edge_runtime.crop import crop_face
from fer_edge.edge_runtime.detectors.detection import Detection, Detector
from fer_edge.edge_runtime.detectors.detector import open_detector
from fer_edge.edge_runtime.images import Image

SQUARE = "square"


@dataclass(frozen=True)
class ConditionsResult:
    """One model on the portraits under each condition.

    Attributes:
        model: Name of the .tflite file.
        detector: Name of the detector.
        detects_again: Whether the face was searched again in each changed image. Otherwise its box is that of the unchanged
            image, so that only the model differs between conditions.
        images: Number of portraits.
        faces: Number of portraits whose face was found in the unchanged image; the others are left out.
        correct: Fraction of these faces that are labeled correctly, 0..1, by condition. A face that is not found again counts
            as wrong.
    """

    model: str
    detector: str
    detects_again: bool
    images: int
    faces: int
    correct: dict[str, float]

    @property
    def mean_of_conditions(self) -> float:
        """Return the mean over all conditions except ``unchanged``, 0..1."""
        return float(np.mean([value for name, value in self.correct.items() if name != "unchanged"]))


@dataclass(frozen=True)
class ConditionsRecord:
    """Models on the portraits of a dataset under the conditions of a camera."""

    what: str
    data: str
    environment: Environment
    results: tuple[ConditionsResult, ...]


def measure_conditions(
    portraits: Sequence[Portrait],
    detector: Detector,
    classifiers: Sequence[Classifier],
    conditions: Sequence[str] = tuple(CONDITIONS),
    detects_again: bool = False,
) -> tuple[ConditionsResult, ...]:
    """Label portraits under each condition.

    Args:
        portraits: The portraits.
        detector: The detector.
        classifiers: The models; all get the same changed images.
        conditions: Names in CONDITIONS.
        detects_again: Whether the face is searched again in each changed image.

    Returns:
        One result per model.

    Raises:
        ValueError: If a condition is unknown, a model has no label for a class of the portraits, or no face is found.
    """
    for classifier in classifiers:
        check_labels(portraits, classifier)
    correct: list[dict[str, list[bool]]] = [{name: [] for name in conditions} for _ in classifiers]
    faces = 0
    for number, portrait in enumerate(portraits):
        image = portrait.read()
        found = _find(image, detector)
        if found is None:
            continue
        faces += 1
        square = _square(found, classifiers[0].contract.crop.box_transform(detector.name))
        for name in conditions:
            changed, face = degrade(image, square, name, seed=number)
            target = _find(changed, detector) if detects_again else Detection(face.box())
            kind = detector.name if detects_again else SQUARE
            for classifier, results in zip(classifiers, correct, strict=True):
                results[name].append(target is not None and _label(changed, target, kind, classifier) == portrait.label)
    if not faces:
        raise ValueError(f"{detector.name} found no face in {len(portraits)} portraits. Choose another detector")
    return tuple(
        ConditionsResult(
            model=classifier.model.name,
            detector=detector.name,
            detects_again=detects_again,
            images=len(portraits),
            faces=faces,
            correct={name: float(np.mean(values)) for name, values in results.items()},
        )
        for classifier, results in zip(classifiers, correct, strict=True)
    )


def _find(image: Image, detector: Detector) -> Detection | None:
    """Return the face of the head that fills the image."""
    height, width = image.shape[:2]
    detections = detector.detect(image, round(MIN_FACE_FRACTION * min(width, height)))
    return next((detection for detection in detections if is_head(detection.box_px, width, height)), None)


def _square(detection: Detection, transform: BoxTransform) -> FaceSquare:
    x, y, w, h = detection.box_px
    return FaceSquare(x + w * (0.5 + transform.shift_x), y + h * (0.5 + transform.shift_y), max(w, h) * transform.scale)


def _label(image: Image, target: Detection, kind: str, classifier: Classifier) -> str:
    """Return the label of a face. ``kind`` is the name of the detector, or SQUARE if the box is the crop already."""
    crop = classifier.contract.crop
    crop = replace(crop, box_transforms=crop.box_transforms | {SQUARE: BoxTransform()})
    return classifier.predict(crop_face(image, target.box_px, kind, crop, target.eyes_px))[0].label


def results_table(results: Sequence[ConditionsResult]) -> str:
    """Return the results as a table for terminals: one row per condition, one column per model."""
    header = ("condition", *(result.model for result in results))
    rows = [(name, *(f"{result.correct[name]:.3f}" for result in results)) for name in results[0].correct]
    rows.append(("mean without unchanged", *(f"{result.mean_of_conditions:.3f}" for result in results)))
    return text_table(header, rows)


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Zip or folder of class folders of portraits.")
@click.option("--detector", default="haar", show_default=True, help="The detector; none treats each image as a face crop.")
@click.option("--model", "models", multiple=True, help="As for fer-edge run. Repeatable.  [default: as fer-edge run]")
@click.option("--condition", "conditions", multiple=True, help="A condition. Repeatable.  [default: all]")
@click.option("--detect-again", is_flag=True, help="Search the face again in each changed image.")
@click.option("--record", type=click.Path(path_type=Path), help="Append the results to this JSON-lines file.")
def main(
    data: Path, detector: str, models: tuple[str, ...], conditions: tuple[str, ...], detect_again: bool, record: Path | None
) -> None:
    """Measure models on portraits under difficult conditions of a camera, made with OpenCV."""
    try:
        portraits = read_portraits(data)
        classifiers = [Classifier(model) for model in models or (None,)]
        results = measure_conditions(
            portraits, open_detector(detector), classifiers, conditions or tuple(CONDITIONS), detect_again
        )
        if record:
            append_json_lines(record, [ConditionsRecord("camera_conditions", data.stem, describe_environment(), results)])
    except (ValueError, OSError, ImportError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{results[0].faces} of {results[0].images} faces found by {detector}; fraction labeled correctly:\n")
    click.echo(results_table(results))


if __name__ == "__main__":
    main()
