"""Verify a finished .tflite file against the run it was made from, on any faces."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fer_edge.convert.compare import compare, kl_divergence
from fer_edge.convert.convert_run import face_batch, load_model, predict, probabilities
from fer_edge.convert.fold import fold_model
from fer_edge.convert.gate import Bounds, Problem, explain, judge, notes
from fer_edge.convert.inspect_model import Inspection, inspect_model, outstanding_layers
from fer_edge.convert.run_folder import Run
from fer_edge.edge_runtime.classify import Classifier
from fer_edge.edge_runtime.pictures import Picture, import_cv2, write_picture

SHEET_FACES = 24
SHEET_COLUMNS = 6
TILE_PX = 160
CAPTION_PX = 44


@dataclass(frozen=True)
class Verification:
    """What verification found.

    Attributes:
        metrics: From compare.
        inspection: The inside of the file.
        problems: Why the file is refused, likely causes last; none where it is right.
        notes: What makes it slower or less exact than it could be.
        worst: Indices of the faces that got another label than Keras gives, the farthest apart first.
        before: The Keras model's probabilities, float32 array (n, classes).
        after: The file's, float32 array (n, classes).
    """

    metrics: dict[str, Any]
    inspection: Inspection
    problems: tuple[Problem, ...]
    notes: tuple[Problem, ...]
    worst: npt.NDArray[np.intp]
    before: npt.NDArray[np.float32]
    after: npt.NDArray[np.float32]


def verify(model: Path, run: Run, faces: Sequence[Picture], targets: npt.NDArray[np.int64], bounds: Bounds) -> Verification:
    """Measure a .tflite file and the Keras model of a run on the same faces, and judge the file.

    Args:
        model: The .tflite file.
        run: The run, from read_run.
        faces: uint8 arrays (height, width) or (height, width, 3), in the run's label order.
        targets: int64 array (n,), indices into the run's labels.
        bounds: What the gate allows.

    Raises:
        FileNotFoundError: If there is no such file.
        ModelError: If it is no .tflite file of fer-edge.
        ValueError: If the file's input is of another size than the run's.
    """
    classifier = Classifier(model)
    contract = classifier.contract
    if contract.image_size != run.facts["image_size"] or len(contract.labels) != len(run.labels):
        raise ValueError(
            f"{model} takes {contract.image_size} px faces and knows {len(contract.labels)} labels, the run in {run.folder} "
            f"{run.facts['image_size']} px and {len(run.labels)}. Verify it against the run it was made from"
        )
    keras_model = load_model(run)
    pixels = face_batch(run, faces)
    before, after = predict(keras_model, pixels), probabilities(classifier, pixels)
    inspection, metrics = inspect_model(model), compare(before, after, targets, run.labels)
    found = notes(inspection, contract.quantization, outstanding_layers(fold_model(keras_model)))
    problems = explain(judge(metrics, bounds, inspection, contract.labels, run.labels), before, after, run.labels, found)
    differ = np.flatnonzero(before.argmax(axis=1) != after.argmax(axis=1))
    worst = differ[np.argsort(-kl_divergence(before, after)[differ], kind="stable")]
    return Verification(metrics, inspection, tuple(problems), () if problems else tuple(found), worst, before, after)


def write_sheet(path: Path, found: Verification, faces: Sequence[Picture], targets: npt.NDArray[np.int64], run: Run) -> None:
    """Draw the worst disagreeing faces into one picture, each with its true label and both answers.

    Raises:
        ValueError: If there is none.
        OSError: If the file cannot be written.
    """
    if not len(found.worst):
        raise ValueError("the two models give every face the same label: there is nothing to draw")
    cv2 = import_cv2()
    shown = found.worst[:SHEET_FACES]
    rows = -(-len(shown) // SHEET_COLUMNS)
    sheet = np.full((rows * (TILE_PX + CAPTION_PX), min(len(shown), SHEET_COLUMNS) * TILE_PX, 3), 255, np.uint8)
    for place, index in enumerate(shown):
        top, left = place // SHEET_COLUMNS * (TILE_PX + CAPTION_PX), place % SHEET_COLUMNS * TILE_PX
        face = np.asarray(faces[index])
        face = np.repeat(face[:, :, None], 3, axis=2) if face.ndim == 2 else face
        sheet[top : top + TILE_PX, left : left + TILE_PX] = cv2.resize(
            face, (TILE_PX, TILE_PX), interpolation=cv2.INTER_NEAREST
        )
        captions = (f"true: {run.labels[targets[index]]}", *(_answer(name, p[index], run) for name, p in _both(found)))
        for line, text in enumerate(captions):
            place_px = (left + 4, top + TILE_PX + 13 + 13 * line)
            cv2.putText(sheet, text, place_px, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    write_picture(path, sheet)


def _both(found: Verification) -> tuple[tuple[str, npt.NDArray[np.float32]], ...]:
    return ("Keras", found.before), ("file", found.after)


def _answer(name: str, probabilities: npt.NDArray[np.float32], run: Run) -> str:
    best = int(probabilities.argmax())
    return f"{name}: {run.labels[best]} {probabilities[best]:.2f}"
