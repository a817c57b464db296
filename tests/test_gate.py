"""Planted faults: each is caught, and the message names its cause."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import write_class_folders

from fer_edge.artifacts.contract import read_contract
from fer_edge.convert.calibrate import check_calibration, describe_calibration
from fer_edge.convert.compare import compare, interval, kl_divergence
from fer_edge.convert.convert_run import REJECTED_SUFFIX, convert_run, finish, float_flatbuffer, predict, quantize
from fer_edge.convert.disagreement_grid import disagreement_grid_path, disagreements, write_disagreement_grid
from fer_edge.convert.gate import Thresholds, check_thresholds, notes, permutation
from fer_edge.convert.inspect_model import inspect_model, outlier_layers
from fer_edge.convert.quantization_recipes import RECIPES, find_recipe
from fer_edge.convert.tf_converter import convert_keras
from fer_edge.convert.verify import verify
from fer_edge.edge_runtime.images import read_image, write_image
from fer_edge.train.synthetic import synthetic_faces

ANY_BOUNDS = ("--max-accuracy-drop", 100, "--max-recall-drop", 100, "--min-agreement", 0)
LABELS = ("happy", "sad", "fear")
CONTRACT = SimpleNamespace(labels=LABELS, quantization=RECIPES["int8"].as_data())


def answers(*classes):
    """Return probabilities that are sure of the given classes."""
    return np.eye(3, dtype=np.float32)[list(classes)] * 0.9 + np.float32(0.1 / 3)


def many(count=100):
    return np.arange(count) % 3


def causes(before, after, targets, bounds=None):
    problems = check_thresholds(compare(before, after, targets, LABELS), bounds or Thresholds(), CONTRACT, LABELS)
    return [problem.cause for problem in problems]


def test_a_model_that_answers_alike_passes():
    assert causes(answers(*many()), answers(*many()), many()) == []


def test_a_fall_of_accuracy_agreement_and_recall_is_refused_with_both_numbers():
    after = many().copy()
    after[np.flatnonzero(after == 0)[:10]] = 1
    found = causes(answers(*many()), answers(*after), many())
    assert found[0] == "accuracy falls by 10.00 points, 1.0000 to 0.9000 on 100 faces (bound 1)"
    assert found[1] == "only 90.0 % of 100 faces keep the Keras model's label (bound 97 %)"
    assert found[2].startswith("recall of happy falls by 29.4 points, 1.000 to 0.706 on 34 faces")
    assert len(found) == 3
    assert causes(answers(*many()), answers(*after), many(), Thresholds(11, 30, 89)) == []


def test_one_face_is_never_a_reason():
    after = many(20).copy()
    after[0] = 1
    assert causes(answers(*many(20)), answers(*after), many(20)) == []
    after[3] = 1
    assert len(causes(answers(*many(20)), answers(*after), many(20))) == 3


def test_a_collapse_onto_one_class_is_named():
    found = causes(answers(*many()), answers(*np.zeros(100, int)), many())
    assert any("collapse onto few classes: 100 % happy" in cause for cause in found)


def test_permuted_outputs_are_named():
    problem = permutation(answers(*many()), answers(*(many() + 1) % 3), LABELS)
    assert problem is not None
    assert "another order than the labels: happy as sad, sad as fear, fear as happy" in problem.cause
    assert permutation(answers(*many()), answers(*many()), LABELS) is None
    assert permutation(answers(*many()), answers(*np.zeros(100, int)), LABELS) is None


def test_permuted_labels_inside_the_file_are_named():
    same = compare(answers(*many()), answers(*many()), many(), LABELS)
    (problem,) = check_thresholds(same, Thresholds(), SimpleNamespace(labels=("sad", "happy", "fear")), LABELS)
    assert problem.cause.startswith("the labels inside the file are permuted or others: sad, happy, fear")


@pytest.mark.parametrize("value", [-1, 101, float("nan")])
def test_a_bound_that_is_no_percentage_is_refused(value):
    with pytest.raises(ValueError, match="must be a number between 0 and 100"):
        Thresholds(recall_points=value)


def test_intervals_and_divergence_have_the_known_values():
    assert interval(8, 10) == pytest.approx([0.4902, 0.9433], abs=1e-4)
    half, sure = np.array([[0.5, 0.5]], np.float32), np.array([[0.75, 0.25]], np.float32)
    assert kl_divergence(half, half)[0] == 0
    assert kl_divergence(half, sure)[0] == pytest.approx(0.5 * np.log(0.5 / 0.75) + 0.5 * np.log(0.5 / 0.25))


def faces_of(count, top=255):
    rng = np.random.default_rng(0)
    return [rng.integers(0, top + 1, (8, 8)).astype(np.uint8) for _ in range(count)]


def refused(faces, targets=None, test_faces=()):
    targets = many(len(faces)) if targets is None else targets
    with pytest.raises(ValueError, match=r"\w") as error:
        check_calibration(describe_calibration(faces, targets, LABELS, "a folder"), faces, test_faces)
    return str(error.value)


def test_one_face_repeated_as_calibration_set_is_refused():
    assert "holds 1 (199 of its 200 repeat another)" in refused(faces_of(1) * 200)


def test_calibration_faces_in_0_to_1_are_refused():
    assert "scaled to 0..1: the model takes bytes 0..255" in refused(faces_of(200, top=1))
    assert "must be bytes 0..255 (uint8). Received: float32" in refused([face / np.float32(255) for face in faces_of(200)])


def test_a_class_missing_from_calibration_is_named():
    assert "no calibration face of class fear" in refused(faces_of(200), np.arange(200) % 2)


def test_test_faces_in_the_calibration_set_are_refused():
    faces = faces_of(200)
    assert "2 of the calibration faces of a folder are test faces" in refused(faces, test_faces=faces[:2])


def test_a_good_calibration_set_is_described():
    faces = faces_of(150)
    description = describe_calibration(faces, many(150), LABELS, "a folder")
    check_calibration(description, faces, faces_of(151)[150:])
    assert (description["faces"], description["distinct"]) == (150, 150)
    assert description["per_class"] == {"happy": 50, "sad": 50, "fear": 50}
    assert (description["darkest"], description["brightest"]) == (0, 255)
    assert description["median_brightness"] == pytest.approx(127.5, abs=5)


def scaled(source, layer, factor):
    """Return the source with one layer's weights scaled, as a slip of the hand in between would."""
    import keras

    folded = keras.models.clone_model(source.folded)
    folded.set_weights(source.folded.get_weights())
    kernel, *bias = folded.get_layer(layer).get_weights()
    folded.get_layer(layer).set_weights([kernel * factor, *bias])
    return replace(source, folded=folded)


def test_a_layer_whose_weights_were_scaled_by_1000_is_named(source):
    broken = scaled(source, "block2_conv_a", 1000)
    assert list(outlier_layers(broken.folded)) == ["block2_conv_a"]
    assert outlier_layers(source.folded) == {}
    recipe = find_recipe("int8")
    flatbuffer, details = quantize(broken, recipe, float_flatbuffer(broken))
    target = source.out / "broken_int8.tflite"
    made = finish(broken, recipe, flatbuffer, details, target, Thresholds())
    assert made.path.name == "broken_int8.tflite" + REJECTED_SUFFIX
    assert not target.exists()
    assert any("larger than the median layer's: 'block2_conv_a' " in problem.cause for problem in made.problems)
    assert made.contract.metrics["gate"]["problems"]


def test_layers_that_stand_out_are_one_note_and_what_has_a_scale_per_weight_does_not_stand_out(source, models):
    import keras

    four = {"a": 400.0, "b": 900.0, "c": 500.0, "d": 301.0}
    (found,) = notes(inspect_model(models["int8"]), find_recipe("int8").as_data(), four)
    assert found.cause.endswith("'b' 900 times, 'c' 500 times, 'a' 400 times and 1 more")
    assert found.remedy == "train again with weight decay, or --keep-float b --keep-float c --keep-float a"
    face = keras.Input((8, 8, 3))
    scaled_up = keras.layers.DepthwiseConv2D(1, depthwise_initializer=keras.initializers.Constant(1e6), name="scale")
    wide = keras.layers.DepthwiseConv2D(3, depthwise_initializer=keras.initializers.Constant(1e6), name="wide")
    x = keras.layers.Conv2D(4, 3)(wide(scaled_up(keras.layers.Conv2D(4, 1)(face))))
    answer = keras.layers.Dense(3)(keras.layers.Flatten()(keras.layers.Conv2D(4, 1)(x)))
    assert list(outlier_layers(keras.Model(face, answer))) == ["wide"]


def test_densenet_without_its_recipe_is_named(source, tmp_path):
    import keras

    face = keras.Input((16, 16, 3))
    features = keras.layers.Conv2D(4, 3, padding="same")(face)
    for _ in range(9):
        grown = keras.layers.ReLU()(keras.layers.BatchNormalization(beta_initializer="ones")(features))
        features = keras.layers.Concatenate()([features, keras.layers.Conv2D(2, 3, padding="same")(grown)])
    answer = keras.layers.Dense(3, activation="softmax")(keras.layers.GlobalAveragePooling2D()(features))
    path = tmp_path / "unfolded.tflite"
    path.write_bytes(
        convert_keras(keras.Model(face, answer), RECIPES["float32"], np.empty((0, 16, 16, 3), np.uint8), tmp_path / "log")
    )
    (found,) = notes(inspect_model(path), RECIPES["float32"].as_data(), outstanding={})
    assert "batch normalisation before a convolution stays behind as 9 MUL and 9 ADD" in found.cause


def test_verify_finds_a_good_file_right_and_another_run_s_labels_wrong(models, source):
    held_out = source.run.held_out
    found = verify(models["float32"], source.run, held_out.images, held_out.targets, Thresholds())
    assert found.problems == ()
    assert found.metrics["agreement"] == 1.0
    assert found.inspection.custom_operators == {}
    facts = {**source.run.facts, "labels": list(reversed(source.run.labels))}
    turned = verify(models["float32"], replace(source.run, facts=facts), held_out.images, held_out.targets, Thresholds())
    assert "permuted" in turned.problems[0].cause


def test_both_quantisers_in_one_call_make_files_of_their_own(source):
    recipes = [find_recipe("weight_only"), find_recipe("int8"), find_recipe("int8", "tflite")]
    weights, ours, theirs = convert_run(source, recipes, Thresholds(100, 100, 0))
    assert [file.path.name for file in (weights, ours, theirs)] == [
        f"cnn_synthetic_{name}.tflite" for name in ("weight_only", "int8", "int8-tflite")
    ]
    assert "ranges_cover_percent" in ours.contract.quantization
    assert "calibration_faces" in theirs.contract.quantization
    assert weights.contract.metrics["agreement"] == 1.0
    assert weights.inspection.file_bytes < 0.4 * (source.run.facts["parameters"] * 4)
    assert ours.contract.versions["quantizer"].startswith("ai-edge-quantizer 0.8")
    assert "quantizer" not in theirs.contract.versions


def test_a_refused_conversion_leaves_the_earlier_file(source):
    (good,) = convert_run(source, [find_recipe("dynamic")], Thresholds(100, 100, 0))
    earlier = good.path.read_bytes()
    broken = scaled(source, "block2_conv_a", -1)
    (refused_file,) = convert_run(broken, [find_recipe("dynamic")], Thresholds(0, 0, 100))
    assert refused_file.path.name.endswith(REJECTED_SUFFIX)
    assert good.path.read_bytes() == earlier


def test_a_file_of_another_run_is_not_overwritten(source):
    made = convert_run(source, [find_recipe("float16")], Thresholds(100, 100, 0))
    other = replace(source, run=replace(source.run, facts={**source.run.facts, "model_digest": "other"}))
    with pytest.raises(ValueError, match="was made from another run of cnn"):
        convert_run(other, [find_recipe("float16")])
    assert made[0].path.is_file()


def test_the_verify_command_prints_both_recalls_and_refuses_a_file_below_the_bounds(
    invoke, error_of, models, run_folder, tmp_path
):
    result = invoke("verify", models["float32"], "--against", run_folder)
    assert result.exit_code == 0
    assert "agreement 1.0000" in result.stdout
    assert "accuracy in this file: " in result.stdout
    assert "XNNPACK partitions: 1" in result.stdout
    assert "operators:" in result.stdout
    facts = json.loads((run_folder / "run.json").read_text())
    turned = tmp_path / "turned"
    shutil.copytree(run_folder, turned)
    (turned / "run.json").write_text(json.dumps({**facts, "labels": facts["labels"][::-1]}))
    assert "is refused: the labels inside the file are permuted or others" in error_of(
        "verify", models["float32"], "--against", turned
    )


@pytest.mark.parametrize(
    ("wishes", "remedy"),
    [
        ({"precision": "int8"}, "try --keep-float auto"),
        ({"precision": "int8", "quantizer": "tflite"}, "try --quantizer ai-edge"),
        ({"precision": "dynamic"}, "try --int8"),
        ({"precision": "float16"}, "convert again with --float32"),
        ({"precision": "int8", "keep_float": ("fc",)}, "keep further layers"),
        ({"precision": "int8", "fine_tuning": {"kind": "pruned", "amount": 50}}, "ask for less"),
        ({"precision": "int8", "fine_tuning": {"kind": "qat", "amount": None}}, "leave --qat out"),
    ],
)
def test_advice_follows_from_the_recipe(wishes, remedy):
    contract = SimpleNamespace(labels=LABELS, quantization=find_recipe(**wishes).as_data())
    metrics = compare(answers(*many()), answers(*(many() + 1) % 3), many(), LABELS)
    assert check_thresholds(metrics, Thresholds(), contract, LABELS)[0].remedy.startswith(remedy)


def test_a_sheet_shows_the_faces_on_which_the_two_disagree(source, tmp_path):
    held_out, path = source.run.held_out, tmp_path / "sheet.png"
    others = source.before.copy()
    others[:7] = np.roll(others[:7], 1, axis=1)
    assert sorted(disagreements(source.before, others)) == list(range(7))
    known = held_out.images, held_out.targets, source.before
    assert write_disagreement_grid(path, *known, others, source.run.labels) == 7
    assert read_image(path).shape == (2 * (160 + 44), 6 * 160, 3)
    earlier = path.read_bytes()
    assert write_disagreement_grid(path, *known, source.before, source.run.labels) == 0
    assert path.read_bytes() == earlier


def test_a_conversion_leaves_a_sheet_of_its_disagreements(source):
    broken = scaled(source, "block2_conv_a", -1)
    broken = replace(broken, out=source.out / "sheet")
    (made,) = convert_run(broken, [find_recipe("dynamic")], Thresholds(100, 100, 0))
    (refused_file,) = convert_run(broken, [find_recipe("dynamic")], Thresholds(0, 0, 100))
    assert made.contract.metrics["agreement"] < 1
    names = {"cnn_synthetic_dynamic_disagreements.png", "cnn_synthetic_dynamic.rejected_disagreements.png"}
    assert {disagreement_grid_path(made.path).name, disagreement_grid_path(refused_file.path).name} == names
    assert {path.name for path in broken.out.glob("*.png")} == names
    convert_run(replace(source, out=broken.out), [find_recipe("dynamic")], Thresholds(100, 100, 0))
    assert not disagreement_grid_path(refused_file.path).exists()


def test_a_file_of_another_run_is_named(source, models):
    held_out = source.run.held_out
    other = replace(source.run, facts={**source.run.facts, "model_digest": "0" * 64})
    found = verify(models["float32"], other, held_out.images, held_out.targets, Thresholds())
    assert "was not made from the model in" in found.notes[0].cause


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--keep-float", "conv9"), "no layer with weights is called conv9; choose among: block1_conv_a"),
        (("--keep-float", "probabilities"), "the last layer, probabilities, computes in float already"),
        (("--qat",), "fine-tuning (qat) needs the training data: --data DATA"),
        (("--qat", "--float16", "--data", "synthetic"), "--qat is for int8. Received: float16"),
        (("--quantizer", "magic"), "unknown quantizer 'magic'; choose one of: ai-edge, tflite"),
        (("--quantizer", "tflite", "--keep-float", "fc"), "--keep-float needs ai-edge-quantizer"),
        (("--keep-float", "fc", "--float16"), "--keep-float is for int8. Received: float16. Add --int8"),
        (("--data", "synthetic"), "--data is for fine-tuning: add --qat, --prune or --cluster"),
        (("--calibrate-from", "nowhere"), "no image, folder or video at 'nowhere'"),
    ],
)
def test_the_convert_command_refuses_what_cannot_be(error_of, run_folder, tmp_path, arguments, message):
    assert message in error_of("convert", run_folder, "--out", tmp_path, *arguments)
    assert not list(tmp_path.glob("*.tflite*"))


def test_faces_of_one_s_own_camera_calibrate(invoke, run_folder, tmp_path):
    pictures = tmp_path / "camera"
    pictures.mkdir()
    for number, face in enumerate(synthetic_faces(20).images[-140:]):
        scene = np.full((160, 160), 110, np.uint8)
        scene[32:128, 32:128] = np.kron(face, np.ones((2, 2), np.uint8))
        write_image(pictures / f"{number}.png", scene)
    result = invoke("convert", run_folder, "--calibrate-from", pictures, "--out", tmp_path, "--max-recall-drop", 100)
    assert "accuracy" in result.output
    calibration = read_contract(tmp_path / "cnn_synthetic_int8.tflite").quantization["calibration"]
    assert calibration["source"] == "camera"
    assert calibration["per_class"] is None
    assert 100 <= calibration["distinct"] <= 140


def test_pictures_without_faces_cannot_calibrate(error_of, run_folder, tmp_path):
    write_image(tmp_path / "grey.png", np.full((64, 64), 128, np.uint8))
    assert "no face found in" in error_of("convert", run_folder, "--calibrate-from", tmp_path)


def test_quantisation_aware_training_through_the_command_line(invoke, run_folder, tmp_path):
    result = invoke(
        "convert", run_folder, "--int8", "--qat", "--epochs", 1, "--data", "synthetic:12", "--out", tmp_path, *ANY_BOUNDS
    )
    assert result.exit_code == 0, result.output
    made = read_contract(tmp_path / "cnn_synthetic_int8-qat.tflite").quantization
    assert (made["fine_tuning"]["kind"], made["fine_tuning"]["epochs"], made["biases_corrected"]) == ("qat", 1, False)


@pytest.mark.parametrize(("option", "amount", "name"), [("--prune", 60, "pruned60"), ("--cluster", 16, "clustered16")])
def test_pruned_and_clustered_files_are_smaller_once_compressed(invoke, run_folder, models, tmp_path, option, amount, name):
    arguments = ("--float16", option, amount, "--epochs", 2, "--data", "synthetic:12", "--out", tmp_path, *ANY_BOUNDS)
    result = invoke("convert", run_folder, *arguments)
    assert result.exit_code == 0, result.output
    path = tmp_path / f"cnn_synthetic_float16-{name}.tflite"
    assert read_contract(path).quantization["fine_tuning"]["amount"] == amount
    assert inspect_model(path).compressed_bytes < 0.8 * inspect_model(models["float16"]).compressed_bytes


def test_a_model_that_answers_with_nan_is_refused(source):
    import keras

    broken = keras.models.clone_model(source.folded)
    broken.set_weights([np.full_like(weight, np.nan) for weight in source.folded.get_weights()])
    with pytest.raises(ValueError, match="not finite: its training diverged"):
        predict(broken, source.held_out)
    after = answers(*many())
    after[5] = np.nan
    assert "the file answers with values that are not finite" in causes(answers(*many()), after, many())


def test_other_data_than_the_run_s_is_refused_for_fine_tuning(error_of, run_folder, tmp_path):
    write_class_folders(tmp_path, ("happy", "sad"))
    assert "is not the data that" in error_of("convert", run_folder, "--qat", "--data", tmp_path)
