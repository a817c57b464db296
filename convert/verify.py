"""Verify a finished .tflite file against its run, on any faces."""

from dataclasses import dataclass
from pathlib import Path

from fer_edge.artifacts.conversion import ConversionMetrics
from fer_edge.artifacts.gate import Issue, Thresholds
from fer_edge.artifacts.run_folder import Run, StoredFaces
from fer_edge.convert.compare import compare
from fer_edge.convert.disagreement_grid import disagreement_grid_path, write_disagreement_grid
from fer_edge.convert.gate import check_thresholds, diagnose, warnings
from fer_edge.convert.inspect_model import Inspection, inspect_model, outlier_layers
from fer_edge.convert.prepare_run import fold_and_equalize, load_model_of_run, predict, preprocess
from fer_edge.edge_runtime.batch_predict import classify_faces
from fer_edge.edge_runtime.classify import Classifier


@dataclass(frozen=True)
class Verification:
    """The result of a verification.

    Attributes:
        metrics: The comparison with the Keras model.
        inspection: The content of the file.
        issues: Why the gate rejects the file, then the likely causes; empty if it is accepted.
        warnings: What makes it slower or less exact than it could be; empty if it is rejected.
        disagreements: Number of faces with another label than the Keras model gives.
        grid: The image of the worst of them; not written if there are none.
    """

    metrics: ConversionMetrics
    inspection: Inspection
    issues: tuple[Issue, ...]
    warnings: tuple[Issue, ...]
    disagreements: int
    grid: Path


def verify(
    model: Path,
    run: Run,
    faces: StoredFaces | None = None,
    thresholds: Thresholds | None = None,
    grid: Path | None = None,
) -> Verification:
    """Measure a .tflite file and the Keras model of a run on the same faces, and check the file by the gate.

    Example:
        >>> run = read_run("runs/my-run")
        >>> print(verify(run.folder / "cnn_ck48_int8.tflite", run).metrics.agreement)

    Args:
        model: The .tflite file.
        run: The run, from read_run.
        faces: Faces with targets in the label order of the run; None for the test faces in the run folder.
        thresholds: Thresholds of the gate; None for the defaults.
        grid: File for the image of the worst disagreeing faces; None for a file in the folder of the model.

    Raises:
        FileNotFoundError: If there is no such file.
        ModelError: If it is not a .tflite file of fer-edge.
        ValueError: If the input size or the number of labels differs from the run's.
    """
    faces = faces or run.held_out
    classifier = Classifier(model)
    contract = classifier.contract
    image_size = run.record.plan.image_size
    if contract.image_size != image_size or len(contract.labels) != len(run.labels):
        raise ValueError(
            f"{model} takes faces of {contract.image_size} px and has {len(contract.labels)} labels, the run in {run.folder} "
            f"{image_size} px and {len(run.labels)} labels. Verify it against the run it was made from"
        )
    keras_model = load_model_of_run(run)
    pixels = preprocess(run, faces.images)
    keras_probs, tflite_probs = predict(keras_model, pixels), classify_faces(classifier, list(pixels))
    inspection, metrics = inspect_model(model), compare(keras_probs, tflite_probs, faces.targets, run.labels)
    recipe = contract.quantization.recipe
    # A fine-tuned file was made from other weights than the run's.
    outliers = {} if recipe.fine_tuning else outlier_layers(fold_and_equalize(run, keras_model))
    found = warnings(inspection, recipe, outliers)
    if contract.source_digest != run.results.model_digest:
        found.append(Issue(f"the file was not made from the model in {run.folder}", "verify it against its own run"))
    issues = check_thresholds(metrics, thresholds or Thresholds(), contract, run.labels)
    issues = diagnose(issues, keras_probs, tflite_probs, run.labels, found)
    grid = grid or disagreement_grid_path(model)
    disagreements = write_disagreement_grid(grid, faces.images, faces.targets, keras_probs, tflite_probs, run.labels)
    return Verification(metrics, inspection, tuple(issues), () if issues else tuple(found), disagreements, grid)
