"""Planted faults: each is caught, and the message names its cause."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import write_class_folders

from fer_edge.artifacts.contract import read_contract
from fer_edge.artifacts.conversion import FineTuning, QuantizationSummary
from fer_edge.artifacts.gate import Thresholds
from fer_edge.convert.ai_edge import PERCENTILES
from fer_edge.convert.calibrate import check_calibration, describe_calibration
from fer_edge.convert.compare import compare, kl_divergence, wilson_interval
from fer_edge.convert.convert_run import convert_run
from fer_edge.convert.disagreement_grid import disagreement_grid_path, disagreements, write_disagreement_grid
from fer_edge.convert.gate import check_thresholds, find_label_permutation, warnings
from fer_edge.convert.inspect_model import inspect_model, outlier_layers
from fer_edge.convert.prepare_run import predict
from fer_edge.convert.quantization_recipes import RECIPES, find_quantization_recipe
from fer_edge.convert.quantize import float_flatbuffer, quantize
from fer_edge.convert.tf_converter import convert_keras
from fer_edge.convert.verify import verify
from fer_edge.convert.write_and_check import REJECTED_SUFFIX, write_and_check
from fer_edge.edge_runtime.images import read_image, write_image
from fer_edge.train.synthetic import synthetic_faces

NO_LIMITS = ("--max-accuracy-drop", 100, "--max-recall-drop", 100, "--min-agreement", 0)
LABELS = ("happy", "sad", "fear")


def contract(recipe=RECIPES["int8"], labels=LABELS):
    return SimpleNamespace(labels=labels, quantization=QuantizationSummary(recipe))


def answers(*classes):
    """Return confident predictions of the given classes."""
    return np.eye(3, dtype=np.float32)[list(classes)] * 0.9 + np.float32(0.1 / 3)


def many(count=100):
    return np.arange(count) % 3


def causes(before, after, targets, thresholds=None):
    metrics = compare(before, after, targets, LABELS)
    issues = check_thresholds(metrics, thresholds or Thresholds(), contract(), LABELS)
    return [issue.cause for issue in issues]


def test_a_model_that_predicts_the_same_is_accepted():
    assert causes(answers(*many()), answers(*many()), many()) == []


def test_a_drop_of_accuracy_agreement_and_recall_is_rejected_with_both_numbers():
    after = many().copy()
    after[np.flatnonzero(after == 0)[:10]] = 1
    found = causes(answers(*many()), answers(*after), many())
    assert found[0] == "accuracy drops by 10.00 points, from 1.0000 to 0.9000 on 100 faces (allowed: 1)"
    assert found[1] == "only 90.0 % of 100 faces keep the label of the Keras model (required: 97 %)"
    assert found[2].startswith("recall of happy drops by 29.4 points, from 1.000 to 0.706 on 34 faces")
    assert len(found) == 3
    assert causes(answers(*many()), answers(*after), many(), Thresholds(11, 30, 89)) == []


def test_a_single_face_never_rejects_a_model():
    after = many(20).copy()
    after[0] = 1
    assert causes(answers(*many(20)), answers(*after), many(20)) == []
    after[3] = 1
    assert len(causes(answers(*many(20)), answers(*after), many(20))) == 3


def test_a_collapse_onto_one_class_is_named():
    found = causes(answers(*many()), answers(*np.zeros(100, int)), many())
    assert any("collapse onto few classes: 100 % happy" in cause for cause in found)


def test_permuted_outputs_are_named():
    issue = find_label_permutation(answers(*many()), answers(*(many() + 1) % 3), LABELS)
    assert issue is not None
    assert "another order than the labels: happy as sad, sad as fear, fear as happy" in issue.cause
    assert find_label_permutation(answers(*many()), answers(*many()), LABELS) is None
    assert find_label_permutation(answers(*many()), answers(*np.zeros(100, int)), LABELS) is None


def test_permuted_labels_inside_the_file_are_named():
    same = compare(answers(*many()), answers(*many()), many(), LABELS)
    (issue,) = check_thresholds(same, Thresholds(), contract(labels=("sad", "happy", "fear")), LABELS)
    assert issue.cause.startswith("the labels of the file differ from the labels of the run: sad, happy, fear instead of")


@pytest.mark.parametrize("value", [-1, 101, float("nan")])
def test_a_threshold_that_is_not_a_percentage_is_rejected(value):
    with pytest.raises(ValueError, match="must be a number between 0 and 100"):
        Thresholds(recall_points=value)


def test_intervals_and_divergence_have_the_known_values():
    assert wilson_interval(8, 10) == pytest.approx([0.4902, 0.9433], abs=1e-4)
    half, confident = np.array([[0.5, 0.5]], np.float32), np.array([[0.75, 0.25]], np.float32)
    assert kl_divergence(half, half)[0] == 0
    assert kl_divergence(half, confident)[0] == pytest.approx(0.5 * np.log(0.5 / 0.75) + 0.5 * np.log(0.5 / 0.25))


@pytest.fixture
def prepared_once(prepared, monkeypatch):
    """Let the command convert the session's prepared run: to load, fold and equalize its model again takes seconds."""

    def prepare(run, out, calibration, command):
        return replace(prepared, out=out, command=command)

    monkeypatch.setattr("fer_edge.convert.convert_run.prepare_run", prepare)


def faces_of(count, top=255):
    rng = np.random.default_rng(0)
    return [rng.integers(0, top + 1, (8, 8)).astype(np.uint8) for _ in range(count)]


def rejection(faces, targets=None, test_faces=()):
    targets = many(len(faces)) if targets is None else targets
    with pytest.raises(ValueError, match=r"\w") as error:
        check_calibration(describe_calibration(faces, targets, LABELS, "a folder"), faces, test_faces)
    return str(error.value)


def test_a_single_repeated_calibration_face_is_rejected():
    assert "a folder has 1 distinct faces of 200" in rejection(faces_of(1) * 200)


def test_calibration_faces_scaled_to_0_to_1_are_rejected():
    assert "scaled to 0..1: the model takes bytes 0..255" in rejection(faces_of(200, top=1))
    assert "must be bytes 0..255 (uint8). Received: float32" in rejection([face / np.float32(255) for face in faces_of(200)])


def test_a_class_missing_from_calibration_is_named():
    assert "no calibration face of class fear" in rejection(faces_of(200), np.arange(200) % 2)


def test_test_faces_in_the_calibration_set_are_rejected():
    faces = faces_of(200)
    assert "2 of the calibration faces of a folder are test faces" in rejection(faces, test_faces=faces[:2])


def test_a_good_calibration_set_is_described():
    faces = faces_of(150)
    summary = describe_calibration(faces, many(150), LABELS, "a folder")
    check_calibration(summary, faces, faces_of(151)[150:])
    assert (summary.faces, summary.distinct) == (150, 150)
    assert summary.per_class == {"happy": 50, "sad": 50, "fear": 50}
    assert (summary.darkest, summary.brightest) == (0, 255)
    assert summary.median_brightness == pytest.approx(127.5, abs=5)


def scaled(prepared, layer, factor):
    """Return the prepared run with the weights of one layer scaled, as a mistake before conversion would do."""
    import keras

    folded = keras.models.clone_model(prepared.folded)
    folded.set_weights(prepared.folded.get_weights())
    kernel, *bias = folded.get_layer(layer).get_weights()
    folded.get_layer(layer).set_weights([kernel * factor, *bias])
    return replace(prepared, folded=folded)


def test_a_layer_whose_weights_were_scaled_by_1000_is_named(prepared):
    broken = replace(scaled(prepared, "block2_conv_a", 1000), out=prepared.out / "scaled")
    assert list(outlier_layers(broken.folded)) == ["block2_conv_a"]
    assert outlier_layers(prepared.folded) == {}
    quantized = quantize(broken, find_quantization_recipe("int8"), float_flatbuffer(broken))
    result = write_and_check(broken, *quantized, Thresholds())
    assert result.path.name == "cnn_synthetic_int8.tflite" + REJECTED_SUFFIX
    assert not (broken.out / "cnn_synthetic_int8.tflite").exists()
    assert any("larger than those of the median layer: 'block2_conv_a' " in issue.cause for issue in result.issues)
    assert result.contract.metrics.gate.issues == result.issues


def test_outlier_layers_share_one_warning_and_layers_with_a_scale_per_weight_are_none(prepared, models):
    import keras

    four = {"a": 400.0, "b": 900.0, "c": 500.0, "d": 301.0}
    (warning,) = warnings(inspect_model(models["int8"]), find_quantization_recipe("int8"), four)
    assert warning.cause.endswith("'b' 900 times, 'c' 500 times, 'a' 400 times and 1 more")
    assert warning.remedy == "train again with weight decay, or --keep-float b --keep-float c --keep-float a"
    face = keras.Input((8, 8, 3))
    scaled_up = keras.layers.DepthwiseConv2D(1, depthwise_initializer=keras.initializers.Constant(1e6), name="scale")
    wide = keras.layers.DepthwiseConv2D(3, depthwise_initializer=keras.initializers.Constant(1e6), name="wide")
    x = keras.layers.Conv2D(4, 3)(wide(scaled_up(keras.layers.Conv2D(4, 1)(face))))
    answer = keras.layers.Dense(3)(keras.layers.Flatten()(keras.layers.Conv2D(4, 1)(x)))
    assert list(outlier_layers(keras.Model(face, answer))) == ["wide"]


def test_unfolded_batch_normalization_of_a_densenet_is_named(prepared, tmp_path):
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
    (warning,) = warnings(inspect_model(path), RECIPES["float32"], outliers={})
    assert "batch normalization before a convolution remains as 9 MUL and 9 ADD" in warning.cause


def test_verify_accepts_a_good_file_and_rejects_other_labels(models, prepared):
    result = verify(models["float32"], prepared.run)
    assert result.issues == ()
    assert result.metrics.agreement == 1.0
    assert result.inspection.custom_operators == {}
    record = replace(prepared.run.record, labels=prepared.run.labels[::-1], results=None)
    assert "labels of the file differ" in verify(models["float32"], replace(prepared.run, record=record)).issues[0].cause


def test_both_quantizers_in_one_call_write_separate_files(prepared):
    recipes = [find_quantization_recipe(*names) for names in (("weight_only",), ("int8",), ("int8", "tflite"))]
    weights, ours, theirs = convert_run(prepared, recipes, Thresholds(100, 100, 0))
    assert [file.path.name for file in (weights, ours, theirs)] == [
        f"cnn_synthetic_{name}.tflite" for name in ("weight_only", "int8", "int8-tflite")
    ]
    assert ours.contract.quantization.percentile in PERCENTILES
    assert theirs.contract.quantization.calibration_faces > 0
    assert weights.contract.metrics.agreement == 1.0
    assert weights.inspection.file_bytes < 0.4 * (prepared.run.results.parameters * 4)
    assert ours.contract.versions["quantizer"].startswith("ai-edge-quantizer 0.8")
    assert "quantizer" not in theirs.contract.versions


def test_a_rejected_conversion_keeps_the_earlier_file(prepared):
    (good,) = convert_run(prepared, [find_quantization_recipe("dynamic")], Thresholds(100, 100, 0))
    earlier = good.path.read_bytes()
    broken = scaled(prepared, "block2_conv_a", -1)
    (rejected,) = convert_run(broken, [find_quantization_recipe("dynamic")], Thresholds(0, 0, 100))
    assert rejected.path.name.endswith(REJECTED_SUFFIX)
    assert good.path.read_bytes() == earlier


def of_another_model(run):
    return replace(run, results=replace(run.results, model_digest="0" * 64))


def test_a_file_of_another_run_is_not_overwritten(prepared):
    (result,) = convert_run(prepared, [find_quantization_recipe("float16")], Thresholds(100, 100, 0))
    other = replace(prepared, run=of_another_model(prepared.run))
    with pytest.raises(ValueError, match="was made from another run of cnn"):
        convert_run(other, [find_quantization_recipe("float16")])
    assert result.path.is_file()


def test_the_verify_command_prints_both_recalls_and_rejects_other_labels(invoke, error_of, models, run_folder, tmp_path):
    result = invoke("verify", models["float32"], "--run", run_folder)
    assert result.exit_code == 0
    assert "agreement 1.0000" in result.stdout
    assert "accuracy in this file: " in result.stdout
    assert "XNNPACK partitions: 1" in result.stdout
    assert "operators:" in result.stdout
    record = json.loads((run_folder / "run.json").read_text())
    turned = tmp_path / "turned"
    shutil.copytree(run_folder, turned)
    (turned / "run.json").write_text(json.dumps({**record, "labels": record["labels"][::-1]}))
    assert "the labels were changed after training" in error_of("verify", models["float32"], "--run", turned)


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"precision": "int8"}, "try --keep-float auto"),
        ({"precision": "int8", "quantizer": "tflite"}, "try --quantizer ai-edge"),
        ({"precision": "dynamic"}, "try --int8"),
        ({"precision": "float16"}, "convert with --float32 too"),
        ({"precision": "int8", "keep_float": ("fc",)}, "keep more layers"),
        ({"precision": "int8", "fine_tuning": FineTuning("pruned", 50, 3, 0.01)}, "use a smaller --prune"),
        ({"precision": "int8", "fine_tuning": FineTuning("qat", None, 3, 0.01)}, "remove --qat"),
    ],
)
def test_the_remedy_follows_from_the_recipe(options, remedy):
    metrics = compare(answers(*many()), answers(*(many() + 1) % 3), many(), LABELS)
    recipe = find_quantization_recipe(**options)
    assert check_thresholds(metrics, Thresholds(), contract(recipe), LABELS)[0].remedy.startswith(remedy)


def test_a_grid_shows_the_faces_on_which_the_models_disagree(prepared, tmp_path):
    held_out, path = prepared.run.held_out, tmp_path / "grid.png"
    others = prepared.keras_probs.copy()
    others[:7] = np.roll(others[:7], 1, axis=1)
    assert sorted(disagreements(prepared.keras_probs, others)) == list(range(7))
    known = held_out.images, held_out.targets, prepared.keras_probs
    assert write_disagreement_grid(path, *known, others, prepared.run.labels) == 7
    assert read_image(path).shape == (2 * (160 + 44), 6 * 160, 3)
    earlier = path.read_bytes()
    assert write_disagreement_grid(path, *known, prepared.keras_probs, prepared.run.labels) == 0
    assert path.read_bytes() == earlier


def test_a_conversion_writes_a_grid_of_its_disagreements(prepared):
    broken = scaled(prepared, "block2_conv_a", -1)
    broken = replace(broken, out=prepared.out / "grid")
    (accepted,) = convert_run(broken, [find_quantization_recipe("dynamic")], Thresholds(100, 100, 0))
    (rejected,) = convert_run(broken, [find_quantization_recipe("dynamic")], Thresholds(0, 0, 100))
    assert accepted.contract.metrics.agreement < 1
    names = {"cnn_synthetic_dynamic_disagreements.png", "cnn_synthetic_dynamic.rejected_disagreements.png"}
    assert {disagreement_grid_path(accepted.path).name, disagreement_grid_path(rejected.path).name} == names
    assert {path.name for path in broken.out.glob("*.png")} == names
    convert_run(replace(prepared, out=broken.out), [find_quantization_recipe("dynamic")], Thresholds(100, 100, 0))
    assert not disagreement_grid_path(rejected.path).exists()


def test_a_file_of_another_run_is_named(prepared, models):
    result = verify(models["float32"], of_another_model(prepared.run))
    assert "was not made from the model in" in result.warnings[0].cause


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
        (("--prune", 50, "--weight-only"), "--prune and --weight-only need --experimental"),
        (("--data", "synthetic"), "--data is for fine-tuning: add --qat, --prune or --cluster"),
        (("--calibrate-from", "nowhere"), "no image, folder or video at 'nowhere'"),
    ],
)
@pytest.mark.usefixtures("prepared_once")
def test_the_convert_command_rejects_options_that_do_not_fit(error_of, run_folder, tmp_path, arguments, message):
    assert message in error_of("convert", run_folder, "--out", tmp_path, *arguments)
    assert not list(tmp_path.glob("*.tflite*"))


def test_images_of_the_user_calibrate(invoke, run_folder, tmp_path):
    images = tmp_path / "camera"
    images.mkdir()
    for number, face in enumerate(synthetic_faces(20).images[-140:]):
        scene = np.full((160, 160), 110, np.uint8)
        scene[32:128, 32:128] = np.kron(face, np.ones((2, 2), np.uint8))
        write_image(images / f"{number}.png", scene)
    result = invoke("convert", run_folder, "--calibrate-from", images, "--out", tmp_path, "--max-recall-drop", 100)
    assert "accuracy" in result.output
    calibration = read_contract(tmp_path / "cnn_synthetic_int8.tflite").quantization.calibration
    assert calibration.source == "camera"
    assert calibration.per_class is None
    assert 100 <= calibration.distinct <= 140


def test_images_without_faces_cannot_calibrate(error_of, run_folder, tmp_path):
    write_image(tmp_path / "grey.png", np.full((64, 64), 128, np.uint8))
    assert "no face found in" in error_of("convert", run_folder, "--calibrate-from", tmp_path)


@pytest.mark.usefixtures("prepared_once")
def test_quantization_aware_training_from_the_command_line(invoke, run_folder, tmp_path):
    result = invoke(
        "convert", run_folder, "--int8", "--qat", "--epochs", 1, "--data", "synthetic:12", "--out", tmp_path, *NO_LIMITS
    )
    assert result.exit_code == 0, result.output
    summary = read_contract(tmp_path / "cnn_synthetic_int8-qat.tflite").quantization
    assert (summary.recipe.fine_tuning.kind, summary.recipe.fine_tuning.epochs, summary.biases_corrected) == ("qat", 1, False)


@pytest.mark.parametrize(("option", "amount", "name"), [("--prune", 60, "pruned60"), ("--cluster", 16, "clustered16")])
@pytest.mark.usefixtures("prepared_once")
def test_pruned_and_clustered_files_are_smaller_once_compressed(invoke, run_folder, models, tmp_path, option, amount, name):
    arguments = ("--experimental", option, amount, "--epochs", 2, "--data", "synthetic:12", *NO_LIMITS)
    result = invoke("convert", run_folder, "--float16", "--out", tmp_path, *arguments)
    assert result.exit_code == 0, result.output
    path = tmp_path / f"cnn_synthetic_float16-{name}.tflite"
    assert read_contract(path).quantization.recipe.fine_tuning.amount == amount
    assert inspect_model(path).compressed_bytes < 0.8 * inspect_model(models["float16"]).compressed_bytes


def test_a_model_that_outputs_nan_is_rejected(prepared):
    import keras

    broken = keras.models.clone_model(prepared.folded)
    broken.set_weights([np.full_like(weight, np.nan) for weight in prepared.folded.get_weights()])
    with pytest.raises(ValueError, match="outputs NaN or Inf: its training diverged"):
        predict(broken, prepared.held_out)
    after = answers(*many())
    after[5] = np.nan
    assert "the file outputs NaN or Inf" in causes(answers(*many()), after, many())


def test_fine_tuning_rejects_other_data_than_that_of_the_run(error_of, run_folder, tmp_path):
    write_class_folders(tmp_path, ("happy", "sad"))
    assert "is not the data that" in error_of("convert", run_folder, "--qat", "--data", tmp_path)
