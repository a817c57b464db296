"""Convert a run to .tflite files, each with its contract inside, measured against the Keras model and judged by the gate."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.atomic_write import atomic_path
from fer_edge.artifacts.contract import Contract, CropConvention, ModelError, read_contract
from fer_edge.convert import ai_edge
from fer_edge.convert.calibrate import (
    GOOD_AGREEMENT,
    SHARES,
    check_calibration,
    describe_calibration,
    rank_by_activation_outliers,
)
from fer_edge.convert.compare import compare, kl_divergence
from fer_edge.convert.cross_layer_equalization import equalize
from fer_edge.convert.disagreement_grid import disagreement_grid_path, write_disagreement_grid
from fer_edge.convert.flatbuffer import read_flatbuffer, sign, write_flatbuffer
from fer_edge.convert.fold import fold_model
from fer_edge.convert.gate import Issue, Thresholds, check_thresholds, diagnose, notes
from fer_edge.convert.inspect_model import Inspection, inspect_model, outlier_layers
from fer_edge.convert.metadata import attach
from fer_edge.convert.quantization_recipes import RECIPES, QuantizationRecipe
from fer_edge.convert.run_folder import Run
from fer_edge.convert.tf_converter import convert_keras
from fer_edge.edge_runtime.classify import Classifier
from fer_edge.edge_runtime.crop import preprocess_face, to_rgb
from fer_edge.edge_runtime.detectors.box_transform import derive_box_transforms
from fer_edge.edge_runtime.images import Image

if TYPE_CHECKING:
    import keras

LOG_FILE = "convert.log"
REJECTED_SUFFIX = ".rejected"  # behind .tflite, so that nothing that looks for models finds it
BATCH = 64

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ConversionResult:
    """One file that conversion made.

    Attributes:
        path: Where it lies; a rejected file's name ends in ``.rejected``.
        contract: The contract inside, with the metrics before and after.
        inspection: Operators and sizes.
        problems: Why the gate refuses it, likely causes last; none where it is right.
        notes: What makes it slower or less exact than it could be.
    """

    path: Path
    contract: Contract
    inspection: Inspection
    problems: tuple[Issue, ...]
    notes: tuple[Issue, ...]


@dataclass(frozen=True)
class PreparedRun:
    """A run made ready for conversion.

    Attributes:
        run: The run.
        model: Its Keras model.
        folded: The model to convert: without grey conversion and batch normalisation, channels equalised, perhaps fine-tuned
            since.
        pictures: Calibration faces as they are stored.
        calibration: The same at the model's input size, uint8 array (n, size, size, 3), RGB.
        description: What the calibration set looks like, see describe_calibration.
        held_out: Test faces, uint8 array (m, size, size, 3), RGB.
        before: The Keras model's probabilities of them, float32 array (m, classes).
        crop: How faces are cut for this model; the box transforms are derived from its own calibration faces.
        out: Folder for the files.
    """

    run: Run
    model: "keras.Model"
    folded: "keras.Model"
    pictures: Sequence[Image]
    calibration: npt.NDArray[np.uint8]
    description: dict[str, Any]
    held_out: npt.NDArray[np.uint8]
    before: npt.NDArray[np.float32]
    crop: CropConvention
    out: Path

    @property
    def log(self) -> Path:
        """File that takes what converters print."""
        return self.out / LOG_FILE


def prepare_run(
    run: Run, out: Path | None = None, calibration: Sequence[Image] | None = None, calibrated_from: str = ""
) -> PreparedRun:
    """Load, fold and equalise a run's model and bring its faces to size.

    Args:
        run: The run, from read_run.
        out: Folder for the files, the run folder by default.
        calibration: Faces to calibrate with instead of the run's own training faces.
        calibrated_from: Where these are from.

    Raises:
        ValueError: If the model is damaged or was not trained by fer-edge.
        RuntimeError: If keras does not run on TensorFlow.
    """
    model = load_model(run)
    faces = run.calibration.images if calibration is None else calibration
    targets = run.calibration.targets if calibration is None else None
    source = "the run folder" if calibration is None else calibrated_from
    description = describe_calibration(faces, targets, run.labels, source)
    held_out, pixels = face_batch(run, run.held_out.images), face_batch(run, faces)
    return PreparedRun(
        run=run,
        model=model,
        folded=prepare(run, model),
        pictures=faces,
        calibration=pixels,
        description=description,
        held_out=held_out,
        before=predict(model, held_out),
        crop=crop_convention(run),
        out=out or run.folder,
    )


def convert_run(
    source: PreparedRun,
    recipes: Sequence[QuantizationRecipe],
    bounds: Thresholds | None = None,
    progress: Progress | None = None,
) -> list[ConversionResult]:
    """Convert a run to one .tflite file per recipe.

    Args:
        source: The run, from prepare_run.
        recipes: From find_recipe.
        bounds: What the gate allows, Thresholds() by default.
        progress: Called with (files done, files in all).

    Returns:
        The files made, in order. Each was measured on the run's held-out faces before it got its name; a refused one
        is kept under a name that ends in ``.rejected``.

    Raises:
        ValueError: If the calibration faces will not do, or a file of another run would be overwritten.
        RuntimeError: If a converter fails.
    """
    check_conversion(source, recipes)
    targets = [source.out / file_name(source.run, recipe) for recipe in recipes]
    made = []
    float_model = None
    for done, (recipe, target) in enumerate(zip(recipes, targets, strict=True)):
        if progress:
            progress(done, len(recipes))
        if recipe.quantizer == "ai-edge" and float_model is None:
            float_model = float_flatbuffer(source)
        started = time.perf_counter()
        flatbuffer, details = quantize(source, recipe, float_model)
        details["conversion_s"] = round(time.perf_counter() - started, 2)
        made.append(write_and_check(source, recipe, flatbuffer, details, target, bounds or Thresholds()))
    if progress:
        progress(len(recipes), len(recipes))
    return made


def check_conversion(source: PreparedRun, recipes: Sequence[QuantizationRecipe]) -> None:
    """Refuse at once what conversion would refuse at its end.

    Raises:
        ValueError: If the calibration faces will not do, or a file of another run would be overwritten.
    """
    for recipe in recipes:
        target = source.out / file_name(source.run, recipe)
        _check_same_run(target, source.run)
        _check_same_run(target.with_name(target.name + REJECTED_SUFFIX), source.run)
    if any(recipe.calibrated for recipe in recipes):
        check_calibration(source.description, source.pictures, source.run.held_out.images)


def file_name(run: Run, recipe: QuantizationRecipe) -> str:
    """Return the name of a converted file, ``<network>_<data>_<precision>.tflite``."""
    return f"{run.facts['network']}_{run.facts['data']['name']}_{recipe.precision}.tflite"


def float_flatbuffer(source: PreparedRun) -> bytes:
    """Return the folded model as a float32 flatbuffer with a signature, for ai-edge-quantizer."""
    model = read_flatbuffer(convert_keras(source.folded, RECIPES["float32"], source.calibration[:0], source.log))
    sign(model)
    return write_flatbuffer(model)


def quantize(
    source: PreparedRun, recipe: QuantizationRecipe, float_model: bytes | None, ranges: ai_edge.ActivationRanges | None = None
) -> tuple[bytes, dict[str, Any]]:
    """Quantise a run's model.

    Args:
        source: The run.
        recipe: The recipe.
        float_model: From float_flatbuffer, for recipes that ai-edge-quantizer carries out; made here where it is None.
        ranges: Of its activations on the calibration faces; measured here where they are None and needed.

    Returns:
        The flatbuffer, and what was chosen for it.
    """
    if recipe.quantizer != "ai-edge":
        float_model = None
    elif float_model is None:
        float_model = float_flatbuffer(source)
    if not recipe.calibrated:
        if float_model is not None:
            return ai_edge.quantize_weights(float_model), {}
        return convert_keras(source.folded, recipe, source.calibration[:0], source.log), {}
    if float_model is not None:
        ranges = ranges or ai_edge.calibrate(float_model, source.calibration)
        return _by_ranges(source, recipe, float_model, ranges)
    before = predict(source.folded, source.calibration)
    tried = []
    for flatbuffer, details in _by_share(source, recipe):
        tried.append((measure_candidate(source, recipe, flatbuffer, before), flatbuffer, details))
        if tried[-1][0].agreement >= GOOD_AGREEMENT:
            break  # each further candidate is a conversion of up to a minute
    return _nearest(tried)


@dataclass(frozen=True)
class Distance:
    """How far an int8 candidate is from the float model, on the calibration faces.

    Attributes:
        agreement: Share of the faces with the float model's label, 0..1.
        divergence: Mean Kullback-Leibler divergence, nats.
    """

    agreement: float
    divergence: float


def measure_candidate(
    source: PreparedRun, recipe: QuantizationRecipe, flatbuffer: bytes, before: npt.NDArray[np.float32]
) -> Distance:
    """Measure an int8 candidate on the calibration faces; ``before`` is what the float model says of them."""
    after = run_flatbuffer(source, recipe, flatbuffer, source.calibration)
    agreement = float((before.argmax(axis=1) == after.argmax(axis=1)).mean())
    return Distance(agreement, float(kl_divergence(before, after).mean()))


def _nearest(tried: Sequence[tuple[Distance, bytes, dict[str, Any]]]) -> tuple[bytes, dict[str, Any]]:
    """Return the candidate nearest to the float model: enough equal labels, then the divergence, which says it finer."""
    distance, flatbuffer, details = min(tried, key=lambda tried: (tried[0].agreement < GOOD_AGREEMENT, tried[0].divergence))
    found = {"agreement_on_calibration": distance.agreement, "divergence_on_calibration": round(distance.divergence, 6)}
    return flatbuffer, {**details, **found}


def _by_ranges(
    source: PreparedRun, recipe: QuantizationRecipe, float_model: bytes, ranges: ai_edge.ActivationRanges
) -> tuple[bytes, dict[str, Any]]:
    before = predict(source.folded, source.calibration)
    # After quantisation-aware training the rounded weights are the right ones, and their shift was learned.
    corrected = recipe.fine_tuning is None or recipe.fine_tuning["kind"] != "qat"
    tried = []
    for percent in ai_edge.COVERED_PERCENT:
        flatbuffer = ai_edge.quantize_int8(float_model, ranges, percent, recipe.keep_float, corrected=corrected)
        distance = measure_candidate(source, recipe, flatbuffer, before)
        tried.append((distance, flatbuffer, {"ranges_cover_percent": percent, "biases_corrected": corrected}))
    return _nearest(tried)


def _by_share(source: PreparedRun, recipe: QuantizationRecipe) -> Iterator[tuple[bytes, dict[str, Any]]]:
    order = rank_by_activation_outliers(source.folded, source.calibration)
    for share in SHARES:
        kept = np.sort(order[: round(share * len(order))])
        yield convert_keras(source.folded, recipe, source.calibration[kept], source.log), {"calibration_faces": len(kept)}


def write_and_check(
    source: PreparedRun,
    recipe: QuantizationRecipe,
    flatbuffer: bytes,
    details: dict[str, Any],
    target: Path,
    bounds: Thresholds,
) -> ConversionResult:
    """Attach the contract, measure on the held-out faces, judge, and write the file whole under the name it deserves.

    Beside it lies a sheet of the faces on which the two models disagree, if there are any.
    """
    run = source.run
    contract = _contract(source, recipe, {**details, "calibration": source.description if recipe.calibrated else None})
    with TemporaryDirectory() as folder:
        path = Path(folder) / target.name
        path.write_bytes(attach(flatbuffer, contract))
        after = probabilities(Classifier(path), source.held_out)
        inspection = inspect_model(path)
    contract = replace(contract, metrics=compare(source.before, after, run.held_out.targets, run.labels))
    found = notes(inspection, contract.quantization, outlier_layers(source.folded))
    refusals = check_thresholds(contract.metrics, bounds, contract, run.labels)
    problems = diagnose(refusals, source.before, after, run.labels, found)
    contract.metrics["gate"] = {"bounds": vars(bounds), "problems": [vars(problem) for problem in problems]}
    path = target.with_name(target.name + REJECTED_SUFFIX) if problems else target
    with atomic_path(path) as temporary:
        temporary.write_bytes(attach(flatbuffer, contract))
    if not problems:
        rejected = target.with_name(target.name + REJECTED_SUFFIX)
        rejected.unlink(missing_ok=True)
        disagreement_grid_path(rejected).unlink(missing_ok=True)
    disagreement_grid_path(path).unlink(missing_ok=True)
    write_disagreement_grid(
        disagreement_grid_path(path), run.held_out.images, run.held_out.targets, source.before, after, run.labels
    )
    return ConversionResult(path, contract, inspection, tuple(problems), () if problems else tuple(found))


def _check_same_run(target: Path, run: Run) -> None:
    if not target.is_file():
        return
    try:
        digest = read_contract(target).source_digest
    except ModelError:
        return  # nothing of ours, or damaged: made anew
    if digest != run.facts["model_digest"] and target.parent != run.folder:
        raise ValueError(f"{target} was made from another run of {run.facts['network']}. Choose another folder: --out DIR")


def prepare(run: Run, model: "keras.Model") -> "keras.Model":
    """Return a run's Keras model as it is quantised or fine-tuned: folded, its channels equalised by calibration faces."""
    return equalize(fold_model(model), face_batch(run, run.calibration.images))


def crop_convention(run: Run) -> CropConvention:
    """Return how faces are cut for a run's model; the box transforms are derived from its own calibration faces."""
    return CropConvention(
        training_resolution_px=run.facts["data"]["resolution_px"],
        box_transforms=derive_box_transforms(run.calibration.images),
    )


def load_model(run: Run) -> "keras.Model":
    """Load a run's Keras model.

    Raises:
        ValueError: If it is damaged.
        RuntimeError: If keras does not run on TensorFlow.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(f"conversion needs keras' TensorFlow backend. Received: KERAS_BACKEND={keras.backend.backend()}")
    try:
        return keras.models.load_model(run.model_path, compile=False)
    except (ValueError, OSError, KeyError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{run.model_path} cannot be loaded ({reason}). Train again") from error


def face_batch(run: Run, faces: Sequence[Image]) -> npt.NDArray[np.uint8]:
    """Bring faces to the run's input, uint8 array (n, size, size, 3), RGB."""
    size, resolution = run.facts["image_size"], run.facts["data"]["resolution_px"]
    if not len(faces):
        return np.empty((0, size, size, 3), np.uint8)
    return np.stack(
        [to_rgb(preprocess_face(np.asarray(image).astype(np.uint8, copy=False), size, resolution)) for image in faces]
    )


def predict(model: "keras.Model", faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return a Keras model's probabilities, float32 array (n, classes), of uint8 faces (n, size, size, 3).

    Raises:
        ValueError: If they are not finite: nothing would differ from them.
    """
    found = np.asarray(model.predict(faces.astype(np.float32), batch_size=BATCH, verbose=0), np.float32)
    if not np.isfinite(found).all():
        raise ValueError("the Keras model answers with values that are not finite: its training diverged. Train again")
    return found


def probabilities(classifier: Classifier, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return a .tflite file's probabilities, float32 array (n, classes), of uint8 faces (n, size, size, 3)."""
    return np.stack([classifier.probabilities(face) for face in faces])


def run_flatbuffer(
    source: PreparedRun, recipe: QuantizationRecipe, flatbuffer: bytes, faces: npt.NDArray[np.uint8]
) -> npt.NDArray[np.float32]:
    """Return the probabilities that a flatbuffer without contract gives, float32 array (n, classes)."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "candidate.tflite"
        path.write_bytes(attach(flatbuffer, _contract(source, recipe, {})))
        return probabilities(Classifier(path), faces)


def _quantizer_version(recipe: QuantizationRecipe) -> dict[str, str]:
    return {"quantizer": f"ai-edge-quantizer {version('ai-edge-quantizer')}"} if recipe.quantizer == "ai-edge" else {}


def _contract(source: PreparedRun, recipe: QuantizationRecipe, details: dict[str, Any]) -> Contract:
    import tensorflow as tf

    facts = source.run.facts
    return Contract(
        architecture=facts["network"],
        labels=source.run.labels,
        image_size=facts["image_size"],
        crop=source.crop,
        precision=recipe.precision,
        quantization={**recipe.as_data(), **details},
        parameters=facts["parameters"],
        data=facts["data"]["name"],
        data_fingerprint=facts["data"]["fingerprint"],
        split={key: value for key, value in facts["split"].items() if key != "ids"},
        recipe=facts["recipe"]["name"],
        metrics={},
        versions={**facts["versions"], "converter": f"tensorflow {tf.__version__}", **_quantizer_version(recipe)},
        source_digest=facts["model_digest"],
        temperature=facts.get("temperature"),
    )
