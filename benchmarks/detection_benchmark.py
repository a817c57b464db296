"""Detection and accuracy on full pictures: labeled crops pasted at random size, place and angle into backgrounds.

Run it: ``python -m fer_edge.benchmarks.detection_benchmark MODEL.tflite fer2013.zip --part test --record FILE.jsonl``
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fer_edge.artifacts.contract import BoxTransform, CropConvention
from fer_edge.artifacts.typed_json import append_json_lines
from fer_edge.benchmarks.environment import describe_environment, read_state
from fer_edge.benchmarks.synthetic_scenes import SIZE, LabeledCrop, background, box_of, paste, read_crops
from fer_edge.edge_runtime.classify import Classifier
from fer_edge.edge_runtime.crop import Box, crop_face
from fer_edge.edge_runtime.detectors.blazeface import blazeface_model
from fer_edge.edge_runtime.detectors.box_transform import derive_box_transform
from fer_edge.edge_runtime.detectors.detector import Detection, Detector, open_detector
from fer_edge.edge_runtime.detectors.tiling import iou
from fer_edge.edge_runtime.detectors.yunet import yunet_model
from fer_edge.edge_runtime.images import Image, import_cv2

SIDES_PX = (80, 300)  # of the pasted crop
MOST_DEGREES = 15.0
MIN_FACE_PX = 60  # what a live run looks for in 640 x 480
SAME_OVERLAP = 0.3  # at which a detection counts as the face, after the contract's transform


@dataclass(frozen=True)
class Scene:
    """A full picture with one face.

    Attributes:
        image: uint8 (height, width, 3), RGB.
        box: The pasted crop's upright box, pixels.
        crop: The crop itself and its label.
    """

    image: Image
    box: Box
    crop: LabeledCrop


def make_scenes(crops: Sequence[LabeledCrop], count: int, seed: int = 0) -> list[Scene]:
    """Make pictures of crops that are chosen without replacement."""
    cv2 = import_cv2()
    rng = np.random.default_rng(seed)
    scenes = []
    for index in rng.permutation(len(crops))[:count]:
        side = float(np.exp(rng.uniform(*np.log(SIDES_PX))))
        centre = tuple(float(rng.uniform(side / 2, length - side / 2)) for length in SIZE)
        degrees = float(rng.uniform(-MOST_DEGREES, MOST_DEGREES))
        gray = paste(background(rng), crops[index].face, (centre[0], centre[1]), side, degrees)
        picture = np.asarray(cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB), np.uint8)
        scenes.append(Scene(picture, box_of((centre[0], centre[1]), side), crops[index]))
    return scenes


def measure_detector(detector: Detector, classifier: Classifier, scenes: Sequence[Scene]) -> dict[str, Any]:
    """Run one detector over the scenes, and the model over each way of cutting what it finds.

    Returns:
        detection_rate, false_per_picture, p50_ms and p90_ms of a full search; and over the found faces the accuracy of
        original (the crop before it was pasted), contract (box transform, turned by the eyes), unturned (box transform
        only) and box (the detector's box as it is).
    """
    convention = classifier.contract.crop
    plain = CropConvention(convention.convention, convention.training_resolution_px, {detector.name: BoxTransform()})
    times, wrong = [], 0
    right: dict[str, list[bool]] = {way: [] for way in ("original", "contract", "unturned", "box")}
    for scene in scenes:
        start = time.perf_counter_ns()
        detections = detector.detect(scene.image, MIN_FACE_PX)
        times.append((time.perf_counter_ns() - start) / 1e6)
        hit = _hit(detections, scene.box, convention.box_transforms[detector.name])
        wrong += len(detections) - (hit is not None)
        if hit is None:
            continue
        cuts = {
            "original": scene.crop.face,
            "contract": crop_face(scene.image, hit.box_px, detector.name, convention, hit.eyes_px),
            "unturned": crop_face(scene.image, hit.box_px, detector.name, convention),
            "box": crop_face(scene.image, hit.box_px, detector.name, plain),
        }
        for way, cut in cuts.items():
            right[way].append(classifier.predict(cut)[0].label == scene.crop.label)
    found = len(right["original"])
    return {
        "pictures": len(scenes),
        "found": found,
        "detection_rate": found / len(scenes),
        "false_per_picture": wrong / len(scenes),
        "p50_ms": float(np.percentile(times, 50)),
        "p90_ms": float(np.percentile(times, 90)),
        "accuracy": {way: float(np.mean(results)) if results else None for way, results in right.items()},
    }


def _hit(detections: Sequence[Detection], box: Box, transform: BoxTransform) -> Detection | None:
    for detection in detections:
        x, y, w, h = detection.box_px
        side = max(w, h) * transform.scale
        middle = x + w * (0.5 + transform.shift_x), y + h * (0.5 + transform.shift_y)
        if iou(box_of(middle, side), box) >= SAME_OVERLAP:
            return detection
    return None


def _installed_detectors() -> str:
    found = {"blazeface": blazeface_model(), "haar": True, "yunet": yunet_model()}
    return ",".join(name for name, there in found.items() if there)


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        prog="python -m fer_edge.benchmarks.detection_benchmark", description=__doc__.splitlines()[0]
    )
    parser.add_argument("model", type=Path, help="a .tflite file")
    parser.add_argument("data", type=Path, help="class folders of face crops, in a folder or a zip file")
    parser.add_argument("--part", default="test", help="only below a folder of this name")
    parser.add_argument("--count", type=int, default=1000, help="pictures")
    parser.add_argument("--detectors", help="names, or a YuNet .onnx file  [default: those that are installed]")
    parser.add_argument("--derive", metavar="PART", help="instead: derive the box transforms from this part, 800 faces")
    parser.add_argument("--record", type=Path, help="append the result to this JSON-lines file")
    chosen = parser.parse_args()
    classifier = Classifier(chosen.model)
    crops = read_crops(chosen.data, chosen.derive or chosen.part, classifier.labels)
    detectors = [open_detector(name) for name in (chosen.detectors or _installed_detectors()).split(",")]
    record: dict[str, Any] = {"data": chosen.data.stem, "environment": describe_environment(), "before": read_state()}
    if chosen.derive:
        faces = [crops[index].face for index in np.random.default_rng(0).permutation(len(crops))[:800]]
        fits = {detector.name: derive_box_transform(faces, detector) for detector in detectors}
        record |= {"what": "box_transform", "part": chosen.derive}
        record["fits"] = {name: {**vars(fit), "transform": vars(fit.transform)} for name, fit in fits.items()}
        for name, fit in fits.items():
            print(name, fit)
    else:
        scenes = make_scenes(crops, chosen.count)
        everyone = np.mean([classifier.predict(scene.crop.face)[0].label == scene.crop.label for scene in scenes])
        record |= {"what": "full_pictures", "model": chosen.model.name, "part": chosen.part}
        record["accuracy_of_all_original_crops"] = float(everyone)
        record["detectors"] = {}
        print(f"{len(scenes)} pictures; accuracy of the original crops {everyone:.4f}")
        for detector in detectors:
            row = record["detectors"][detector.name] = measure_detector(detector, classifier, scenes)
            shares = ", ".join(f"{way} {value:.4f}" for way, value in row["accuracy"].items())
            print(
                f"{detector.name}: found {row['detection_rate']:.4f}, false {row['false_per_picture']:.3f} a picture, ", end=""
            )
            print(f"p50 {row['p50_ms']:.1f} ms; accuracy of the found: {shares}", flush=True)
    record["after"] = read_state()
    if chosen.record:
        append_json_lines(chosen.record, [record])


if __name__ == "__main__":
    main()
