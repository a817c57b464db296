"""A small detector, trained on drawn faces and converted to int8, finds a drawn face. Uses Keras on TensorFlow."""

from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from fer_edge.artifacts.contract import ModelError
from fer_edge.artifacts.detection_scores import Matches
from fer_edge.artifacts.detector_contract import DataSource, DetectionScores, DetectorMetrics, read_detector_file
from fer_edge.artifacts.detector_run import read_detector_run, read_scene_set
from fer_edge.convert.detector import (
    PERCENTILES,
    DetectorThresholds,
    calibrate_score,
    check_detector,
    convert_detector,
    group_sources,
    output_difference,
)
from fer_edge.convert.detector_metadata import attach_detector
from fer_edge.edge_runtime.detectors.decode import decode
from fer_edge.edge_runtime.detectors.detector_network import DetectorNetwork
from fer_edge.edge_runtime.detectors.tiling import iou
from fer_edge.edge_runtime.images import import_cv2, write_image
from fer_edge.edge_runtime.interpreter import make_interpreter
from fer_edge.main import main
from fer_edge.train.detector import fit, network
from fer_edge.train.detector.mine import mine
from fer_edge.train.detector.network import DetectorSize, build_detector, multiply_adds
from fer_edge.train.detector.sources import load_sources
from fer_edge.train.detector.stream import SOURCES_FOLDER, read_hard

pytestmark = pytest.mark.tensorflow
SMALL = DetectorSize(64, 80, (8,), middle=16, deep=24, middle_blocks=1, deep_blocks=1)


def drawn_face(rng, side=48):
    """A light oval with dark eyes and a mouth: the whole image is the box."""
    cv2 = import_cv2()
    image = rng.integers(20, 60, (side, side), dtype=np.uint8)
    middle = side // 2
    cv2.ellipse(image, (middle, middle), (int(side * 0.42), int(side * 0.48)), 0, 0, 360, int(rng.integers(170, 230)), -1)
    for x in (0.32, 0.68):
        cv2.circle(image, (int(side * x), int(side * 0.4)), max(2, side // 11), 25, -1)
    cv2.ellipse(image, (middle, int(side * 0.7)), (side // 6, side // 14), 0, 0, 360, 50, -1)
    return image


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A run of three epochs, resumed once."""
    root = tmp_path_factory.mktemp("detector")
    rng = np.random.default_rng(1)
    for name in ("crops", "walls"):
        (root / name).mkdir()
    for number in range(40):
        write_image(root / "crops" / f"{number}.png", drawn_face(rng))
        cells = rng.integers(0, 256, (6, 8), dtype=np.uint8)
        write_image(root / "walls" / f"{number}.png", np.kron(cells, np.ones((20, 20), np.uint8)))
    out = root / "run"
    arguments = ["train", "detector", "--out", str(out), "--scenes", "1024", "--batch-size", "16"]
    arguments += ["--epochs", "3", "--learning-rate", "0.01"]
    arguments += ["--mix", "close=0.9", "--mix", "photo=0", "--mix", "person=0"]  # one large face, which is learned soonest
    data = ["--data", f"faces={root / 'crops'}", "--data", f"backgrounds={root / 'walls'}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(network.DETECTOR_NETWORKS, "detector_nano", SMALL)
        patch.setattr(fit, "VALIDATION_SCENES", 80)
        patch.setattr(fit, "CALIBRATION_SCENES", 40)
        for more in (data, ["--resume"]):  # the second one restores the checkpoint and finds nothing left to do
            result = CliRunner().invoke(main, [*arguments, *more])
            assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="module")
def converted(run_folder):
    return convert_detector(run_folder, thresholds=DetectorThresholds(found_points=20, false_per_image=0.5, iou=0.2))


def test_a_resumed_run_continues_after_its_last_epoch(run_folder):
    run = read_detector_run(run_folder)
    assert len(run.history) == run.plan.epochs == 3
    assert run.history[-1].loss < run.history[0].loss
    assert [entry.role for entry in run.data] == ["faces", "backgrounds"]


def test_settings_reach_the_plan_and_wrong_ones_are_errors(run_folder):
    plan = read_detector_run(run_folder).plan
    assert (plan.mix.close, plan.mix.photo, plan.mix.hard, plan.learning_rate, plan.batch_size) == (0.9, 0, 0.3, 0.01, 16)
    for wrong, message in (
        (["--resume", "--mix", "night=1"], "--mix takes the kinds close, photo, person, hard. Received: 'night'"),
        (["--resume", "--mix", "close=2"], "the share close of the scenes must be between 0 and 1. Received: 2"),
        (["--resume", "--seed", "5"], "was started with another seed"),
        (["--mine"], "--mine collects the false detections of a trained detector: add --resume"),
        (["--network", "big"], "unknown detector network 'big'"),
        (["--data", "faces"], "--data takes ROLE=PATH"),
    ):
        out = run_folder if "--resume" in wrong else run_folder / "new"
        result = CliRunner().invoke(main, ["train", "detector", "--out", str(out), *wrong])
        assert (result.exit_code, message in result.output.replace("\n", " ")) == (1, True), result.output


def test_the_run_of_a_detector_is_not_that_of_a_classifier(run_folder, tmp_path):
    result = CliRunner().invoke(main, ["convert", str(run_folder)])
    assert "is the run of a face detector. Convert it: fer-edge convert detector" in result.output
    result = CliRunner().invoke(main, ["convert", "detector", str(tmp_path)])
    assert "is not the run folder of a detector: it has no detector.json" in result.output


def test_a_run_is_not_overwritten(run_folder):
    result = CliRunner().invoke(main, ["train", "detector", "--out", str(run_folder), "--data", "faces=x"])
    assert (result.exit_code, "has a run. Continue it with --resume" in result.output) == (1, True)


def test_the_int8_file_finds_a_drawn_face(converted):
    file = read_detector_file(converted.path)
    contract = file.contract
    assert (contract.height, contract.width, contract.strides, contract.precision) == (64, 80, (8,), "int8")
    scene = np.full((64, 80), 40, np.uint8)
    scene[4:60, 12:68] = drawn_face(np.random.default_rng(9), 56)
    interpreter = make_interpreter(model_content=file.flatbuffer)
    (source,) = interpreter.get_input_details()
    assert (source["dtype"], source["quantization"]) == (np.uint8, (1.0, 0))
    interpreter.set_tensor(source["index"], scene[None, ..., None])
    interpreter.invoke()
    maps = sorted(
        (interpreter.get_tensor(one["index"])[0] for one in interpreter.get_output_details()), key=lambda m: m.shape[-1]
    )
    assert [one.dtype for one in maps] == [np.float32] * 2
    found = decode(maps[:1], maps[1:], contract.strides, -2.0)
    assert iou(found.boxes[0].tolist(), (12, 4, 56, 56)) > 0.4


def test_an_integer_only_file_has_int8_outputs_and_finds_the_same_face(converted, run_folder, tmp_path):
    result = convert_detector(run_folder, tmp_path, integer_only=True, thresholds=DetectorThresholds(100, 100, 1))
    assert result.path == tmp_path / "face_detector_nano_integer.tflite"
    assert (result.contract.integer_only, converted.contract.integer_only) == (True, False)
    network = DetectorNetwork(result.path)
    details = make_interpreter(model_content=read_detector_file(result.path).flatbuffer).get_tensor_details()
    assert {detail["dtype"].__name__ for detail in details} <= {"uint8", "int8", "int32"}
    scene = np.full((64, 80), 40, np.uint8)
    scene[4:60, 12:68] = drawn_face(np.random.default_rng(9), 56)
    found = decode(*network.infer(scene), (8,), -2.0)
    assert iou(found.boxes[0].tolist(), (12, 4, 56, 56)) > 0.4


def test_the_outputs_must_be_of_the_kind_in_the_contract(converted, tmp_path):
    file = read_detector_file(converted.path)
    wrong = tmp_path / "wrong.tflite"
    wrong.write_bytes(attach_detector(file.flatbuffer, replace(file.contract, integer_only=True)))
    with pytest.raises(ModelError, match="in and out"):
        read_detector_file(wrong)


def test_the_percentile_with_the_smallest_difference_of_the_outputs_is_chosen(converted):
    heat, geometry = np.full((1, 2, 2, 1), -9.0), np.zeros((1, 2, 2, 7))
    heat[0, 0, 0] = 2
    other = heat.copy()
    assert output_difference([other, geometry], [heat, geometry]) == 0
    other[0, 1, 1] = 1  # a false detection of one of them
    assert output_difference([other, geometry], [heat, geometry]) == pytest.approx(5)
    assert output_difference([heat, geometry + 0.5], [heat, geometry]) == pytest.approx(0.5)
    assert output_difference([heat - 99, geometry], [heat - 99, geometry]) == 0
    assert converted.contract.range_percentile in PERCENTILES


def test_the_gate_measures_both_models(converted, run_folder):
    metrics = converted.contract.metrics
    scenes = read_scene_set(run_folder / "validation.npz")
    assert (metrics.images, metrics.faces) == (80, len(scenes.faces))
    assert metrics.before.found > 0.2
    assert abs(metrics.before.found - metrics.after.found) < 0.2
    assert converted.contract.scenes_seen == 3 * 1024


def test_a_cut_detector_file_is_rejected(converted, tmp_path):
    path = tmp_path / "cut.tflite"
    path.write_bytes(converted.path.read_bytes()[:-200])
    with pytest.raises(ModelError, match="no contract inside"):
        read_detector_file(path)


def test_false_detections_become_backgrounds(run_folder):
    size, cells = (64, 80), (8, 10)

    def always(images):
        heat = np.full((len(images), *cells, 1), -9.0)
        heat[:, 4, 5] = 3.0
        return [heat, np.zeros((len(images), *cells, 7))]  # boxes of 32 pixels

    sources = load_sources(run_folder / SOURCES_FOLDER)
    count = mine(always, sources, run_folder, size, (8,))
    hard = read_hard(run_folder)
    assert count == len(hard) == 3 * len(sources.indices("backgrounds", False))
    assert min(min(image.shape) for image in hard) >= 16
    (run_folder / "hard.npz").unlink()


def test_the_networks_of_the_table_have_the_size_that_the_docs_state():
    model = build_detector(network.find_network("detector_nano"))
    assert model.output_shape == [(None, 16, 20, 1), (None, 16, 20, 7)]
    assert round(multiply_adds(model) / 1e6, 1) == 7.6


def test_an_unknown_network_is_an_error():
    with pytest.raises(ValueError, match="unknown detector network 'big'; choose one of: detector_nano, detector_small"):
        network.find_network("big")


def test_sources_with_the_same_license_are_one_entry_of_the_contract():
    sources = [
        DataSource(name, "photos", 2, license_text, ("yunet",))
        for name, license_text in zip("abc", ("MIT", "CC0", "MIT"), strict=True)
    ]
    assert group_sources([*sources, DataSource("d", "backgrounds", 1, "MIT")]) == (
        DataSource("a, c", "photos", 4, "MIT", ("yunet",)),
        DataSource("b", "photos", 2, "CC0", ("yunet",)),
        DataSource("d", "backgrounds", 1, "MIT"),
    )


BEFORE = DetectionScores(found=0.9, false_per_image=0.1, iou=0.8)


@pytest.mark.parametrize(
    ("change", "causes"),
    [
        ({}, []),
        ({"found": 0.85}, ["faces found drop from 90.0 to 85.0 % of 40 (allowed: 4 points)"]),
        ({"false_per_image": 0.2}, ["false detections rise from 0.100 to 0.200 per scene on 20 scenes (allowed: 0.05 more)"]),
        ({"iou": 0.7}, ["the median IoU drops from 0.800 to 0.700 (allowed: 0.05)"]),
    ],
)
def test_the_gate_states_what_a_conversion_lost(change, causes):
    issues = check_detector(DetectorMetrics(20, 40, BEFORE, replace(BEFORE, **change)), DetectorThresholds())
    assert [issue.cause for issue in issues] == causes


def test_a_calibrated_score_is_the_fraction_of_true_faces():
    rng = np.random.default_rng(0)
    logits = rng.uniform(-4, 4, 4000)
    true = rng.random(4000) < 1 / (1 + np.exp(-(0.5 * logits - 1)))
    slope, shift, problem = calibrate_score([Matches(logits, true, np.ones(4000, bool), logits, logits)])
    assert problem is None
    assert (slope, shift) == (pytest.approx(0.5, abs=0.08), pytest.approx(-1, abs=0.15))


def test_a_score_without_false_candidates_is_not_calibrated():
    everything = np.ones(50, bool)
    slope, shift, problem = calibrate_score([Matches(np.ones(50), everything, everything, np.ones(50), np.ones(50))])
    assert (slope, shift) == (1.0, 0.0)
    assert "have 50 true and 0 false candidates, and it needs 20 each" in problem
