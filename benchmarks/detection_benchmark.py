"""Detection and accuracy on full images: labeled crops pasted at random size, position and angle into backgrounds."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fer_edge.artifacts.contract import BoxTransform, CropConvention
from fer_edge.artifacts.latency_records import Environment, MachineState
from fer_edge.benchmarks.environment import describe_environment, read_state
from fer_edge.benchmarks.synthetic_scenes import SIZE, CropSource, LabeledCrop, background, box_of, face_free_images, paste
from fer_edge.edge_runtime.classify import Classifier
from fer_edge.edge_runtime.crop import Box, crop_face
from fer_edge.edge_runtime.detectors.blazeface import blazeface_model
from fer_edge.edge_runtime.detectors.box_transform import BoxFit, derive_box_transform
from fer_edge.edge_runtime.detectors.detection import Detection, Detector
from fer_edge.edge_runtime.detectors.tiling import iou
from fer_edge.edge_runtime.detectors.yunet import yunet_model
from fer_edge.edge_runtime.images import Image, import_cv2

SIDES_PX = (80, 300)  # of the pasted crop
MAX_DEGREES = 15.0
MIN_FACE_PX = 60  # as in a live run at 640 x 480
MIN_IOU = 0.3  # from which a detection counts as the face, after the contract's box transform
TRANSFORM_FACES = 800
FACE_FREE_IMAGES = 300


@dataclass(frozen=True)
class Scene:
    """A full image with one face.

    Attributes:
        image: uint8 array (height, width, 3), RGB.
        box: Upright box of the pasted crop, pixels.
        crop: The crop and its label.
    """

    image: Image
    box: Box
    crop: LabeledCrop


@dataclass(frozen=True)
class DetectorResult:
    """One detector on all scenes.

    Attributes:
        images: Number of images.
        found: Number of faces found.
        detection_rate: Fraction of faces found, 0..1.
        false_per_image: Mean number of detections that are not the face.
        false_per_face_free_image: Mean number of detections in drawn images without a face.
        p50_ms: Median time of a full search, milliseconds.
        p90_ms: 90th percentile, milliseconds.
        accuracy: Accuracy of the model on the found faces, 0..1, by the way they are cropped: ``original`` (before pasting),
            ``contract`` (box transform, rotated by the eyes), ``not_rotated`` (box transform only) and ``box`` (the detector's
            box). None without found faces.
    """

    images: int
    found: int
    detection_rate: float
    false_per_image: float
    false_per_face_free_image: float
    p50_ms: float
    p90_ms: float
    accuracy: dict[str, float | None]

    def __str__(self) -> str:
        accuracies = ", ".join(f"{name} {value:.4f}" for name, value in self.accuracy.items() if value is not None)
        return (
            f"found {self.detection_rate:.4f} of {self.images} faces, false {self.false_per_image:.3f} per image, "
            f"{self.false_per_face_free_image:.3f} per image without a face, "
            f"p50 {self.p50_ms:.1f} ms; accuracy on the found faces: {accuracies}"
        )


@dataclass(frozen=True)
class DetectionRecord:
    """Detectors on one machine. ``accuracy_of_original_crops`` is of all faces, found or not."""

    what: str
    source: CropSource
    environment: Environment
    before: MachineState
    accuracy_of_original_crops: float
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
    crops: Sequence[LabeledCrop], count: int, detectors: Sequence[Detector], classifier: Classifier, source: CropSource
) -> DetectionRecord:
    """Measure detectors on images with pasted crops.

    Args:
        crops: Face crops.
        count: Number of images.
        detectors: The detectors.
        classifier: The model that labels the found faces.
        source: Names for the record.
    """
    before = read_state()
    scenes, face_free = make_scenes(crops, count), face_free_images(FACE_FREE_IMAGES)
    correct = [classifier.predict(scene.crop.face)[0].label == scene.crop.label for scene in scenes]
    return DetectionRecord(
        what="detection",
        source=source,
        environment=describe_environment(),
        before=before,
        accuracy_of_original_crops=float(np.mean(correct)),
        detectors={detector.name: measure_detector(detector, classifier, scenes, face_free) for detector in detectors},
        after=read_state(),
    )


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


def make_scenes(crops: Sequence[LabeledCrop], count: int, seed: int = 0) -> list[Scene]:
    """Make full images of crops that are chosen without replacement.

    Args:
        crops: Face crops.
        count: Number of images.
        seed: Seed of all random choices.
    """
    cv2 = import_cv2()
    rng = np.random.default_rng(seed)
    scenes = []
    for index in rng.permutation(len(crops))[:count]:
        side = float(np.exp(rng.uniform(*np.log(SIDES_PX))))
        x, y = (float(rng.uniform(side / 2, length - side / 2)) for length in SIZE)
        degrees = float(rng.uniform(-MAX_DEGREES, MAX_DEGREES))
        gray = paste(background(rng), crops[index].face, (x, y), side, degrees)
        image = np.asarray(cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB), np.uint8)
        scenes.append(Scene(image, box_of((x, y), side), crops[index]))
    return scenes


def measure_detector(
    detector: Detector, classifier: Classifier, scenes: Sequence[Scene], face_free: Sequence[Image]
) -> DetectorResult:
    """Run one detector on the scenes, and the model on the found faces, cropped in each way.

    Args:
        detector: The detector.
        classifier: The model.
        scenes: The images.
        face_free: Images without a face, uint8 arrays (height, width, 3).
    """
    convention = classifier.contract.crop
    plain = CropConvention(convention.convention, convention.training_resolution_px, {detector.name: BoxTransform()})
    times_ms, false = [], 0
    correct: dict[str, list[bool]] = {name: [] for name in ("original", "contract", "not_rotated", "box")}
    for scene in scenes:
        start = time.perf_counter_ns()
        detections = detector.detect(scene.image, MIN_FACE_PX)
        times_ms.append((time.perf_counter_ns() - start) / 1e6)
        face = _matching(detections, scene.box, convention.box_transform(detector.name))
        false += len(detections) - (face is not None)
        if face is None:
            continue
        crops = {
            "original": scene.crop.face,
            "contract": crop_face(scene.image, face.box_px, detector.name, convention, face.eyes_px),
            "not_rotated": crop_face(scene.image, face.box_px, detector.name, convention),
            "box": crop_face(scene.image, face.box_px, detector.name, plain),
        }
        for name, crop in crops.items():
            correct[name].append(classifier.predict(crop)[0].label == scene.crop.label)
    found = len(correct["original"])
    return DetectorResult(
        images=len(scenes),
        found=found,
        detection_rate=found / len(scenes),
        false_per_image=false / len(scenes),
        false_per_face_free_image=float(np.mean([len(detector.detect(image, MIN_FACE_PX)) for image in face_free])),
        p50_ms=float(np.percentile(times_ms, 50)),
        p90_ms=float(np.percentile(times_ms, 90)),
        accuracy={name: float(np.mean(results)) if results else None for name, results in correct.items()},
    )


def _matching(detections: Sequence[Detection], box: Box, transform: BoxTransform) -> Detection | None:
    """Return the first detection that is the face in ``box``."""
    for detection in detections:
        x, y, w, h = detection.box_px
        side = max(w, h) * transform.scale
        center = x + w * (0.5 + transform.shift_x), y + h * (0.5 + transform.shift_y)
        if iou(box_of(center, side), box) >= MIN_IOU:
            return detection
    return None


def installed_detectors() -> list[str]:
    """Return the names of the detectors whose models are installed."""
    installed = {"blazeface": blazeface_model(), "haar": True, "yunet": yunet_model()}
    return [name for name, model in installed.items() if model]
