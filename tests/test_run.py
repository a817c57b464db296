"""The command ``fer-edge run`` and the function ``stream`` with a real model."""

import json
import re
import signal
import subprocess
import sys

import pytest
from conftest import json_lines

from fer_edge.edge_runtime.cameras.files import read_frames
from fer_edge.edge_runtime.images import import_cv2, write_image
from fer_edge.train.synthetic import synthetic_image


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Five raw frames of a face, 320 x 240."""
    cv2 = import_cv2()
    scene = cv2.resize(synthetic_image("happy", seed=1), (320, 240))
    path = tmp_path_factory.mktemp("raw") / "face.rgb"
    path.write_bytes(scene.tobytes() * 5)
    return path


def command(int8_model, *arguments):
    code = "from fer_edge.main import main; main()"
    model = ("--model", str(int8_model), "--detector", "haar", "--frame-size", "320x240", "--threads", "1")
    return [sys.executable, "-c", code, "run", "-", *model, *map(str, arguments)]


def test_run_labels_raw_frames_from_standard_input(int8_model, clip):
    with clip.open("rb") as file:
        done = subprocess.run(command(int8_model, "--json", "--every-frame"), stdin=file, capture_output=True, check=True)
    lines = json_lines(done.stdout.decode())
    assert [line["frame"] for line in lines] == [0, 1, 2, 3, 4]
    assert all(line["source"] == "standard input" and len(line["faces"]) == 1 for line in lines)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_and_completes_its_files(int8_model, clip, tmp_path, number):
    outputs = ("--every-frame", "--json", "--log", tmp_path / "l.jsonl", "--record", tmp_path / "r.mp4", "--profile")
    with subprocess.Popen(
        command(int8_model, *outputs), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdin.write(clip.read_bytes())
        process.stdin.flush()
        for _ in range(5):
            process.stdout.readline()
        process.send_signal(number)  # standard input stays open: only the signal ends the run
        rest, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert rest == b""
    assert len(json_lines((tmp_path / "l.jsonl").read_text())) == 5
    assert len(list(read_frames(tmp_path / "r.mp4"))) >= 1  # in real time, so possibly a single one
    assert sorted(file.name for file in tmp_path.iterdir()) == ["l.jsonl", "r.mp4"]
    profile = json.loads(errors.decode().splitlines()[-1])
    assert (profile["captured"], profile["processed"], profile["dropped"]) == (5, 5, 0)
    assert profile["stages"]["classify"]["runs"] == 5


def test_run_rejects_options_that_do_not_fit_the_source(error_of, int8_model, tmp_path):
    write_image(tmp_path / "a.png", synthetic_image("happy", seed=1))
    common = ("--model", int8_model, "--detector", "haar")
    assert "--save annotates files" in error_of("run", "-", "--save", tmp_path / "x", *common)
    assert "--record is for live sources" in error_of("run", tmp_path / "a.png", "--record", tmp_path / "x.mp4", *common)
    assert "a recording must be an .mp4 file" in error_of("run", "-", "--record", tmp_path / "x.avi", *common)
    assert "the YuNet model was not found: no file 'no.onnx'" in error_of("run", "-", *common[:2], "--detector", "no.onnx")
    assert "no camera at /dev/video99" in error_of("run", "/dev/video99", *common)
    message = error_of("run", "--serve", tmp_path / "a.png", *common)
    assert f"Put the source first: fer-edge run {tmp_path / 'a.png'} --serve" in message


def test_the_help_of_run_groups_its_options(invoke):
    text = invoke("run", "--help").stdout
    titles = re.findall(r"^(?!Usage)(\S.*):$", text, re.MULTILINE)
    assert titles == ["Source", "Detector", "Model", "Smoothing", "Outputs", "Privacy and network", "Options"]
    outputs = text.partition("\nOutputs:\n")[2].partition("\nPrivacy and network:\n")[0]
    assert re.findall(r"^  (--\S+)", outputs, re.MULTILINE) == ["--json", "--csv", "--log", "--save", "--record", "--profile"]
    assert text.count("\n    fer-edge run ") == 2


@pytest.mark.parametrize("frames", [0, -1])
def test_max_frames_must_be_positive(invoke, frames):
    result = invoke("run", "-", "--max-frames", frames)
    assert result.exit_code == 2
    assert f"Invalid value for '--max-frames': {frames} is not in the range x>=1" in result.stderr


def test_stream_labels_a_folder_in_three_lines(int8_model, tmp_path):
    import fer_edge

    write_image(tmp_path / "a.png", synthetic_image("happy", seed=1))
    labels = []
    for frame in fer_edge.stream(tmp_path, int8_model, detector="haar"):
        labels += [face.label for face in frame.faces]
    assert len(labels) == 1
