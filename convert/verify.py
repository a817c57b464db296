"""Verify a finished .tflite file against the run it was made from, on any faces."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fer_edge.convert.compare import compare
from fer_edge.convert.convert_run import face_batch, load_model, predict, prepare, probabilities
from fer_edge.convert.gate import Issue, Thresholds, check_thresholds, diagnose, notes
from fer_edge.convert.inspect_model import Inspection, inspect_model, outlier_layers
from fer_edge.convert.run_folder import Run
from fer_edge.edge_runtime.classify import Classifier
from fer_edge.edge_runtime.images import Image


@dataclass(frozen=True)
class Verification:
    """What verification found.

    Attributes:
        metrics: From compare.
        inspection: The inside of the file.
        problems: Why the file is refused, likely causes last; none where it is right.
        notes: What makes it slower or less exact than it could be.
        before: The Keras model's probabilities, float32 array (n, classes).
        after: The file's, float32 array (n, classes).
    """

    metrics: dict[str, Any]
    inspection: Inspection
    problems: tuple[Issue, ...]
    notes: tuple[Issue, ...]
    before: npt.NDArray[np.float32]
    after: npt.NDArray[np.float32]


def verify(model: Path, run: Run, faces: Sequence[Image], targets: npt.NDArray[np.int64], bounds: Thresholds) -> Verification:
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
    # A fine-tuned file was made from other weights than the run's.
    tuned = contract.quantization["fine_tuning"] is not None
    found = notes(inspection, contract.quantization, {} if tuned else outlier_layers(prepare(run, keras_model)))
    if contract.source_digest != run.facts["model_digest"]:
        found.append(Issue(f"the file was not made from the model in {run.folder}", "verify it against its own run"))
    refusals = check_thresholds(metrics, bounds, contract, run.labels)
    problems = diagnose(refusals, before, after, run.labels, found)
    return Verification(metrics, inspection, tuple(problems), () if problems else tuple(found), before, after)
