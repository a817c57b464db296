"""Convert the run of a face detector to a .tflite file that contains its contract and passed the gate."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.atomic_write import atomic_path, check_writable
from fer_edge.artifacts.conversion import QuantizationRecipe
from fer_edge.artifacts.detection_scores import MIN_COUNTED_SIDE_PX, Matches, match, scores
from fer_edge.artifacts.detector_contract import (
    DETECTOR_KIND,
    DataSource,
    DetectionScores,
    DetectorContract,
    DetectorMetrics,
    read_detector_file,
)
from fer_edge.artifacts.detector_run import (
    DETECTOR_CALIBRATION_FILE,
    DETECTOR_MODEL_FILE,
    VALIDATION_FILE,
    DetectorRun,
    SceneSet,
    read_detector_run,
    read_scene_set,
)
from fer_edge.artifacts.gate import Issue
from fer_edge.artifacts.keras_model import load_keras_model
from fer_edge.artifacts.reporter import SILENT, Reporter
from fer_edge.convert.ai_edge import ActivationRanges, calibrate, quantize_static, quantizer_package
from fer_edge.convert.detector_metadata import attach_detector, output_names
from fer_edge.convert.flatbuffer import add_signature, make_uint8_input, read_flatbuffer, write_flatbuffer
from fer_edge.convert.tf_converter import convert_keras
from fer_edge.edge_runtime.detectors.decode import decode
from fer_edge.edge_runtime.detectors.own import OwnDetector
from fer_edge.edge_runtime.interpreter import make_interpreter

if TYPE_CHECKING:
    import keras

LOG_FILE = "convert.log"
REJECTED_SUFFIX = ".rejected"
PERCENTILES = (99.5, 95.0, 90.0, 80.0, 70.0, 60.0, 50.0)  # of the extremes per scene; the best one is chosen
MIN_COMPARED_LOGIT = -2.0  # of the cells whose outputs choose the percentile: those that Keras or int8 sees as a possible face
FLOAT32 = QuantizationRecipe("float32", "float32", "float32", "float32", calibrated=False)
MIN_CANDIDATE_LOGIT = 0.0  # of the candidates that the gate compares
MIN_CANDIDATE_SCORE = 0.03  # of the candidates that calibrate the score
MIN_CALIBRATION_CANDIDATES = 20  # true and false ones each
SLOPES = (0.05, 20.0)

Maps = list[npt.NDArray[np.float32]]


@dataclass(frozen=True)
class DetectorThresholds:
    """How much a conversion may cost on the validation scenes, with one look and logits from 0.

    Attributes:
        found_points: Largest drop of the faces found, percentage points.
        false_per_image: Largest rise of the false detections per scene.
        iou: Largest drop of the median IoU.

    Raises:
        ValueError: If a number is negative.
    """

    found_points: float = 4.0
    false_per_image: float = 0.05
    iou: float = 0.05

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value >= 0:
                raise ValueError(f"the threshold {name} must not be negative. Received: {value}")


@dataclass(frozen=True)
class DetectorConversion:
    """A converted detector.

    Attributes:
        path: The file. The name of a rejected file ends in ``.rejected``.
        contract: The contract inside.
        file_bytes: Its size.
        issues: Why the gate rejects it; empty if it is accepted.
    """

    path: Path
    contract: DetectorContract
    file_bytes: int
    issues: tuple[Issue, ...]


def convert_detector(
    folder: Path,
    out: Path | None = None,
    *,
    thresholds: DetectorThresholds | None = None,
    score_threshold: float = 0.5,
    second_look_threshold: float = 0.03,
    integer_only: bool = False,
    reporter: Reporter = SILENT,
) -> DetectorConversion:
    """Convert a detector to int8.

    Weights are quantized per channel. Unless ``integer_only``, the last 1x1 layers stay in float: their outputs need no scale.

    Args:
        folder: The run folder.
        out: Folder for the file; None for the run folder.
        thresholds: Thresholds of the gate.
        score_threshold: Score from which a candidate is a face, 0..1.
        second_look_threshold: Score from which a candidate is worth a second look, 0..1.
        integer_only: Quantize the last layers too, for NPUs without float operators. The name of the file ends in _integer.
        reporter: Receives notes.

    Raises:
        FileNotFoundError: If the folder is not a detector's run, or lacks its scenes.
        ValueError: If the run is damaged.
        ImportError: If ai-edge-quantizer is not installed.
        RuntimeError: If the converter or the quantizer fails.
    """
    run = read_detector_run(folder)
    target = (out or folder) / f"face_{run.plan.network}{'_integer' if integer_only else ''}.tflite"
    check_writable(target)
    validation, calibration = read_scene_set(folder / VALIDATION_FILE), read_scene_set(folder / DETECTOR_CALIBRATION_FILE)
    model = _load(folder)
    flatbuffer, percentile = quantize_detector(model, calibration.images, folder / LOG_FILE, integer_only)
    reporter.note(f"quantized with {len(calibration.images)} training scenes; ranges of percentile {percentile:g}")
    before = match_scenes(_keras_maps(model, validation.images), validation, run.plan.strides)
    after = match_scenes(_tflite_maps(flatbuffer, validation.images), validation, run.plan.strides)
    metrics = DetectorMetrics(len(validation.images), len(validation.faces), scores(before), scores(after))
    issues = check_detector(metrics, thresholds or DetectorThresholds())
    contract = _contract(run, score_threshold, second_look_threshold)
    contract = replace(contract, metrics=metrics, integer_only=integer_only, range_percentile=percentile)
    slope, shift, problem = calibrate_score(runtime_matches(attach_detector(flatbuffer, contract), validation))
    if problem:
        reporter.warn(problem)
    contract = replace(contract, score_calibration=(slope, shift))
    content = attach_detector(flatbuffer, contract)
    path = target.with_name(target.name + REJECTED_SUFFIX) if issues else target
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return DetectorConversion(path, read_detector_file(path).contract, len(content), tuple(issues))


def _contract(run: DetectorRun, score_threshold: float, second_look_threshold: float) -> DetectorContract:
    """Return the contract of a converted detector, without the measurements."""
    return DetectorContract(
        kind=DETECTOR_KIND,  # type: ignore[arg-type]
        name=run.plan.network,
        height=run.plan.height,
        width=run.plan.width,
        strides=run.plan.strides,
        score_threshold=score_threshold,
        second_look_threshold=second_look_threshold,
        score_calibration=(1.0, 0.0),
        precision="int8",
        parameters=run.parameters,
        multiply_adds=run.multiply_adds,
        data=group_sources(run.data),
        scenes_seen=len(run.history) * run.plan.scenes_per_epoch,
        metrics=None,
        versions={**run.versions, "quantizer": f"ai-edge-quantizer {version('ai-edge-quantizer')}"},
        source_digest=run.model_digest,
    )


def group_sources(sources: Sequence[DataSource]) -> tuple[DataSource, ...]:
    """Return sources with one entry per role, license and teachers: 50 folders of photos take 5 KB less in the file."""
    groups: dict[tuple[str, str, tuple[str, ...]], list[DataSource]] = {}
    for source in sources:
        groups.setdefault((source.role, source.license, source.teachers), []).append(source)
    return tuple(
        replace(group[0], name=", ".join(source.name for source in group), images=sum(source.images for source in group))
        for group in groups.values()
    )


def quantize_detector(
    model: "keras.Model", scenes: npt.NDArray[np.uint8], log: Path, integer_only: bool = False
) -> tuple[bytes, float]:
    """Return a detector as an int8 flatbuffer with a uint8 input, and the percentile of its ranges.

    The ranges of the activations cover a percentile of their extremes per scene: the one with the smallest difference of the
    outputs on the calibration scenes, see output_difference.

    Args:
        model: The Keras model.
        scenes: Calibration scenes, uint8 array (n, height, width).
        log: File for what the converter prints.
        integer_only: Whether the outputs are int8; otherwise the last 1x1 layers compute in float.

    Raises:
        ImportError: If ai-edge-quantizer is not installed.
        RuntimeError: If the converter or the quantizer fails.
    """
    float_model = convert_keras(model, FLOAT32, scenes[..., None], log)
    ranges, maps = calibrate(float_model, scenes[..., None]), _keras_maps(model, scenes)
    candidates = [(_quantized(float_model, ranges, percentile, integer_only), percentile) for percentile in PERCENTILES]
    return min(candidates, key=lambda candidate: output_difference(_tflite_maps(candidate[0], scenes), maps))


def _quantized(float_model: bytes, ranges: ActivationRanges, percentile: float, integer_only: bool) -> bytes:
    graph = read_flatbuffer(float_model).subgraphs[0]
    supported = quantizer_package().qtyping.TFLOperationName.ALL_SUPPORTED
    outputs = [graph.tensors[int(index)].name.decode() for index in graph.outputs]
    kept = [] if integer_only else [(re.escape(name), supported) for name in outputs]
    quantized = quantize_static(float_model, ranges, percentile, kept)
    make_uint8_input(quantized)
    add_signature(quantized, "image", output_names(len(outputs)))
    return write_flatbuffer(quantized)


def output_difference(maps: Maps, expected: Maps) -> float:
    """Return the mean absolute difference of logits, plus that of the geometry, in cells that one of two models sees as a face.

    Args:
        maps: Heat maps, then geometry maps, each (images, rows, columns, channels).
        expected: The same of the other model.
    """
    half = len(maps) // 2
    logits, geometry = [np.empty(0)], [np.empty(0)]
    for index in range(half):
        seen = (np.maximum(maps[index], expected[index]) > MIN_COMPARED_LOGIT)[..., 0]
        logits.append(np.abs(maps[index] - expected[index])[seen].ravel())
        geometry.append(np.abs(maps[half + index] - expected[half + index])[seen].ravel())
    differences = [np.concatenate(parts) for parts in (logits, geometry)]
    return float(sum(part.mean() for part in differences if len(part)))


def _load(folder: Path) -> "keras.Model":
    import keras

    return load_keras_model(keras, folder / DETECTOR_MODEL_FILE)


def _keras_maps(model: "keras.Model", images: npt.NDArray[np.uint8]) -> Maps:
    return [np.asarray(maps) for maps in model.predict(images[..., None], batch_size=64, verbose=0)]


def _tflite_maps(flatbuffer: bytes, images: npt.NDArray[np.uint8]) -> Maps:
    """Return the maps of a flatbuffer for each image."""
    interpreter = make_interpreter(model_content=flatbuffer, num_threads=1)
    source, outputs = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()
    maps: list[list[Any]] = [[] for _ in outputs]
    for image in images:
        interpreter.set_tensor(source, image[None, ..., None])
        interpreter.invoke()
        for rows, detail in zip(maps, outputs, strict=True):
            scale, zero_point = detail["quantization"]
            values = interpreter.get_tensor(detail["index"])[0]
            rows.append(scale * (values.astype(np.float32) - zero_point) if scale else values)
    return [np.stack(rows) for rows in maps]


def match_scenes(maps: Maps, scenes: SceneSet, strides: Sequence[int]) -> list[Matches]:
    """Compare the candidates of one look at each scene with its faces.

    Args:
        maps: Heat maps, then geometry maps, arrays (n, rows, columns, channels).
        scenes: The n scenes.
        strides: Pixels of the input per cell, one per heat map.
    """
    heat, geometry = maps[: len(strides)], maps[len(strides) :]
    matches = []
    for index, (faces, ignored) in enumerate(zip(scenes.faces_of(), scenes.ignored_of(), strict=True)):
        parts = [one[index] for one in heat], [one[index] for one in geometry]
        found = decode(*parts, strides, MIN_CANDIDATE_LOGIT)
        matches.append(match(found.boxes, found.logits, faces, ignored))
    return matches


def runtime_matches(content: bytes, scenes: SceneSet) -> list[Matches]:
    """Compare what the runtime finds in each scene, with its second looks, with the faces of the scene.

    Args:
        content: A detector file whose score is the sigmoid of the logit.
        scenes: The scenes.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "candidate.tflite"
        path.write_bytes(content)
        detector = OwnDetector(path, min_score=MIN_CANDIDATE_SCORE)
    matches = []
    for image, faces, ignored in zip(scenes.images, scenes.faces_of(), scenes.ignored_of(), strict=True):
        found = sorted(detector.detect(image, round(MIN_COUNTED_SIDE_PX)), key=lambda detection: -detection.score)
        boxes = np.array([detection.box_px for detection in found], np.float64).reshape(-1, 4)
        scored = np.clip([detection.score for detection in found], 1e-6, 1 - 1e-6)
        matches.append(match(boxes, np.log(scored / (1 - scored)), faces, ignored))
    return matches


def calibrate_score(matches: Sequence[Matches]) -> tuple[float, float, str | None]:
    """Fit the score: the fraction of true faces among candidates of a logit (logistic regression, Platt 1999).

    Args:
        matches: From runtime_matches.

    Returns:
        Slope and shift of the logit, and why they are 1 and 0 if they cannot be fitted.
    """
    from scipy.optimize import minimize

    logits = np.concatenate([one.logits[one.counted] for one in matches])
    true = np.concatenate([one.true[one.counted] for one in matches]).astype(np.float64)
    positives, negatives = int(true.sum()), int((1 - true).sum())
    if min(positives, negatives) < MIN_CALIBRATION_CANDIDATES:
        return (
            1.0,
            0.0,
            (
                f"the score is not calibrated: the validation scenes have {positives} true and {negatives} false candidates, "
                f"and it needs {MIN_CALIBRATION_CANDIDATES} each. Train with more images"
            ),
        )

    def loss(parameters: npt.NDArray[np.float64]) -> float:
        z = parameters[0] * logits + parameters[1]
        return float(np.mean(np.logaddexp(0, z) - true * z))

    slope, shift = minimize(loss, np.array([1.0, 0.0]), bounds=[SLOPES, (-50, 50)]).x
    return round(float(slope), 4), round(float(shift), 4), None


def check_detector(metrics: DetectorMetrics, thresholds: DetectorThresholds) -> list[Issue]:
    """Return the reasons to reject a converted detector.

    Args:
        metrics: Its results before and after conversion.
        thresholds: How much the conversion may cost.
    """
    before, after = metrics.before, metrics.after
    remedy = "calibrate with more scenes, or train longer: a larger margin between faces and background survives int8"
    issues = []
    if round(100 * (before.found - after.found), 6) > thresholds.found_points:
        issues.append(
            f"faces found drop from {100 * before.found:.1f} to {100 * after.found:.1f} % of {metrics.faces} "
            f"(allowed: {thresholds.found_points:g} points)"
        )
    if round(after.false_per_image - before.false_per_image, 6) > thresholds.false_per_image:
        issues.append(
            f"false detections rise from {before.false_per_image:.3f} to {after.false_per_image:.3f} per scene on "
            f"{metrics.images} scenes (allowed: {thresholds.false_per_image:g} more)"
        )
    if round(before.iou - after.iou, 6) > thresholds.iou:
        issues.append(f"the median IoU drops from {before.iou:.3f} to {after.iou:.3f} (allowed: {thresholds.iou:g})")
    if not after.found:
        issues.append("the file finds no face")
    return [Issue(cause, remedy) for cause in issues]


def summary_line(result: DetectionScores) -> str:
    """Return results as one line for people."""
    return f"found {100 * result.found:.1f} %, {result.false_per_image:.3f} false per scene, IoU {result.iou:.3f}"
