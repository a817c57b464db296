"""Convert a run to .tflite files, each with its contract inside and measured against the Keras model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fer_edge.convert.calibrate import GOOD_AGREEMENT, SHARES, by_stretch
from fer_edge.convert.fold import fold_input
from fer_edge.convert.metadata import attach
from fer_edge.convert.quantize import QUANTIZATIONS, Quantization, check_calibration, quantize
from fer_edge.convert.run_folder import Run, StoredFaces
from fer_edge.edge_runtime.box_transform import derive_box_transforms
from fer_edge.edge_runtime.classify import Classifier
from fer_edge.edge_runtime.contract import BOX_TRANSFORMS, BoxTransform, Contract, CropConvention
from fer_edge.edge_runtime.crop import prepare_face, to_rgb
from fer_edge.edge_runtime.whole_file import whole_file

if TYPE_CHECKING:
    import keras

LOG_FILE = "convert.log"
BATCH = 64

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Converted:
    """One file that conversion made.

    Attributes:
        path: Where it lies.
        file_bytes: Its size.
        contract: The contract inside, with the metrics before and after.
    """

    path: Path
    file_bytes: int
    contract: Contract


def convert_run(
    run: Run, precisions: Sequence[str], out: Path | None = None, progress: Progress | None = None
) -> list[Converted]:
    """Convert a run to one .tflite file per precision.

    Args:
        run: The run, from read_run.
        precisions: Names in QUANTIZATIONS.
        out: Folder for the files, the run folder by default.
        progress: Called with (files done, files in all).

    Returns:
        The files made, in order. Each was measured on the run's held-out faces before it got its name.

    Raises:
        ValueError: If a precision is unknown or there are too few calibration faces.
        RuntimeError: If the converter fails.
    """
    for precision in precisions:
        if precision not in QUANTIZATIONS:
            raise ValueError(f"unknown precision '{precision}'; choose one of: {', '.join(QUANTIZATIONS)}")
    model = _load(run)
    size, resolution = run.facts["image_size"], run.facts["data"]["resolution_px"]
    calibration, held_out = (_batch(faces, size, resolution) for faces in (run.calibration, run.held_out))
    before = _predict(model, held_out)
    if any(QUANTIZATIONS[precision].calibrated for precision in precisions):
        check_calibration(len(calibration))
    folded = fold_input(model)
    transforms = derive_box_transforms(run.calibration.images)
    folder = out or run.folder
    made = []
    for done, precision in enumerate(precisions):
        if progress:
            progress(done, len(precisions))
        recipe = QUANTIZATIONS[precision]
        if recipe.calibrated:
            flatbuffer, used = _calibrated(run, model, folded, recipe, calibration, folder / LOG_FILE)
        else:
            flatbuffer, used = quantize(folded, recipe, calibration[:0], folder / LOG_FILE), 0
        contract = _contract(run, recipe, used, transforms)
        path = folder / f"{contract.architecture}_{contract.data}_{precision}.tflite"
        with whole_file(path) as temporary:
            temporary.write_bytes(attach(flatbuffer, contract))
            after = _probabilities(Classifier(temporary), held_out)
            contract = replace(contract, metrics=compare(before, after, run.held_out.targets, run.labels))
            temporary.write_bytes(attach(flatbuffer, contract))
        made.append(Converted(path, path.stat().st_size, contract))
    if progress:
        progress(len(precisions), len(precisions))
    return made


def _calibrated(
    run: Run, model: "keras.Model", folded: "keras.Model", recipe: Quantization, faces: npt.NDArray[np.uint8], log: Path
) -> tuple[bytes, int]:
    """Quantise with the share of the calibration faces that gives the model closest to Keras on all of them.

    Returns:
        The flatbuffer and the number of faces that calibrated it.
    """
    order, before = by_stretch(model, faces), _predict(model, faces)
    candidates: list[tuple[float, float, int, bytes]] = []
    for share in SHARES:
        kept = np.sort(order[: round(share * len(faces))])
        flatbuffer = quantize(folded, recipe, faces[kept], log)
        with TemporaryDirectory() as folder:
            path = Path(folder) / "candidate.tflite"
            path.write_bytes(attach(flatbuffer, _contract(run, recipe, len(kept))))
            after = _probabilities(Classifier(path), faces)
        agreement = float((before.argmax(axis=1) == after.argmax(axis=1)).mean())
        candidates.append((agreement, -float(np.abs(before - after).mean()), len(kept), flatbuffer))
        if agreement >= GOOD_AGREEMENT:
            break
    *_, used, closest = max(candidates, key=lambda candidate: candidate[:2])
    return closest, used


def compare(
    before: npt.NDArray[np.float32], after: npt.NDArray[np.float32], targets: npt.NDArray[np.int64], labels: tuple[str, ...]
) -> dict[str, Any]:
    """Compare the Keras model's and the converted model's probabilities for the same faces.

    Args:
        before: float32 array (n, classes), of the Keras model.
        after: float32 array (n, classes), of the .tflite file.
        targets: int64 array (n,).
        labels: Label names in output order.

    Returns:
        Number of faces, share of equal labels (agreement, 0..1), largest difference of a probability, and accuracy
        and recall per class (0..1, None where a class has no face) before and after.
    """

    def recalls(predicted: npt.NDArray[np.intp]) -> dict[str, float | None]:
        own = {label: predicted[targets == k] == k for k, label in enumerate(labels)}
        return {label: float(hits.mean()) if len(hits) else None for label, hits in own.items()}

    first, second = before.argmax(axis=1), after.argmax(axis=1)
    return {
        "faces": len(targets),
        "agreement": float((first == second).mean()),
        "largest_difference": float(np.abs(before - after).max()),
        "accuracy_before": float((first == targets).mean()),
        "accuracy_after": float((second == targets).mean()),
        "recall_before": recalls(first),
        "recall_after": recalls(second),
    }


def _load(run: Run) -> "keras.Model":
    import keras

    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(f"conversion needs keras' TensorFlow backend. Received: KERAS_BACKEND={keras.backend.backend()}")
    try:
        return keras.models.load_model(run.model_path, compile=False)
    except (ValueError, OSError, KeyError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{run.model_path} cannot be loaded ({reason}). Train again") from error


def _batch(faces: StoredFaces, size: int, resolution: int) -> npt.NDArray[np.uint8]:
    return np.stack([to_rgb(prepare_face(image, size, resolution)) for image in faces.images])


def _predict(model: "keras.Model", faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return np.asarray(model.predict(faces.astype(np.float32), batch_size=BATCH, verbose=0), np.float32)


def _probabilities(classifier: Classifier, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return np.stack([classifier.probabilities(face) for face in faces])


def _contract(
    run: Run, recipe: Quantization, calibration_faces: int, transforms: dict[str, BoxTransform] | None = None
) -> Contract:
    import tensorflow as tf

    facts = run.facts
    return Contract(
        architecture=facts["network"],
        labels=run.labels,
        image_size=facts["image_size"],
        crop=CropConvention(
            training_resolution_px=facts["data"]["resolution_px"], box_transforms=transforms or dict(BOX_TRANSFORMS)
        ),
        precision=recipe.precision,
        quantization={**recipe.as_data(), "calibration_faces": calibration_faces},
        parameters=facts["parameters"],
        data=facts["data"]["name"],
        data_fingerprint=facts["data"]["fingerprint"],
        split={key: value for key, value in facts["split"].items() if key != "ids"},
        recipe=facts["recipe"]["name"],
        metrics={},
        versions={**facts["versions"], "converter": f"tensorflow {tf.__version__}"},
        source_digest=facts["model_digest"],
    )
