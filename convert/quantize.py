"""Quantize a prepared run by a recipe. int8 tries several candidates and keeps the one closest to the float model."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.contract import Contract
from fer_edge.artifacts.conversion import QuantizationRecipe, QuantizationSummary
from fer_edge.artifacts.path_names import command_without_folders
from fer_edge.convert import ai_edge
from fer_edge.convert.calibrate import FRACTIONS, GOOD_AGREEMENT, rank_by_activation_outliers
from fer_edge.convert.compare import kl_divergence
from fer_edge.convert.flatbuffer import add_signature, read_flatbuffer, write_flatbuffer
from fer_edge.convert.metadata import attach
from fer_edge.convert.prepare_run import PreparedRun, predict
from fer_edge.convert.quantization_recipes import RECIPES
from fer_edge.convert.tf_converter import convert_keras
from fer_edge.edge_runtime.batch_predict import classify_faces
from fer_edge.edge_runtime.classify import Classifier


@dataclass(frozen=True)
class Distance:
    """How far a converted model is from the float model, on the calibration faces.

    Attributes:
        agreement: Fraction of the faces with the label of the float model, 0..1.
        divergence: Mean Kullback-Leibler divergence, nats.
    """

    agreement: float
    divergence: float


@dataclass(frozen=True)
class _Candidate:
    flatbuffer: bytes
    summary: QuantizationSummary
    distance: Distance


def float_flatbuffer(prepared: PreparedRun) -> bytes:
    """Return the folded model as a float32 flatbuffer with a signature, for ai-edge-quantizer."""
    model = read_flatbuffer(convert_keras(prepared.folded, RECIPES["float32"], prepared.calibration[:0], prepared.log))
    add_signature(model)
    return write_flatbuffer(model)


def quantize(
    prepared: PreparedRun,
    recipe: QuantizationRecipe,
    float_model: bytes | None = None,
    ranges: ai_edge.ActivationRanges | None = None,
) -> tuple[bytes, QuantizationSummary]:
    """Quantize the model of a run.

    Args:
        prepared: The run.
        recipe: The recipe.
        float_model: From float_flatbuffer, for recipes of ai-edge-quantizer; computed if it is None and needed.
        ranges: Activation ranges of ``float_model`` on the calibration faces; computed if they are None and needed.

    Returns:
        The flatbuffer, and how it was quantized.
    """
    if recipe.quantizer == "ai-edge":
        float_model = float_model or float_flatbuffer(prepared)
        if not recipe.calibrated:
            return ai_edge.quantize_weights(float_model), QuantizationSummary(recipe)
        ranges = ranges or ai_edge.calibrate(float_model, prepared.calibration)
        candidates = _search_percentiles(prepared, recipe, float_model, ranges)
    elif not recipe.calibrated:
        return convert_keras(prepared.folded, recipe, prepared.calibration[:0], prepared.log), QuantizationSummary(recipe)
    else:
        candidates = _search_calibration_subsets(prepared, recipe)
    # First enough equal labels, then the divergence, which has the finer resolution.
    best = min(candidates, key=lambda found: (found.distance.agreement < GOOD_AGREEMENT, found.distance.divergence))
    return best.flatbuffer, replace(
        best.summary,
        calibration=prepared.calibration_summary,
        agreement_on_calibration=best.distance.agreement,
        divergence_on_calibration=round(best.distance.divergence, 6),
    )


def _search_percentiles(
    prepared: PreparedRun, recipe: QuantizationRecipe, float_model: bytes, ranges: ai_edge.ActivationRanges
) -> Iterator[_Candidate]:
    keras_probs = predict(prepared.folded, prepared.calibration)
    # Quantization-aware training learned the rounded weights and their shift: there is nothing to correct.
    correct = recipe.fine_tuning is None or recipe.fine_tuning.kind != "qat"
    for percentile in ai_edge.PERCENTILES:
        flatbuffer = ai_edge.quantize_int8(float_model, ranges, percentile, recipe.keep_float, correct=correct)
        summary = QuantizationSummary(recipe, percentile=percentile, biases_corrected=correct)
        yield _Candidate(flatbuffer, summary, measure_candidate(prepared, recipe, flatbuffer, keras_probs))


def _search_calibration_subsets(prepared: PreparedRun, recipe: QuantizationRecipe) -> Iterator[_Candidate]:
    keras_probs = predict(prepared.folded, prepared.calibration)
    order = rank_by_activation_outliers(prepared.folded, prepared.calibration)
    for fraction in FRACTIONS:
        subset = np.sort(order[: round(fraction * len(order))])
        flatbuffer = convert_keras(prepared.folded, recipe, prepared.calibration[subset], prepared.log)
        distance = measure_candidate(prepared, recipe, flatbuffer, keras_probs)
        yield _Candidate(flatbuffer, QuantizationSummary(recipe, calibration_faces=len(subset)), distance)
        if distance.agreement >= GOOD_AGREEMENT:
            return  # each candidate is a conversion of up to a minute


def measure_candidate(
    prepared: PreparedRun, recipe: QuantizationRecipe, flatbuffer: bytes, keras_probs: npt.NDArray[np.float32]
) -> Distance:
    """Measure how far a flatbuffer is from the float model on the calibration faces.

    Args:
        prepared: The run.
        recipe: The recipe that made the flatbuffer.
        flatbuffer: The flatbuffer, without contract.
        keras_probs: Probabilities of the float model, float32 array (n, classes), 0..1.
    """
    tflite_probs = run_flatbuffer(prepared, recipe, flatbuffer, prepared.calibration)
    agreement = float((keras_probs.argmax(axis=1) == tflite_probs.argmax(axis=1)).mean())
    return Distance(agreement, float(kl_divergence(keras_probs, tflite_probs).mean()))


def run_flatbuffer(
    prepared: PreparedRun, recipe: QuantizationRecipe, flatbuffer: bytes, faces: npt.NDArray[np.uint8]
) -> npt.NDArray[np.float32]:
    """Classify faces with a flatbuffer that has no contract yet.

    Args:
        prepared: The run.
        recipe: The recipe that made the flatbuffer.
        flatbuffer: The flatbuffer.
        faces: uint8 array (n, size, size, 3), RGB.

    Returns:
        Probabilities, float32 array (n, classes), 0..1.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "candidate.tflite"
        path.write_bytes(attach(flatbuffer, make_contract(prepared, QuantizationSummary(recipe))))
        return classify_faces(Classifier(path), list(faces))


def make_contract(prepared: PreparedRun, summary: QuantizationSummary) -> Contract:
    """Return the contract of a converted file, without metrics.

    Args:
        prepared: The run.
        summary: How the file was quantized.
    """
    import tensorflow as tf

    record, results = prepared.run.record, prepared.run.results
    versions = {**record.versions, "converter": f"tensorflow {tf.__version__}"}
    if summary.recipe.quantizer == "ai-edge":
        versions["quantizer"] = f"ai-edge-quantizer {version('ai-edge-quantizer')}"
    return Contract(
        architecture=record.plan.network,
        labels=record.labels,
        image_size=record.plan.image_size,
        crop=prepared.crop,
        precision=summary.recipe.precision,
        quantization=summary,
        parameters=results.parameters,
        data=record.data.name,
        data_fingerprint=record.data.fingerprint,
        split=record.split,
        recipe=record.plan.recipe.name,
        metrics=None,
        versions=versions,
        source_digest=results.model_digest,
        temperature=results.temperature,
        command=command_without_folders(prepared.command),
        label_map=record.data.label_map,
        unsure_threshold=results.unsure_threshold,
    )
