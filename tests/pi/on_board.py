"""Measurements that run on an emulated board, and for comparison on the PC: results of the whole path, and instructions.

    python on_board.py parity IMAGES EVERY MODEL...   from each .png of a folder to the output of each model; prints JSON
    python on_board.py count IMAGE MODEL...           instructions of each stage of a live run; prints JSON lines

Models of more than 5 MB see every Nth image only: they take up to 50 times as long as the others. ``count`` needs the counter
of the emulator, see enter.sh.
"""

import hashlib
import importlib.metadata
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from fer_edge.artifacts.instruction_records import InstructionRecord
from fer_edge.artifacts.typed_json import to_data
from fer_edge.benchmarks.instructions import count_instructions
from fer_edge.edge_runtime.cameras.frame import Frame
from fer_edge.edge_runtime.classify import Classifier
from fer_edge.edge_runtime.crop import crop_face
from fer_edge.edge_runtime.detectors.detector import open_detector
from fer_edge.edge_runtime.images import decode_image
from fer_edge.edge_runtime.interpreter import tensor_view
from fer_edge.edge_runtime.live.tracker import Tracker

LARGE_BYTES = 5_000_000
MIN_FACE_PX = 60  # of a 640x480 frame: an eighth of its shorter side


def digest(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def output_of(classifier):
    """The output tensor after the newest prediction: the bytes of an int8 model."""
    (details,) = classifier.interpreter.get_output_details()
    return tensor_view(classifier.interpreter, details["index"])[0].tobytes().hex()


def parity(folder, every, *models):
    """Print, for each image and model, the digest of everything between the file and the output, and the output."""
    classifiers = {Path(model).stem: Classifier(model) for model in models}
    detector, haar = open_detector("own"), open_detector("haar")
    results = {}
    for number, path in enumerate(sorted(Path(folder).glob("*.png"))):
        image = decode_image(path.read_bytes(), path.name)
        faces = detector.detect(image, min(image.shape[:2]) // 4)
        result = {"image": digest(image), "boxes": [face.box_px for face in faces], "scores": [face.score for face in faces]}
        result["haar"] = [face.box_px for face in haar.detect(image, min(image.shape[:2]) // 4)]
        box = faces[0].box_px if faces else (0, 0, *image.shape[1::-1])
        for name, classifier in classifiers.items():
            if number % int(every) and classifier.model.stat().st_size > LARGE_BYTES:
                continue
            crop = crop_face(image, box, "own", classifier.contract.crop)
            (prediction,) = classifier.predict(crop)
            result[name] = [digest(crop), output_of(classifier), prediction.label]
        results[path.name] = result
    print(json.dumps(results))


def camera_frame(image, number):
    """A frame as the Raspberry Pi camera delivers it, its face moved by some pixels."""
    moved = np.roll(image, 2 * number, axis=1)
    return Frame("camera", number, cv2.cvtColor(moved, cv2.COLOR_RGB2YUV_I420), "i420-full")


def stages(image, models):
    """Yield (stage, subject, call) of a live run with a Raspberry Pi camera."""
    gray = camera_frame(image, 0).gray
    faces = open_detector("own").detect(gray, MIN_FACE_PX)
    box = faces[0].box_px
    tracker, grays = Tracker(), [camera_frame(image, number).gray for number in range(2)]
    tracker.update(faces, grays[0])
    calls = iter(range(1_000_000))
    for model in models:
        classifier = Classifier(model)
        crop = crop_face(gray, box, "own", classifier.contract.crop)
        yield "classify", Path(model).stem, lambda c=classifier, f=crop: c.predict(f)
        if model == models[0]:
            yield "crop", "", lambda c=classifier.contract.crop: crop_face(gray, box, "own", c)
    yield "track", "", lambda: tracker.track(grays[next(calls) % 2])
    # Six detections: a round of Haar's tiles, and of those of the own detector while no face is known.
    for detector in (open_detector("own"), open_detector("haar")):
        for stage, known in (("detect, face known, six times", [box]), ("detect, no face known, six times", [])):
            yield stage, detector.name, lambda d=detector, k=known: [d.detect(gray, MIN_FACE_PX, k) for _ in range(6)]


def count(image, *models):
    """Print the instructions of each stage, one record per line."""
    cv2.setNumThreads(1)
    runtime = f"ai-edge-litert {importlib.metadata.version('ai-edge-litert')}"
    made = InstructionRecord(os.environ["QEMU_CPU"], "", "", 0, runtime)
    for stage, subject, call in stages(decode_image(Path(image).read_bytes(), image), models):
        executed = count_instructions(call, runs=1, warmup_runs=0 if stage.startswith("detect") else 1)
        package = runtime if stage == "classify" or subject == "own" else f"opencv {cv2.__version__}"
        record = replace(made, stage=stage, subject=subject, instructions=executed, runtime=package)
        print(json.dumps(to_data(record)), flush=True)


if __name__ == "__main__":
    {"parity": parity, "count": count}[sys.argv[1]](*sys.argv[2:])
