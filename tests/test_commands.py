import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import json_lines, write_class_folders

from fer_edge.artifacts.run_folder import read_run_record
from fer_edge.artifacts.typed_json import to_data
from fer_edge.edge_runtime import Classifier
from fer_edge.edge_runtime.cameras.files import read_frames
from fer_edge.edge_runtime.images import import_cv2, read_image, write_image
from fer_edge.train.synthetic import synthetic_image


@pytest.fixture(scope="session")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "happy.png"
    write_image(path, synthetic_image("happy", seed=1))
    return path


def test_run_prints_one_json_line_per_image(invoke, int8_model, image, tmp_path):
    write_image(image.parent / "sub" / "empty.png", np.full((80, 80), 128, np.uint8))
    result = invoke("run", image.parent, "--model", int8_model, "--detector", "haar", "--json", "--save", tmp_path)
    first, second = json_lines(result.stdout)
    (face,) = first["faces"]
    assert set(first) == {"source", "frame", "faces"}
    assert first["source"] == str(image)
    assert first["frame"] is None
    assert set(face) == {"box_px", "score", "label", "probability", "unsure", "top_labels", "margin", "probabilities"}
    assert face["probability"] == max(face["probabilities"].values()) == face["probabilities"][face["label"]]
    assert second["faces"] == []
    saved = read_image(tmp_path / "happy.png")
    assert saved.shape == (480, 640, 3)
    assert (saved != read_image(image)).any()
    assert (tmp_path / "sub" / "empty.png").is_file()


def test_run_numbers_the_frames_of_a_video_and_saves_an_annotated_one(invoke, int8_model, tmp_path):
    cv2 = import_cv2()
    clip = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter_fourcc(*"MJPG"), 10, (640, 480))
    for _ in range(3):
        writer.write(cv2.cvtColor(synthetic_image("happy", seed=1), cv2.COLOR_RGB2BGR))
    writer.release()
    result = invoke("run", clip, "--model", int8_model, "--detector", "haar", "--json", "--save", tmp_path / "out")
    lines = json_lines(result.stdout)
    assert [line["frame"] for line in lines] == [0, 1, 2]
    assert all(len(line["faces"]) == 1 for line in lines)
    assert len(list(read_frames(tmp_path / "out" / "clip.avi.mp4"))) == 3


def test_one_image_gives_one_distribution_through_evaluate_classifier_and_run(invoke, models, faces, tmp_path):
    classifier = Classifier(models["int8"])
    for number in (0, 5, 40):
        name = faces.ids[number]
        write_image(tmp_path / "data" / name, faces.images[number])
    asked = invoke(
        "evaluate", models["int8"], "--data", tmp_path / "data", "--protocol", "all", "--predictions", tmp_path / "p.jsonl"
    )
    assert asked.exit_code == 0, asked.output
    evaluated = {line["face"]: line["probabilities"] for line in json_lines((tmp_path / "p.jsonl").read_text())}
    ran = json_lines(invoke("run", tmp_path / "data", "--model", models["int8"], "--detector", "none", "--json").stdout)
    for line in ran:
        name = str(line["source"])[len(str(tmp_path / "data")) + 1 :]
        direct = classifier.predict(read_image(line["source"]))[0].as_dict()
        assert line["faces"][0]["probabilities"] == direct == evaluated[name]
    assert len(ran) == 3


def test_evaluate_gives_a_run_and_its_float32_file_the_same_metrics(invoke, run_folder, models):
    result = invoke("evaluate", run_folder, models["float32"], "--data", "synthetic:12", "--json")
    keras, tflite = json.loads(result.stdout)
    assert keras["title"] == "cnn keras"
    assert keras["metrics"]["confusion"] == tflite["metrics"]["confusion"]
    assert keras["metrics"]["loss"] == pytest.approx(tflite["metrics"]["loss"], rel=1e-3)
    assert keras["metrics"] == to_data(read_run_record(run_folder).results.metrics.test)


def test_convert_without_a_run_takes_the_newest_and_prints_before_and_after(invoke, run_folder, tmp_path):
    result = invoke("convert", "--int8", "--runs", run_folder.parent, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert "int8:" in result.stdout
    assert "->" in result.stdout
    assert len(result.output.splitlines()) < 40
    assert {path.name for path in tmp_path.iterdir()} == {"cnn_synthetic_int8.tflite", "convert.log"}


def test_bench_prints_a_row_per_model_and_thread_count(invoke, models, tmp_path):
    arguments = ("--data", "synthetic:12", "--threads", "1,2", "--min-runs", 3, "--min-seconds", 0)
    out = ("--json", "--record", tmp_path / "r.jsonl", "--plot", tmp_path / "plot.png")
    rows = json.loads(invoke("bench", models["int8"], models["float32"], *arguments, *out).stdout)
    assert [(row["precision"], row["threads"]) for row in rows] == [("int8", 1), ("int8", 2), ("float32", 1), ("float32", 2)]
    assert all(0 <= row["accuracy"] <= 1 and row["p50_ms"] <= row["p99_ms"] for row in rows)
    assert all(row["compressed_bytes"] > 0 and row["rejected"] is False for row in rows)
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    again = invoke("bench", "--from", tmp_path / "r.jsonl", "--markdown").stdout
    assert sum(line.startswith("| cnn ") for line in again.splitlines()) == 4
    assert "- board: " in again


def test_bench_rejects_a_plot_without_data_before_it_measures(error_of, tmp_path):
    message = error_of("bench", "cnn_nano", "--plot", tmp_path / "plot.png", "--record", tmp_path / "r.jsonl")
    assert "Give --data too" in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--plot", "plot.docx", "--data", "synthetic:10"), "a plot cannot be saved as 'plot.docx'. Use one of: .eps, "),
        (("--plot", "face.png/plot.png", "--data", "synthetic:10"), "face.png' is not a folder, so 'face.png/plot.png' cannot"),
        (("--record", "."), "'.' is a folder. Name a file in it"),
    ],
)
def test_bench_rejects_a_file_that_cannot_be_written_before_it_measures(error_of, tmp_path, monkeypatch, words, message):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fer_edge.compare_models.measure_model", None)
    (tmp_path / "face.png").write_bytes(b"x")
    assert message in error_of("bench", "cnn_nano", *words)


KERAS_FREE = """
import sys
from fer_edge.main import main
for words in sys.argv[1:]:
    try:
        main(words.split("|"))
    except SystemExit as error:
        assert error.code == 1
assert "keras" not in sys.modules
"""


def test_what_can_be_checked_without_keras_is_checked_before_its_import(run_folder, models, tmp_path):
    write_class_folders(tmp_path / "data", ("happy", "sad"))
    write_image(tmp_path / "photo.png", synthetic_image("happy", seed=1))
    model, faces = models["int8"], ("--data", "synthetic:12")
    errors = {
        ("convert", run_folder, "--qat", "--data", tmp_path / "data"): "is not the data that",
        ("convert", run_folder, "--qat", "--data", "none.zip"): "no dataset at",
        ("convert", run_folder, "--calibrate-from", tmp_path / "photo.png"): "int8 needs at least 100 distinct calibration",
        ("convert", run_folder, "--out", tmp_path / "photo.png"): "photo.png' is not a folder",
        ("evaluate", run_folder, "--data", "none.zip"): "no dataset at",
        ("evaluate", run_folder, *faces, "--ferplus", "none.csv"): "no FER+ table 'none.csv'",
        ("evaluate", run_folder, *faces, "--ensemble"): "an ensemble needs at least two models. Received: 1",
        ("evaluate", run_folder, "--data", "none.zip", "--split", "dev"): "unknown split 'dev'",
        ("evaluate", run_folder, *faces, "--record", tmp_path): "is a folder. Name a file in it",
        ("verify", model, "--run", run_folder, "--grid", tmp_path): "is a folder. Name a file in it",
        ("verify", model, "--run", run_folder, "--data", "none.zip"): "no dataset at",
        ("train", "cnn", "--data", "none.zip", "--ferplus", "none.csv"): "no FER+ table 'none.csv'",
        ("train", "cnn", "--data", tmp_path / "data", "--protocol", "subject"): "does not name its subjects",
    }
    command = [sys.executable, "-c", KERAS_FREE, *("|".join(map(str, words)) for words in errors)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    lines = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == len(errors), done.stderr
    assert [message for message, line in zip(errors.values(), lines, strict=True) if message not in line] == []
    assert done.returncode == 0, done.stderr


def test_bench_without_models_names_the_folder_that_it_searched(error_of, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "no folder 'runs' here" in error_of("bench")


@pytest.mark.parametrize(
    "words",
    [
        "run a.jpg --fps -1",
        "run a.jpg --min-confidence 2",
        "run a.jpg --min-face 0",
        "run a.jpg --threads 0",
        "run a.jpg --detect-every 0",
        "bench cnn_nano --min-runs 0",
        "bench cnn_nano --min-seconds -1",
        "convert --int8 --min-agreement 101",
        "convert --int8 --max-accuracy-drop -1",
        "verify cnn_nano --max-recall-drop -1",
        "train cnn --data synthetic --stop-after -1",
        "train cnn --data synthetic --stop-after nan",
        "bench cnn_nano --min-seconds inf",
        "verify cnn_nano --min-agreement nan",
        "convert --int8 --min-agreement nan",
    ],
)
def test_the_error_for_a_number_out_of_range_names_the_option(invoke, words):
    result = invoke(*words.split())
    assert result.exit_code == 2
    assert f"Invalid value for '{words.split()[-2]}'" in result.stderr


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--teacher runs/none", "no teacher 'runs/none'"),
        ("--protocol subject --fold 3", "fold must be from 0 to folds-1"),
        ("--protocol paper --folds 3", "folds need the protocol 'subject'"),
        ("--protocol random", "unknown protocol 'random'"),
    ],
)
def test_train_rejects_impossible_options_before_it_reads_the_faces(error_of, tmp_path, words, message):
    assert message in error_of("train", "cnn", "--data", tmp_path / "not_there.zip", *words.split())


def test_info_prints_the_contract(invoke, models):
    assert "cnn" in invoke("info", models["int8"]).stdout
    assert json.loads(invoke("info", models["int8"], "--json").stdout)["precision"] == "int8"
    assert "fer2013" in invoke("info", "mobilenet_v2_fer2013").stdout
    assert "not calibrated; ECE 0." in invoke("info", models["int8"]).stdout
    assert "calibrated, temperature 0.605; ECE 0." in invoke("info", "mobilenet_v2_fer2013").stdout


def test_info_and_bench_list_the_bundled_models(error_of):
    for command in ("info", "bench"):
        message = error_of(command, "mobilnet")
        assert "no model file 'mobilnet'" in message
        assert "mobilenet_v2" in message


def test_bench_takes_the_name_of_a_bundled_model(invoke):
    (row,) = json.loads(invoke("bench", "cnn_nano_fer2013", "--json", "--min-seconds", "0", "--min-runs", "2").stdout)
    assert (row["network"], row["precision"]) == ("cnn_nano", "int8-tflite")


@pytest.mark.tensorflow
def test_an_unsupported_backend_is_reported_before_keras_is_imported(error_of, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "theano")
    message = error_of("train", "cnn", "--data", "synthetic:10")
    assert "KERAS_BACKEND must be one of tensorflow, jax, torch. Received: 'theano'" in message


def test_evaluate_reports_classes_without_a_face(invoke, models, tmp_path):
    write_class_folders(tmp_path, ["happy", "sad"], count=20)
    words = ("evaluate", models["int8"], "--data", tmp_path, "--protocol", "all", "--json")
    assert "no face is of angry, contempt, disgust, fear, neutral, surprise" in invoke(*words).stderr
    assert "no face is of" not in invoke(*words, "--shared-classes").stderr


def test_verify_takes_a_folder_like_the_other_commands(error_of, run_folder, tmp_path):
    assert "no model file 'nope'" in error_of("verify", "nope", "--run", run_folder)
    assert "no int8 model under" in error_of("verify", tmp_path, "--run", run_folder)


def test_train_rejects_an_out_that_is_not_a_folder(error_of, tmp_path):
    (tmp_path / "face.png").write_bytes(b"x")
    assert "face.png' is not a folder" in error_of("train", "cnn", "--data", "synthetic:10", "--out", tmp_path / "face.png")


def test_an_annotated_copy_never_overwrites_its_source(error_of, invoke, int8_model, image, tmp_path):
    before = image.read_bytes()
    for target in (image.parent, image):
        assert "would overwrite" in error_of("run", image, "--model", int8_model, "--detector", "haar", "--save", target)
    assert image.read_bytes() == before
    assert "cannot save an image as" in error_of("run", image, "--model", int8_model, "--save", tmp_path / "a.mp4")


@pytest.mark.tensorflow
def test_train_rejects_bad_options_before_it_reads_the_data(error_of, tmp_path):
    out = ("--data", "nowhere.zip", "--out", tmp_path / "runs")
    assert "no weights at 'none.h5'" in error_of("train", "cnn", "vgg16", *out, "--weights", "vgg16=none.h5")
    assert "no ImageNet weights for 'cnn'" in error_of("train", "cnn", *out, "--weights", "imagenet")
    assert "unknown precision 'int4'" in error_of("train", "cnn", *out, "--precision", "int4")
    assert not (tmp_path / "runs").exists()


def test_a_keras_file_outside_its_run_folder_is_rejected(error_of, run_folder):
    (run_folder / "copy.keras").write_bytes(b"x")
    try:
        assert "is not the model.keras of a run folder" in error_of(
            "evaluate", run_folder / "copy.keras", "--data", "synthetic:12"
        )
    finally:
        (run_folder / "copy.keras").unlink()


def test_bad_input_gets_one_clear_error(error_of, models, run_folder, tmp_path):
    model = models["int8"]
    folder = write_class_folders(tmp_path / "d", ["happy", "sad"])
    (tmp_path / "cut.tflite").write_bytes(model.read_bytes()[:1000])
    assert "no dataset at" in error_of("train", "cnn", "--data", tmp_path / "nothing")
    assert "unknown network 'resnet'" in error_of("train", "resnet", "--data", "synthetic")
    assert "at least 75. Received: image_size=48" in error_of(
        "train", "inception_v3", "--data", "synthetic", "--image-size", 48
    )
    assert "unknown recipe 'mine'" in error_of("train", "cnn", "--data", "synthetic", "--recipe", "mine")
    assert "does not name its subjects" in error_of("train", "cnn", "--data", folder, "--protocol", "subject")
    assert "is not a run folder" in error_of("convert", tmp_path)
    assert "no model file" in error_of("run", tmp_path / "d", "--model", "no.tflite")
    assert "truncated" in error_of("run", tmp_path / "d", "--model", tmp_path / "cut.tflite")
    assert "no image, folder or video" in error_of("run", tmp_path / "none.png", "--model", model)
    assert "unknown detector" in error_of("run", tmp_path / "d", "--model", model, "--detector", "x")
    assert "--threads takes whole numbers" in error_of("bench", model, "--threads", "1,x")
    assert "--seed takes each number once. Received: '0,1,0'" in error_of("train", "cnn", "--data", "x", "--seed", "0,1,0")
    assert "has no .tflite file" in error_of("bench", tmp_path / "d")
    assert "unknown split 'dev'" in error_of("evaluate", model, "--data", folder, "--split", "dev")
    assert "choose one of: paper, subject, official, all" in error_of(
        "evaluate", model, "--data", folder, "--protocol", "random"
    )
    assert "CLASS=LABEL" in error_of("evaluate", model, "--data", folder, "--map", "x")
    assert "have no classes to map" in error_of("train", "cnn", "--data", "synthetic", "--map", "happy=sad")
    assert "truncated" in error_of("info", tmp_path / "cut.tflite")
    assert not (tmp_path / "runs").exists()
