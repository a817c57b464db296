"""Flicker and lag of labels: changes per second on a still face with camera noise, and frames until a new expression shows."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fer_edge.artifacts.latency_records import Environment
from fer_edge.benchmarks.environment import describe_environment
from fer_edge.benchmarks.synthetic_scenes import CropSource, LabeledCrop, add_noise, background, paste
from fer_edge.edge_runtime.cameras.frame import Frame
from fer_edge.edge_runtime.classify import Classifier
from fer_edge.edge_runtime.crop import crop_face
from fer_edge.edge_runtime.detectors.detection import Detector
from fer_edge.edge_runtime.images import Image
from fer_edge.edge_runtime.live.detect_and_track import DetectAndTrack, DetectionInterval
from fer_edge.edge_runtime.live.smoothing import NO_SMOOTHING, Smoother, Smoothing
from fer_edge.edge_runtime.live.stats import PipelineStats

FRAMES_PER_SECOND = 30.0
STILL_FRAMES = 90
CHANGE_FRAMES = 60
NOISE = 6.0  # standard deviation of 255 steps: a webcam in a room in the evening
SWAY_PX = 1.0  # nobody stays completely still
SIDE_PX = 170.0
DETECT_EVERY = 3
SMOOTHINGS = {"raw": NO_SMOOTHING, "smooth": Smoothing()}


@dataclass(frozen=True)
class Flicker:
    """Label changes on still faces.

    Attributes:
        faces: Number of faces.
        changes_per_second: Mean over the faces, by smoothing. A face that is lost and found again counts as changes.
        steady_fraction: Fraction of faces without any change, by smoothing.
    """

    faces: int
    changes_per_second: dict[str, float]
    steady_fraction: dict[str, float]


@dataclass(frozen=True)
class Lag:
    """Frames from a change of the face to the change of its label; 1 means at once.

    Attributes:
        pairs: Number of pairs of faces.
        p50_frames: Median, by smoothing; None if it is more than two seconds.
        p90_frames: 90th percentile, by smoothing; None likewise.
        never_shown: Pairs whose new label was not shown within two seconds, by smoothing.
    """

    pairs: int
    p50_frames: dict[str, float | None]
    p90_frames: dict[str, float | None]
    never_shown: dict[str, int]


@dataclass(frozen=True)
class LabelStability:
    """The record of one measurement of flicker and lag, with its source, detector and settings."""

    what: str
    source: CropSource
    detector: str
    environment: Environment
    settings: dict[str, Any]
    flicker: Flicker
    lag: Lag


def measure_stability(
    crops: Sequence[LabeledCrop],
    faces: int,
    detector: Detector,
    classifier: Classifier,
    source: CropSource,
) -> LabelStability:
    """Measure flicker and lag on randomly chosen crops.

    Args:
        crops: Face crops.
        faces: Number of still faces. Four times as many are used for the lag.
        detector: The detector.
        classifier: The classifier.
        source: Names for the record.
    """
    order = np.random.default_rng(0).permutation(len(crops))
    still = [crops[index] for index in order[:faces]]
    changing = [crops[index] for index in order[faces : 5 * faces]]
    return LabelStability(
        what="label_stability",
        source=source,
        detector=detector.name,
        environment=describe_environment(),
        settings={"noise": NOISE, "sway_px": SWAY_PX, "side_px": SIDE_PX, "detect_every": DETECT_EVERY, **vars(Smoothing())},
        flicker=measure_flicker(still, detector, classifier),
        lag=measure_lag(changing, detector, classifier),
    )


def shown_labels(images: Iterator[Image], detector: Detector, classifier: Classifier) -> dict[str, list[str | None]]:
    """Label a clip of one face with each smoothing, as the pipeline does at 30 frames per second.

    Args:
        images: Frames, uint8 arrays (height, width), gray.
        detector: The detector.
        classifier: The classifier.

    Returns:
        The label of each frame, by smoothing; None where no face was found.
    """
    tracker = DetectAndTrack(detector, DetectionInterval(DETECT_EVERY), None, 1, PipelineStats())
    smoothers = {name: Smoother(smoothing) for name, smoothing in SMOOTHINGS.items()}
    shown: dict[str, list[str | None]] = {name: [] for name in SMOOTHINGS}
    for number, image in enumerate(images):
        frame = Frame("scene", number, image, "gray", FRAMES_PER_SECOND)
        faces = tracker.update(frame)
        prediction = None
        if faces:
            crop = crop_face(frame.gray, faces[0].box_px, detector.name, classifier.contract.crop, faces[0].eyes_px)
            (prediction,) = classifier.predict(crop)
        for name, smoother in smoothers.items():
            time_s = number / FRAMES_PER_SECOND
            shown[name].append(smoother.update(faces[0].number, prediction, time_s).label if prediction else None)
    return shown


def _clip(scene: Image, faces: Sequence[tuple[Image, int]], rng: np.random.Generator) -> Iterator[Image]:
    """Yield noisy frames of faces that sway by a pixel; each face for its number of frames."""
    for face, count in faces:
        for _ in range(count):
            x, y = rng.normal(0, SWAY_PX, 2)
            yield add_noise(paste(scene, face, (320 + x, 240 + y), SIDE_PX, 0), NOISE, rng)


def measure_flicker(crops: Sequence[LabeledCrop], detector: Detector, classifier: Classifier, seed: int = 0) -> Flicker:
    """Count label changes per second on still faces.

    Args:
        crops: Face crops.
        detector: The detector.
        classifier: The classifier.
        seed: Seed of backgrounds and noise.
    """
    rng = np.random.default_rng(seed)
    changes: dict[str, list[int]] = {name: [] for name in SMOOTHINGS}
    for crop in crops:
        shown = shown_labels(_clip(background(rng), [(crop.face, STILL_FRAMES)], rng), detector, classifier)
        if all(label is None for label in shown["raw"]):
            continue
        for name, labels in shown.items():
            changes[name].append(sum(a != b for a, b in itertools.pairwise(labels)))
    seconds = STILL_FRAMES / FRAMES_PER_SECOND
    return Flicker(
        faces=len(changes["raw"]),
        changes_per_second={name: float(np.mean(counts)) / seconds for name, counts in changes.items()},
        steady_fraction={name: float(np.mean(np.array(counts) == 0)) for name, counts in changes.items()},
    )


def measure_lag(crops: Sequence[LabeledCrop], detector: Detector, classifier: Classifier, seed: int = 1) -> Lag:
    """Count the frames from a change of the face to the change of its label.

    Uses pairs of faces that the model distinguishes: both are labeled correctly as crops, their labels differ, and the second
    face is also labeled correctly in most of its noisy frames.

    Args:
        crops: Face crops.
        detector: The detector.
        classifier: The classifier.
        seed: Seed of backgrounds and noise.
    """
    rng = np.random.default_rng(seed)
    correct = [crop for crop in crops if classifier.predict(crop.face)[0].label == crop.label]
    pairs = [(a, b) for a, b in zip(correct[::2], correct[1::2], strict=False) if a.label != b.label]
    delays: dict[str, list[float]] = {name: [] for name in SMOOTHINGS}
    for first, second in pairs:
        clip = _clip(background(rng), [(first.face, CHANGE_FRAMES // 2), (second.face, CHANGE_FRAMES)], rng)
        shown = shown_labels(clip, detector, classifier)
        after = {name: labels[CHANGE_FRAMES // 2 :] for name, labels in shown.items()}
        too_early = shown["raw"][CHANGE_FRAMES // 2 - 1] == second.label
        if too_early or after["raw"].count(second.label) <= CHANGE_FRAMES / 2:
            continue  # the model cannot distinguish them in the scene
        for name, labels in after.items():
            delays[name].append(labels.index(second.label) + 1 if second.label in labels else float("inf"))
    measured = {name: values for name, values in delays.items() if values}
    return Lag(
        pairs=len(delays["raw"]),
        p50_frames={name: _percentile(values, 50) for name, values in measured.items()},
        p90_frames={name: _percentile(values, 90) for name, values in measured.items()},
        never_shown={name: int(np.isinf(values).sum()) for name, values in measured.items()},
    )


def _percentile(values: list[float], percent: float) -> float | None:
    """Return a percentile; None for infinity, which JSON cannot store."""
    value = float(np.percentile(values, percent, method="higher"))
    return None if np.isinf(value) else value
