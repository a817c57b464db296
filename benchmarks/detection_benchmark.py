"""Detectors on the same sets of images: found faces, false detections, correct labels, time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from fer_edge.artifacts.latency_records import Environment, MachineState
from fer_edge.benchmarks.detection_sets import face_free_sets, portrait_sets, scene_sets
from fer_edge.benchmarks.environment import describe_environment, read_state
from fer_edge.benchmarks.marked_images import MarkedImage, Search, SetResult, measure_set
from fer_edge.benchmarks.portraits import Portrait
from fer_edge.benchmarks.synthetic_scenes import CropSource, LabeledCrop
from fer_edge.benchmarks.tables import text_table
from fer_edge.edge_runtime.cameras.frame import Frame
from fer_edge.edge_runtime.classify import Classifier
from fer_edge.edge_runtime.detectors.blazeface import blazeface_model
from fer_edge.edge_runtime.detectors.box_transform import BoxFit, derive_box_transform
from fer_edge.edge_runtime.detectors.detection import Detection, Detector
from fer_edge.edge_runtime.detectors.detector_network import own_detector_model
from fer_edge.edge_runtime.detectors.haar import FALLBACKS, FRONTAL, cascade_folder
from fer_edge.edge_runtime.detectors.own import OwnDetector
from fer_edge.edge_runtime.detectors.yunet import yunet_model
from fer_edge.edge_runtime.images import Image, import_cv2
from fer_edge.edge_runtime.live.detect_and_track import DetectAndTrack, DetectionInterval
from fer_edge.edge_runtime.live.stats import PipelineStats

# In Haar's convention. The smallest marked face has 60 pixels, as in a live run; a detector may measure it smaller.
MIN_FACE_PX = 48
TRANSFORM_FACES = 800
STILL_SETS = ("portraits", "tight crops")  # searched as fer-edge run searches an image, the others as it searches a frame


@dataclass(frozen=True)
class DetectionSets:
    """The images of a run.

    Attributes:
        crops: Face crops, pasted into scenes.
        portraits: Portraits that a head fills; empty to leave them out.
        photos: Photos marked by hand; empty to leave them out.
        count: Number of scenes with one face, and of scenes with a head.
        condition_count: Number of scenes per condition.
    """

    crops: Sequence[LabeledCrop]
    portraits: Sequence[Portrait] = ()
    photos: Sequence[MarkedImage] = ()
    count: int = 400
    condition_count: int = 150

    def by_name(self) -> dict[str, list[MarkedImage]]:
        """Return the sets in the order of the table."""
        sets = portrait_sets(self.portraits, self.count) if self.portraits else {}
        sets |= scene_sets(self.crops, self.count, self.condition_count)
        marked = [photo for photo in self.photos if photo.faces or photo.ignored_px]
        return sets | ({"photos": marked} if marked else {}) | face_free_sets(self.photos)


@dataclass(frozen=True)
class DetectorResult:
    """One detector on all sets.

    Attributes:
        model_bytes: Size of its model files.
        looks_per_scene: Mean number of inferences per scene with one face; None if the detector does not count them.
        sets: Result per set.
    """

    model_bytes: int
    looks_per_scene: float | None
    sets: dict[str, SetResult]


@dataclass(frozen=True)
class DetectionRecord:
    """Detectors on one machine, on the same sets of images."""

    what: str
    source: CropSource
    portraits: str | None
    environment: Environment
    before: MachineState
    detectors: dict[str, DetectorResult]
    after: MachineState


@dataclass(frozen=True)
class BoxTransformRecord:
    """The box transform of each detector and its spread, derived from faces."""

    what: str
    source: CropSource
    environment: Environment
    fits: dict[str, BoxFit]


def benchmark_detectors(
    sets: DetectionSets,
    detectors: dict[str, Detector],
    classifier: Classifier,
    source: CropSource,
    portraits: str | None = None,
) -> DetectionRecord:
    """Measure detectors on the same images.

    Args:
        sets: The images.
        detectors: The detectors, by the name or path that the user gave.
        classifier: The model that labels the found faces.
        source: Names of the crops for the record.
        portraits: Name of the portraits for the record.
    """
    before = read_state()
    results: dict[str, dict[str, SetResult]] = {choice: {} for choice in detectors}
    looks: dict[str, float | None] = dict.fromkeys(detectors)
    for name, images in sets.by_name().items():
        looks_before = {choice: _looks(detector) for choice, detector in detectors.items()}
        for choice, result in measure_set(images, _searches(detectors, name, classifier), classifier).items():
            results[choice][name] = result
        if name == "faces":
            counts = {choice: _looks(detector) - looks_before[choice] for choice, detector in detectors.items()}
            looks = {choice: count / len(images) if count else None for choice, count in counts.items()}
    return DetectionRecord(
        what="detection_sets",
        source=source,
        portraits=portraits,
        environment=describe_environment(),
        before=before,
        detectors={
            Path(choice).name: DetectorResult(model_bytes(detector.name, choice), looks[choice], results[choice])
            for choice, detector in detectors.items()
        },
        after=read_state(),
    )


def _searches(detectors: dict[str, Detector], set_name: str, classifier: Classifier) -> dict[str, Search]:
    """Return how each detector searches the images of a set."""
    searches = {}
    for choice, detector in detectors.items():
        min_face_px = round(MIN_FACE_PX / classifier.contract.crop.box_transform(detector.name).scale)
        frame_search = partial(detector.detect, min_face_px=min_face_px)
        searches[choice] = Search(detector.name, _still_search(detector) if set_name in STILL_SETS else frame_search)
    return searches


def _looks(detector: Detector) -> int:
    """Return the number of inferences so far, 0 if the detector does not count them."""
    return detector.looks if isinstance(detector, OwnDetector) else 0


def _still_search(detector: Detector) -> Callable[[Image], list[Detection]]:
    """Return a function that searches an image as ``fer-edge run`` does."""

    def search(image: Image) -> list[Detection]:
        finder = DetectAndTrack(detector, DetectionInterval(), None, None, PipelineStats())
        faces = finder.update(Frame("image", None, image))
        return [Detection(face.box_px, face.eyes_px, face.score) for face in faces]

    return search


def model_bytes(name: str, choice: str) -> int:
    """Return the size of a detector's model files.

    Args:
        name: Name of the detector.
        choice: Its name or the path of its file.
    """
    if Path(choice).is_file():
        return Path(choice).stat().st_size
    if name == "haar":
        folder = cascade_folder(import_cv2())
        return sum((folder / file).stat().st_size for file in {cascade.file for cascade in (FRONTAL, *FALLBACKS)})
    file = {"blazeface": blazeface_model, "own": own_detector_model, "yunet": yunet_model}[name]()
    return file.stat().st_size if file else 0


def detection_tables(record: DetectionRecord) -> str:
    """Return the record as tables for terminals: one row per set, one column per detector."""
    results = record.detectors
    names = list(results)
    sets = next(iter(results.values())).sets
    rows = []
    for name, first in sets.items():
        if first.faces:
            found = (f"{100 * result.sets[name].found / first.faces:.1f}" for result in results.values())
            rows.append((f"{name}, found %", str(first.faces), *found))
        false = (f"{result.sets[name].false_per_image:.3f}" for result in results.values())
        rows.append((f"{name}, false per image", str(first.images), *false))
        if first.correct is not None:
            correct = (f"{100 * (result.sets[name].correct or 0):.1f}" for result in results.values())
            rows.append((f"{name}, found and labeled correctly %", str(first.faces), *correct))
    for part in sets["photos"].parts if "photos" in sets else ():
        parts = [result.sets["photos"].parts[part] for result in results.values()]
        rows.append((f"photos, {part}, found %", str(parts[0].faces), *(f"{100 * p.found / p.faces:.1f}" for p in parts)))
    timed = [result.sets["faces"] for result in results.values()]
    rows += [
        ("CPU ms per scene, median", str(timed[0].images), *(f"{result.p50_cpu_ms:.2f}" for result in timed)),
        ("ms per scene, median", str(timed[0].images), *(f"{result.p50_ms:.2f}" for result in timed)),
        ("looks per scene", "", *(_optional(result.looks_per_scene) for result in results.values())),
        ("model bytes", "", *(str(result.model_bytes) for result in results.values())),
    ]
    return text_table(("", "of", *names), rows)


def _optional(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def derive_transforms(crops: Sequence[LabeledCrop], detectors: Sequence[Detector], source: CropSource) -> BoxTransformRecord:
    """Derive the box transforms of detectors from randomly chosen crops.

    Args:
        crops: Face crops.
        detectors: The detectors.
        source: Names for the record.
    """
    order = np.random.default_rng(0).permutation(len(crops))[:TRANSFORM_FACES]
    faces = [crops[index].face for index in order]
    fits = {detector.name: derive_box_transform(faces, detector) for detector in detectors}
    return BoxTransformRecord("box_transform", source, describe_environment(), fits)
