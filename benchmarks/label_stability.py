"""Flicker and lag of labels: changes a second on a still face with camera noise, and frames until a new expression shows.

Run it: ``python -m fer_edge.benchmarks.label_stability MODEL.tflite fer2013.zip --part test --record FILE.jsonl``
"""

import argparse
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fer_edge.artifacts.typed_json import append_json_lines
from fer_edge.benchmarks.environment import describe_environment
from fer_edge.benchmarks.synthetic_scenes import LabeledCrop, background, noisy, paste, read_crops
from fer_edge.edge_runtime.cameras.frame import Frame
from fer_edge.edge_runtime.classify import Classifier
from fer_edge.edge_runtime.crop import crop_face
from fer_edge.edge_runtime.detectors.detector import Detector, open_detector
from fer_edge.edge_runtime.images import Image
from fer_edge.edge_runtime.live.detect_and_track import DetectAndTrack, DetectionInterval
from fer_edge.edge_runtime.live.smoothing import NO_SMOOTHING, Smoother, Smoothing
from fer_edge.edge_runtime.live.stats import PipelineStats

FRAMES_PER_SECOND = 30.0
STILL_FRAMES = 90
CHANGE_FRAMES = 60
NOISE = 6.0  # standard deviation of 255 steps: a webcam in a room in the evening
SWAY_PX = 1.0  # nobody holds quite still
SIDE_PX = 170.0
DETECT_EVERY = 3
WAYS = {"raw": NO_SMOOTHING, "smooth": Smoothing()}


def labels_of(pictures: Iterator[Image], detector: Detector, classifier: Classifier) -> dict[str, list[str | None]]:
    """Label a clip of one face in every way, as the pipeline does at 30 frames a second; None where no face is found."""
    finder = DetectAndTrack(detector, DetectionInterval(DETECT_EVERY), None, 1, PipelineStats())
    smoothers = {way: Smoother(smoothing) for way, smoothing in WAYS.items()}
    shown: dict[str, list[str | None]] = {way: [] for way in WAYS}
    for number, picture in enumerate(pictures):
        frame = Frame("scene", number, picture, "gray", FRAMES_PER_SECOND)
        faces = finder.update(frame)
        prediction = None
        if faces:
            cut = crop_face(frame.gray, faces[0].box_px, detector.name, classifier.contract.crop, faces[0].eyes_px)
            (prediction,) = classifier.predict(cut)
        for way, smoother in smoothers.items():
            moment = number / FRAMES_PER_SECOND
            shown[way].append(smoother.update(faces[0].number, prediction, moment).label if prediction else None)
    return shown


def _clip(scene: Image, faces: Sequence[tuple[Image, int]], rng: np.random.Generator) -> Iterator[Image]:
    """Yield noisy frames of a face that sways by a pixel; each of ``faces`` for its number of frames."""
    for face, count in faces:
        for _ in range(count):
            x, y = rng.normal(0, SWAY_PX, 2)
            yield noisy(paste(scene, face, (320 + x, 240 + y), SIDE_PX, 0), NOISE, rng)


def measure_flicker(crops: Sequence[LabeledCrop], detector: Detector, classifier: Classifier, seed: int = 0) -> dict[str, Any]:
    """Count label changes a second on still faces.

    Returns:
        faces, and for each way changes_per_second (mean over the faces) and steady_share (faces without any change). A face
        that is lost and found again counts as changes.
    """
    rng = np.random.default_rng(seed)
    changes: dict[str, list[int]] = {way: [] for way in WAYS}
    for crop in crops:
        shown = labels_of(_clip(background(rng), [(crop.face, STILL_FRAMES)], rng), detector, classifier)
        if all(label is None for label in shown["raw"]):
            continue
        for way, labels in shown.items():
            changes[way].append(sum(a != b for a, b in itertools.pairwise(labels)))
    seconds = STILL_FRAMES / FRAMES_PER_SECOND
    return {
        "faces": len(changes["raw"]),
        **{
            way: {"changes_per_second": float(np.mean(counts)) / seconds, "steady_share": float(np.mean(np.array(counts) == 0))}
            for way, counts in changes.items()
        },
    }


def measure_lag(crops: Sequence[LabeledCrop], detector: Detector, classifier: Classifier, seed: int = 1) -> dict[str, Any]:
    """Count the frames from a change of the face to the change of its label.

    Takes pairs of faces that the model tells apart: both labeled rightly as crops, with different labels, and the second one
    in most of its noisy frames too.

    Returns:
        pairs, and for each way p50_frames and p90_frames from the first new frame (1: shown at once; None: not within
        two seconds), and never_shown.
    """
    rng = np.random.default_rng(seed)
    sure = [crop for crop in crops if classifier.predict(crop.face)[0].label == crop.label]
    pairs = [(a, b) for a, b in zip(sure[::2], sure[1::2], strict=False) if a.label != b.label]
    waits: dict[str, list[float]] = {way: [] for way in WAYS}
    for first, second in pairs:
        clip = _clip(background(rng), [(first.face, CHANGE_FRAMES // 2), (second.face, CHANGE_FRAMES)], rng)
        shown = labels_of(clip, detector, classifier)
        after = {way: labels[CHANGE_FRAMES // 2 :] for way, labels in shown.items()}
        already = shown["raw"][CHANGE_FRAMES // 2 - 1] == second.label
        if already or after["raw"].count(second.label) <= CHANGE_FRAMES / 2:
            continue  # the model cannot tell them apart in the scene
        for way, labels in after.items():
            waits[way].append(labels.index(second.label) + 1 if second.label in labels else float("inf"))
    return {
        "pairs": len(waits["raw"]),
        **{
            way: {
                "p50_frames": _percentile(values, 50),
                "p90_frames": _percentile(values, 90),
                "never_shown": int(np.isinf(values).sum()),
            }
            for way, values in waits.items()
            if values
        },
    }


def _percentile(values: list[float], share: float) -> float | None:
    """Return a percentile; None where it falls on a label that was never shown, for which JSON has no number."""
    value = float(np.percentile(values, share, method="higher"))
    return None if np.isinf(value) else value


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m fer_edge.benchmarks.label_stability", description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="a .tflite file")
    parser.add_argument("data", type=Path, help="class folders of face crops, in a folder or a zip file")
    parser.add_argument("--part", default="test", help="only below a folder of this name")
    parser.add_argument("--faces", type=int, default=60)
    parser.add_argument("--detector", default="auto")
    parser.add_argument("--record", type=Path, help="append the result to this JSON-lines file")
    chosen = parser.parse_args()
    classifier, detector = Classifier(chosen.model), open_detector(chosen.detector)
    crops = read_crops(chosen.data, chosen.part, classifier.labels)
    order = np.random.default_rng(0).permutation(len(crops))
    still = [crops[index] for index in order[: chosen.faces]]
    changing = [crops[index] for index in order[chosen.faces : 5 * chosen.faces]]
    record = {
        "what": "flicker",
        "model": chosen.model.name,
        "data": chosen.data.stem,
        "part": chosen.part,
        "detector": detector.name,
        "environment": describe_environment(),
        "settings": {"noise": NOISE, "sway_px": SWAY_PX, "side_px": SIDE_PX, "detect_every": DETECT_EVERY, **vars(Smoothing())},
        "flicker": measure_flicker(still, detector, classifier),
        "lag": measure_lag(changing, detector, classifier),
    }
    print(record["flicker"])
    print(record["lag"])
    if chosen.record:
        append_json_lines(chosen.record, [record])


if __name__ == "__main__":
    main()
