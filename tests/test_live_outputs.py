import csv
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import json_lines
from live import LABELS, flat_image, labeled

from fer_edge.edge_runtime.cameras.source import read_frames
from fer_edge.edge_runtime.images import import_cv2, write_image
from fer_edge.edge_runtime.live.stats import PipelineStats
from fer_edge.edge_runtime.outputs import video
from fer_edge.edge_runtime.outputs.open import OutputSettings, open_outputs
from fer_edge.edge_runtime.outputs.output import as_json_line
from fer_edge.edge_runtime.outputs.text import CsvFormatter, LineWriter, LogFile, StatusLine
from fer_edge.edge_runtime.outputs.video import VideoRecorder
from fer_edge.train.synthetic import synthetic_image


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_live_frame_s_json_has_its_time_and_its_faces_numbers():
    (line,) = json_lines(as_json_line(labeled(7, capture_time_s=12.3456)))
    assert (line["frame"], line["time"]) == (7, 12.346)
    assert line["faces"][0]["face"] == 1
    assert line["faces"][0]["label"] == "happy"


def test_csv_has_one_header_and_one_row_a_face():
    lines = CsvFormatter(LABELS)
    text = "\n".join([lines(labeled(0)), lines(labeled(1, capture_time_s=5.0))])
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["frame"] for row in rows] == ["0", "1"]
    assert [row["time"] for row in rows] == ["", "5.000"]
    assert float(rows[0]["happy"]) == pytest.approx(0.9)


def test_a_terminal_shows_one_line_that_is_written_over():
    file = Terminal()
    line = StatusLine(file, PipelineStats())
    for number in range(3):
        line.write(labeled(number, capture_time_s=float(number)))
    line.close(True)
    assert file.getvalue().count("\r") == 3
    assert file.getvalue().count("\n") == 1
    assert "happy 90%" in file.getvalue()


def test_a_terminal_is_not_written_to_for_every_frame():
    file = Terminal()
    line = StatusLine(file, PipelineStats())
    for number in range(100):
        line.write(labeled(number, capture_time_s=number / 100))
    assert file.getvalue().count("\r") <= 11


def test_elsewhere_a_live_line_comes_when_the_label_changes():
    file = io.StringIO()
    line = StatusLine(file, PipelineStats())
    for number, happy in enumerate((0.9, 0.8, 0.1, 0.1, 0.9)):
        line.write(labeled(number, happy=happy, capture_time_s=float(number)))
    assert len(file.getvalue().splitlines()) == 3


def test_a_log_goes_on_after_a_line_that_a_kill_cut_short(tmp_path):
    path = tmp_path / "log.jsonl"
    log = LogFile(path, LABELS)
    log.write(labeled(0))
    log.close(True)
    path.write_text(path.read_text() + '{"source": "fa')
    log = LogFile(path, LABELS)
    log.write(labeled(1))
    log.close(True)
    first, cut, second = path.read_text().splitlines()
    assert json.loads(first)["frame"] == 0
    assert cut == '{"source": "fa'
    assert json.loads(second)["frame"] == 1


def test_a_csv_log_gets_its_header_once(tmp_path):
    for number in range(2):
        log = LogFile(tmp_path / "log.csv", LABELS)
        log.write(labeled(number))
        log.close(True)
    rows = list(csv.DictReader((tmp_path / "log.csv").open()))
    assert [row["frame"] for row in rows] == ["0", "1"]
    with pytest.raises(ValueError, match=r"a .jsonl or .csv file. Received: 'log.txt'"):
        LogFile("log.txt", LABELS)


def test_a_csv_log_of_other_columns_is_refused_and_stays_as_it_was(tmp_path):
    path = tmp_path / "log.csv"
    log = LogFile(path, LABELS)
    log.write(labeled(0))
    log.close(True)
    before = path.read_text()
    message = r"other columns.*Expected: '.*happy,calm'. Received: '.*angry,happy,sad'. Choose another file"
    with pytest.raises(ValueError, match=message):
        LogFile(path, ("happy", "calm"))
    assert path.read_text() == before


def test_a_full_disk_ends_the_log_and_nothing_else(tmp_path):
    told = []
    path = tmp_path / "log.jsonl"
    path.symlink_to("/dev/full")
    log = LogFile(path, LABELS, told.append)
    for number in range(3):
        log.write(labeled(number))
    log.close(True)
    assert told == [f"the log '{path}' ends here: No space left on device"]


def test_a_process_killed_while_it_writes_json_lines_loses_at_most_the_last_one(tmp_path):
    path = tmp_path / "log.jsonl"
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from live import LABELS, labeled\n"
        "from fer_edge.edge_runtime.outputs.text import LogFile\n"
        "log = LogFile(sys.argv[2], LABELS)\n"
        "for number in range(10**9):\n"
        "    log.write(labeled(number))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(Path(__file__).parent), str(path)])
    while not path.exists() or path.stat().st_size < 100_000:
        time.sleep(0.01)
        assert process.poll() is None
    process.kill()
    process.wait()
    *whole, last = path.read_text().split("\n")
    assert [json.loads(line)["frame"] for line in whole] == list(range(len(whole)))
    assert "\n" not in last


def test_a_recording_keeps_real_time_whatever_was_dropped(tmp_path):
    path = tmp_path / "r.mp4"
    recording = VideoRecorder(path)
    for number in (0, 1, 2, 10, 11, 500):  # at 10 frames a second: a gap of 0.8 s, and one that is cut to 2 s
        recording.write(labeled(number, capture_time_s=number / 10))
    assert not path.exists()
    recording.close(True)
    assert len(list(read_frames(path))) == 12 + 20
    assert [file.name for file in tmp_path.iterdir()] == ["r.mp4"]


def test_a_recording_takes_frames_of_changing_size(tmp_path):
    recording = VideoRecorder(tmp_path / "r.mp4")
    for number, side in enumerate((64, 200, 31)):
        recording.write(labeled(number, capture_time_s=number / 10, width=side, height=side))
    recording.close(True)
    assert {frame.pixels.shape for frame in read_frames(tmp_path / "r.mp4")} == {(64, 64, 3)}


def test_a_full_disk_ends_the_recording_and_nothing_else(tmp_path, monkeypatch):
    told = []
    recording = VideoRecorder(tmp_path / "r.mp4", told.append)
    for number in range(20):
        recording.write(labeled(number, capture_time_s=number / 10))
    monkeypatch.setattr(video.shutil, "disk_usage", lambda path: os.statvfs_result([0] * 10) and type("U", (), {"free": 0}))
    for number in range(20, 60):
        recording.write(labeled(number, capture_time_s=number / 10))
    recording.close(True)
    assert len(told) == 1
    assert "the disk is nearly full" in told[0]
    assert len(list(read_frames(tmp_path / "r.mp4"))) == 30  # the frame at which it was noticed


def test_a_recording_of_8k_holds_its_frames(tmp_path):
    recording = VideoRecorder(tmp_path / "r.mp4")
    for number in range(2):
        recording.write(labeled(number, value=200, capture_time_s=number / 10, width=7680, height=4320))
    recording.close(True)
    frames = list(read_frames(tmp_path / "r.mp4"))
    assert [frame.pixels.shape for frame in frames] == [(4320, 7680, 3)] * 2
    assert abs(int(frames[0].pixels[3000, 3000, 0]) - 200) < 5


def lose(monkeypatch, frames):
    """Let the index of a video count fewer frames than were written, as after a full disk."""
    count = video._count_frames
    monkeypatch.setattr(video, "_count_frames", lambda path: max(0, count(path) - frames))


def test_a_recording_with_frames_missing_is_kept_and_says_how_many_it_holds(tmp_path, monkeypatch):
    lose(monkeypatch, 1)
    recording = VideoRecorder(tmp_path / "r.mp4")
    for number in range(5):
        recording.write(labeled(number, capture_time_s=number / 10))
    with pytest.raises(OSError, match=r"r.mp4' contains 4 of 5 frames: is the disk full"):
        recording.close(True)
    assert len(list(read_frames(tmp_path / "r.mp4"))) == 5
    recording.close(True)


def test_a_recording_that_cannot_be_read_at_all_leaves_nothing(tmp_path, monkeypatch):
    lose(monkeypatch, 99)
    recording = VideoRecorder(tmp_path / "r.mp4")
    recording.write(labeled(0, capture_time_s=0.0))
    with pytest.raises(OSError, match="is incomplete"):
        recording.close(True)
    assert list(tmp_path.iterdir()) == []


def test_a_copy_with_frames_missing_is_not_kept_because_it_can_be_made_again(tmp_path, monkeypatch):
    lose(monkeypatch, 1)
    writer = video.AtomicVideoWriter(tmp_path / "v.mp4", 25, (64, 64))
    for _ in range(5):
        writer.write(flat_image())
    with pytest.raises(OSError, match="is incomplete"):
        writer.finish()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_whose_video_is_short_too_is_told_once_and_the_run_goes_on(tmp_path, monkeypatch):
    told = []
    recording = VideoRecorder(tmp_path / "r.mp4", told.append)
    for number in range(15):
        recording.write(labeled(number, capture_time_s=number / 10))
    lose(monkeypatch, 2)
    monkeypatch.setattr(video.shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    recording.write(labeled(15, capture_time_s=1.5))
    recording.close(True)
    (line,) = told
    assert "the disk is nearly full" in line
    assert "contains 13 of 15 frames" in line


def test_an_output_that_cannot_be_closed_costs_no_other_its_file(tmp_path, monkeypatch):
    def fail(self, complete):
        raise OSError("no space left")

    monkeypatch.setattr(LogFile, "close", fail)
    pipeline = SimpleNamespace(live=True, labels=LABELS, stats=PipelineStats())
    settings = OutputSettings(log=tmp_path / "l.jsonl", record=tmp_path / "r.mp4")
    with (
        pytest.raises(OSError, match="no space left"),
        open_outputs(pipeline, "fake", settings, threading.Event()) as outputs,
    ):
        for output in outputs:
            output.write(labeled(0, capture_time_s=0.0))
    assert len(list(read_frames(tmp_path / "r.mp4"))) == 1


def test_outputs_that_are_open_are_closed_when_a_later_one_cannot_be(tmp_path, monkeypatch):
    closed = []
    monkeypatch.setattr(LogFile, "close", lambda self, complete: closed.append(complete))
    pipeline = SimpleNamespace(live=True, labels=LABELS, stats=PipelineStats())
    settings = OutputSettings(log=tmp_path / "l.jsonl", record=tmp_path / "r.avi")
    with pytest.raises(ValueError, match="a recording must be an"), open_outputs(pipeline, "fake", settings, threading.Event()):
        pass
    assert closed == [False]


def test_lines_are_out_at_once(tmp_path):
    with (tmp_path / "out").open("w") as file:
        LineWriter(as_json_line, file).write(labeled())
        assert json_lines((tmp_path / "out").read_text())[0]["frame"] == 0


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Five raw frames of a face, 320 x 240."""
    cv2 = import_cv2()
    scene = cv2.resize(synthetic_image("happy", seed=1), (320, 240))
    path = tmp_path_factory.mktemp("raw") / "face.rgb"
    path.write_bytes(scene.tobytes() * 5)
    return path


def command(models, *arguments):
    code = "from fer_edge.main import main; main()"
    model = ("--model", str(models["int8"]), "--detector", "haar", "--frame-size", "320x240", "--threads", "1")
    return [sys.executable, "-c", code, "run", "-", *model, *map(str, arguments)]


def test_raw_frames_are_labelled_from_standard_input(models, clip):
    with clip.open("rb") as file:
        done = subprocess.run(command(models, "--json", "--every-frame"), stdin=file, capture_output=True, check=True)
    lines = json_lines(done.stdout.decode())
    assert [line["frame"] for line in lines] == [0, 1, 2, 3, 4]
    assert all(line["source"] == "standard input" and len(line["faces"]) == 1 for line in lines)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_and_leaves_its_files_whole(models, clip, tmp_path, number):
    outputs = ("--every-frame", "--json", "--log", tmp_path / "l.jsonl", "--record", tmp_path / "r.mp4", "--profile")
    with subprocess.Popen(
        command(models, *outputs), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdin.write(clip.read_bytes())
        process.stdin.flush()
        for _ in range(5):
            process.stdout.readline()
        process.send_signal(number)  # standard input stays open: only the signal can end it
        rest, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert rest == b""
    assert len(json_lines((tmp_path / "l.jsonl").read_text())) == 5
    assert len(list(read_frames(tmp_path / "r.mp4"))) >= 1  # as long as it really took, so it may be one
    assert sorted(file.name for file in tmp_path.iterdir()) == ["l.jsonl", "r.mp4"]
    profile = json.loads(errors.decode().splitlines()[-1])
    assert (profile["captured"], profile["processed"], profile["dropped"]) == (5, 5, 0)
    assert profile["stages"]["classify"]["runs"] == 5


def test_run_says_what_does_not_go_together(error_of, models, tmp_path):
    write_image(tmp_path / "a.png", synthetic_image("happy", seed=1))
    common = ("--model", models["int8"], "--detector", "haar")
    assert "--save annotates files" in error_of("run", "-", "--save", tmp_path / "x", *common)
    assert "--record is for live sources" in error_of("run", tmp_path / "a.png", "--record", tmp_path / "x.mp4", *common)
    assert "a recording must be an .mp4 file" in error_of("run", "-", "--record", tmp_path / "x.avi", *common)
    assert "the YuNet model was not found: no file 'no.onnx'" in error_of("run", "-", *common[:2], "--detector", "no.onnx")
    assert "no camera at /dev/video99" in error_of("run", "/dev/video99", *common)
    told = error_of("run", "--serve", tmp_path / "a.png", *common)
    assert f"Put the source first: fer-edge run {tmp_path / 'a.png'} --serve" in told


@pytest.mark.parametrize("frames", [0, -1])
def test_a_number_of_frames_that_would_never_be_reached_is_refused(invoke, frames):
    result = invoke("run", "-", "--max-frames", frames)
    assert result.exit_code == 2
    assert f"Invalid value for '--max-frames': {frames} is not in the range x>=1" in result.stderr


def test_the_python_api_is_three_lines(models, tmp_path):
    import fer_edge

    write_image(tmp_path / "a.png", synthetic_image("happy", seed=1))
    labels = []
    for frame in fer_edge.stream(tmp_path, models["int8"], detector="haar"):
        labels += [face.label for face in frame.faces]
    assert len(labels) == 1
