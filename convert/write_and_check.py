"""Measure a converted model, check it by the gate, and write it under the name that the gate decides."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from fer_edge.artifacts.atomic_write import atomic_path, check_writable
from fer_edge.artifacts.contract import Contract, ModelError, read_contract
from fer_edge.artifacts.conversion import QuantizationRecipe, QuantizationSummary
from fer_edge.artifacts.gate import GateResult, Issue, Thresholds
from fer_edge.artifacts.run_folder import Run
from fer_edge.convert.calibrate import check_calibration
from fer_edge.convert.compare import compare
from fer_edge.convert.disagreement_grid import disagreement_grid_path, write_disagreement_grid
from fer_edge.convert.gate import check_thresholds, diagnose, warnings
from fer_edge.convert.inspect_model import Inspection, inspect_model, outlier_layers
from fer_edge.convert.metadata import attach
from fer_edge.convert.prepare_run import Calibration, PreparedRun
from fer_edge.convert.quantize import make_contract
from fer_edge.edge_runtime.batch_predict import classify_faces
from fer_edge.edge_runtime.classify import Classifier

REJECTED_SUFFIX = ".rejected"  # after .tflite, so that no search for models finds the file


@dataclass(frozen=True)
class ConversionResult:
    """One converted file.

    Attributes:
        path: The file. The name of a rejected file ends in ``.rejected``.
        contract: The contract inside, with the metrics before and after conversion.
        inspection: Operators and sizes.
        issues: Why the gate rejects it, then the likely causes; empty if it is accepted.
        warnings: What makes it slower or less exact than it could be; empty if it is rejected.
    """

    path: Path
    contract: Contract
    inspection: Inspection
    issues: tuple[Issue, ...]
    warnings: tuple[Issue, ...]


def check_conversion(run: Run, out: Path, recipes: Sequence[QuantizationRecipe], calibration: Calibration) -> None:
    """Check before a long conversion what would fail at its end. Needs no Keras.

    Args:
        run: The run.
        out: Folder for the files.
        recipes: From find_quantization_recipe.
        calibration: The calibration faces.

    Raises:
        OSError: If a file cannot be written.
        ValueError: If the calibration faces are not suitable, or a file of another run would be overwritten.
    """
    for recipe in recipes:
        target = _target(run, out, recipe)
        check_writable(target)
        _check_same_run(target, run)
        _check_same_run(_rejected(target), run)
    if any(recipe.calibrated for recipe in recipes):
        check_calibration(calibration.summary, calibration.images, run.held_out.images)


def _target(run: Run, out: Path, recipe: QuantizationRecipe) -> Path:
    return out / f"{run.record.plan.network}_{run.record.data.name}_{recipe.precision}.tflite"


def _rejected(target: Path) -> Path:
    return target.with_name(target.name + REJECTED_SUFFIX)


def _check_same_run(target: Path, run: Run) -> None:
    if not target.is_file() or target.parent == run.folder:
        return
    try:
        digest = read_contract(target).source_digest
    except ModelError:
        return  # not a file of fer-edge, or damaged: it is replaced
    if digest != run.results.model_digest:
        raise ValueError(f"{target} was made from another run of {run.record.plan.network}. Choose another folder: --out DIR")


def write_and_check(
    prepared: PreparedRun, flatbuffer: bytes, summary: QuantizationSummary, thresholds: Thresholds
) -> ConversionResult:
    """Attach the contract, measure the file on the held-out faces, and write it under the name that the gate decides.

    If the two models disagree on faces, an image of these faces is written too.

    Args:
        prepared: The run.
        flatbuffer: The quantized model.
        summary: How it was quantized.
        thresholds: Thresholds of the gate.

    Raises:
        OSError: If a file cannot be written.
    """
    run, target = prepared.run, _target(prepared.run, prepared.out, summary.recipe)
    contract = make_contract(prepared, summary)
    with TemporaryDirectory() as folder:
        path = Path(folder) / target.name
        path.write_bytes(attach(flatbuffer, contract))
        tflite_probs = classify_faces(Classifier(path), list(prepared.held_out))
        inspection = inspect_model(path)
    metrics = compare(prepared.keras_probs, tflite_probs, run.held_out.targets, run.labels)
    found = warnings(inspection, summary.recipe, outlier_layers(prepared.folded))
    issues = check_thresholds(metrics, thresholds, contract, run.labels)
    issues = diagnose(issues, prepared.keras_probs, tflite_probs, run.labels, found)
    contract = replace(contract, metrics=replace(metrics, gate=GateResult(thresholds, tuple(issues))))
    rejected = _rejected(target)
    path = rejected if issues else target
    with atomic_path(path) as temporary:
        temporary.write_bytes(attach(flatbuffer, contract))
    if not issues:
        rejected.unlink(missing_ok=True)
        disagreement_grid_path(rejected).unlink(missing_ok=True)
    grid = disagreement_grid_path(path)
    grid.unlink(missing_ok=True)
    write_disagreement_grid(grid, run.held_out.images, run.held_out.targets, prepared.keras_probs, tflite_probs, run.labels)
    return ConversionResult(path, read_contract(path), inspection, tuple(issues), () if issues else tuple(found))
