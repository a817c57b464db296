import csv
import io
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import json_lines
from live import LABELS, FakeClassifier, FakeDetector, FakeSource, flat_image, frame, labeled, prediction

from fer_edge.edge_runtime.cameras.files import read_frames
from fer_edge.edge_runtime.live.pipeline import LabeledFace, Pipeline
from fer_edge.edge_runtime.live.stats import PipelineStats
from fer_edge.edge_runtime.outputs import video
from fer_edge.edge_runtime.outputs.open import OutputSettings, open_outputs, write_outputs
from fer_edge.edge_runtime.outputs.output import as_json_line, label_with_percent
from fer_edge.edge_runtime.outputs.text import CsvFormatter, LineWriter, LogFile, StatusLine
from fer_edge.edge_runtime.outputs.video import VideoRecorder


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_json_of_a_live_frame_has_the_time_and_the_face_number():
    (line,) = json_lines(as_json_line(labeled(7, capture_time_s=12.3456)))
    assert (line["frame"], line["time"]) == (7, 12.346)
    assert line["faces"][0]["face"] == 1
    assert line["faces"][0]["label"] == "happy"


def test_the_json_of_a_face_has_the_two_most_probable_labels_and_their_margin():
    (line,) = json_lines(as_json_line(labeled(happy=0.9)))
    (face,) = line["faces"]
    assert list(face) == ["face", "box_px", "score", "label", "probability", "unsure", "top_labels", "margin", "probabilities"]
    assert (face["top_labels"], face["margin"], face["unsure"]) == (["happy", "angry"], pytest.approx(0.84), False)


def test_an_image_shows_that_its_label_is_unsure_and_a_video_shows_only_the_label():
    image = LabeledFace((0, 0, 9, 9), prediction(0.34), unsure=True)
    assert label_with_percent(image) == "angry 40% (unsure)"
    assert label_with_percent(replace(image, prediction=image.prediction._replace(label="unsure"))) == "unsure 40%"


def test_csv_has_one_header_and_one_row_per_face():
    lines = CsvFormatter(LABELS)
    text = "\n".join([lines(labeled(0)), lines(labeled(1, capture_time_s=5.0))])
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["frame"] for row in rows] == ["0", "1"]
    assert [row["time"] for row in rows] == ["", "5.000"]
    assert float(rows[0]["happy"]) == pytest.approx(0.9)


def test_a_terminal_shows_one_line_that_is_overwritten():
    file = Terminal()
    line = StatusLine(file, PipelineStats())
    for number in range(3):
        line.write(labeled(number, capture_time_s=float(number)))
    line.close(True)
    assert file.getvalue().count("\r") == 3
    assert file.getvalue().count("\n") == 1
    assert "happy 90%" in file.getvalue()


def test_a_terminal_is_not_updated_for_every_frame():
    file = Terminal()
    line = StatusLine(file, PipelineStats())
    for number in range(100):
        line.write(labeled(number, capture_time_s=number / 100))
    assert file.getvalue().count("\r") <= 11


def test_a_file_gets_a_status_line_when_the_label_changes():
    file = io.StringIO()
    line = StatusLine(file, PipelineStats())
    for number, happy in enumerate((0.9, 0.8, 0.1, 0.1, 0.9)):
        line.write(labeled(number, happy=happy, capture_time_s=float(number)))
    assert len(file.getvalue().splitlines()) == 3


def test_a_log_continues_after_an_incomplete_line(tmp_path):
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


def test_a_csv_log_with_other_columns_is_rejected_and_unchanged(tmp_path):
    path = tmp_path / "log.csv"
    log = LogFile(path, LABELS)
    log.write(labeled(0))
    log.close(True)
    before = path.read_text()
    message = r"other columns.*Expected: '.*happy,calm'. Received: '.*angry,happy,sad'. Choose another file"
    with pytest.raises(ValueError, match=message):
        LogFile(path, ("happy", "calm"))
    assert path.read_text() == before


def test_a_full_disk_ends_only_the_log(tmp_path):
    messages = []
    path = tmp_path / "log.jsonl"
    path.symlink_to("/dev/full")
    log = LogFile(path, LABELS, messages.append)
    for number in range(3):
        log.write(labeled(number))
    log.close(True)
    assert messages == [f"the log '{path}' ends here: No space left on device"]


def test_a_killed_process_loses_at_most_the_last_json_line(tmp_path):
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


def test_a_recording_keeps_real_time_if_frames_are_dropped(tmp_path):
    path = tmp_path / "r.mp4"
    recording = VideoRecorder(path)
    for number in (0, 1, 2, 10, 11, 500):  # 10 frames per second, a gap of 0.8 s, and one that is cut to 2 s
        recording.write(labeled(number, capture_time_s=number / 10))
    assert not path.exists()
    recording.close(True)
    assert len(list(read_frames(path))) == 12 + 20
    assert [file.name for file in tmp_path.iterdir()] == ["r.mp4"]


def test_a_recording_resizes_frames_to_the_first_size(tmp_path):
    recording = VideoRecorder(tmp_path / "r.mp4")
    for number, side in enumerate((64, 200, 31)):
        recording.write(labeled(number, capture_time_s=number / 10, width=side, height=side))
    recording.close(True)
    assert {frame.pixels.shape for frame in read_frames(tmp_path / "r.mp4")} == {(64, 64, 3)}


def test_a_full_disk_ends_only_the_recording(tmp_path, monkeypatch):
    messages = []
    recording = VideoRecorder(tmp_path / "r.mp4", messages.append)
    for number in range(20):
        recording.write(labeled(number, capture_time_s=number / 10))
    monkeypatch.setattr(video.shutil, "disk_usage", lambda path: os.statvfs_result([0] * 10) and type("U", (), {"free": 0}))
    for number in range(20, 60):
        recording.write(labeled(number, capture_time_s=number / 10))
    recording.close(True)
    assert len(messages) == 1
    assert "the disk is nearly full" in messages[0]
    assert len(list(read_frames(tmp_path / "r.mp4"))) == 30  # the next check of the disk


def test_an_8k_recording_contains_its_frames(tmp_path):
    recording = VideoRecorder(tmp_path / "r.mp4")
    for number in range(2):
        recording.write(labeled(number, value=200, capture_time_s=number / 10, width=7680, height=4320))
    recording.close(True)
    frames = list(read_frames(tmp_path / "r.mp4"))
    assert [frame.pixels.shape for frame in frames] == [(4320, 7680, 3)] * 2
    assert abs(int(frames[0].pixels[3000, 3000, 0]) - 200) < 5


def lose_frames(monkeypatch, frames):
    """Make the index of a video lack frames, as after a full disk."""
    count = video._count_frames
    monkeypatch.setattr(video, "_count_frames", lambda path: max(0, count(path) - frames))


def test_a_recording_with_missing_frames_is_kept_and_counted(tmp_path, monkeypatch):
    lose_frames(monkeypatch, 1)
    recording = VideoRecorder(tmp_path / "r.mp4")
    for number in range(5):
        recording.write(labeled(number, capture_time_s=number / 10))
    with pytest.raises(OSError, match=r"r.mp4' contains 4 of 5 frames: is the disk full"):
        recording.close(True)
    assert len(list(read_frames(tmp_path / "r.mp4"))) == 5
    recording.close(True)


def test_an_unreadable_recording_is_removed(tmp_path, monkeypatch):
    lose_frames(monkeypatch, 99)
    recording = VideoRecorder(tmp_path / "r.mp4")
    recording.write(labeled(0, capture_time_s=0.0))
    with pytest.raises(OSError, match="is incomplete"):
        recording.close(True)
    assert list(tmp_path.iterdir()) == []


def test_an_annotated_copy_with_missing_frames_is_removed(tmp_path, monkeypatch):
    lose_frames(monkeypatch, 1)
    writer = video.AtomicVideoWriter(tmp_path / "v.mp4", 25, (64, 64))
    for _ in range(5):
        writer.write(flat_image())
    with pytest.raises(OSError, match="is incomplete"):
        writer.finish()
    assert list(tmp_path.iterdir()) == []


def test_a_recording_without_a_frame_leaves_no_file_and_keeps_an_earlier_one(tmp_path, monkeypatch):
    monkeypatch.setattr(video.shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    messages = []
    for name in ("new.mp4", "earlier.mp4"):
        (tmp_path / "earlier.mp4").write_bytes(b"a recording")
        recording = VideoRecorder(tmp_path / name, messages.append)
        recording.write(labeled(0, capture_time_s=0.0))
        recording.close(True)
    assert [path.name for path in tmp_path.iterdir()] == ["earlier.mp4"]
    assert (tmp_path / "earlier.mp4").read_bytes() == b"a recording"
    assert len(messages) == 2
    VideoRecorder(tmp_path / "never_started.mp4").close(True)
    assert not (tmp_path / "never_started.mp4").exists()


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from live import flat_image
from fer_edge.edge_runtime.outputs.video import AtomicVideoWriter
from pathlib import Path
video = AtomicVideoWriter(Path(sys.argv[2]), 25, (64, 64))
video.write(flat_image())
print(flush=True)
sys.stdin.readline()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_file_of_a_killed_recording_is_removed_at_the_next_start_but_not_that_of_a_running_one(tmp_path):
    others = [".hidden.mp4", ".12345678-x.png", ".1234567-x.mp4", "12345678-x.mp4", "x.mp4"]
    for name in others:
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / ".12345678-folder.mp4").mkdir()
    arguments = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(tmp_path / "r.mp4")]
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdout.readline()  # it records
    (running,) = tmp_path.glob(".*-r.mp4")
    messages = []
    VideoRecorder(tmp_path / "other.mp4", messages.append)
    assert running.exists()
    process.communicate(b"\n")
    VideoRecorder(tmp_path / "other.mp4", messages.append)
    assert messages == [f"removed '{running}', left by a run that was killed"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*others, ".12345678-folder.mp4"])


def test_a_recording_survives_the_start_of_another_one_while_it_is_completed(tmp_path, monkeypatch):
    fsync = os.fsync

    def start_another(descriptor):
        VideoRecorder(tmp_path / "other.mp4")
        fsync(descriptor)

    recording = VideoRecorder(tmp_path / "r.mp4")
    recording.write(labeled(0, capture_time_s=0.0))
    monkeypatch.setattr("fer_edge.artifacts.atomic_write.os.fsync", start_another)
    recording.close(True)
    assert len(list(read_frames(tmp_path / "r.mp4"))) == 1


def test_annotated_copies_remove_the_files_of_a_killed_run(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".0123abcd-fake.mp4").write_bytes(b"x")
    write_outputs(video_pipeline(), "fake", OutputSettings(save=tmp_path / "out"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["fake.mp4"]


def test_a_full_disk_and_missing_frames_give_one_message(tmp_path, monkeypatch):
    messages = []
    recording = VideoRecorder(tmp_path / "r.mp4", messages.append)
    for number in range(15):
        recording.write(labeled(number, capture_time_s=number / 10))
    lose_frames(monkeypatch, 2)
    monkeypatch.setattr(video.shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    recording.write(labeled(15, capture_time_s=1.5))
    recording.close(True)
    (line,) = messages
    assert "the disk is nearly full" in line
    assert "contains 13 of 15 frames" in line


def test_outputs_are_closed_if_closing_another_fails(tmp_path, monkeypatch):
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


def test_outputs_are_closed_if_opening_a_later_one_fails(tmp_path, monkeypatch):
    closed = []
    monkeypatch.setattr(LogFile, "close", lambda self, complete: closed.append(complete))
    pipeline = SimpleNamespace(live=True, labels=LABELS, stats=PipelineStats())
    settings = OutputSettings(log=tmp_path / "l.jsonl", record=tmp_path / "r.avi")
    with pytest.raises(ValueError, match="a recording must be an"), open_outputs(pipeline, "fake", settings, threading.Event()):
        pass
    assert closed == [False]


def video_pipeline(frames=5):
    source = FakeSource([frame(number) for number in range(frames)])
    return Pipeline(source, FakeDetector(), FakeClassifier())


def test_write_outputs_stops_after_max_frames(capsys, tmp_path):
    settings = OutputSettings(text_format="json", log=tmp_path / "l.csv", save=tmp_path / "out")
    assert write_outputs(video_pipeline(), "fake", settings, max_frames=3) == [tmp_path / "out" / "fake.mp4"]
    assert [line["frame"] for line in json_lines(capsys.readouterr().out)] == [0, 1, 2]
    assert len((tmp_path / "l.csv").read_text().splitlines()) == 1 + 3
    assert len(list(read_frames(tmp_path / "out"))) == 3


def test_an_interrupted_run_discards_its_unfinished_video(tmp_path):
    interrupted = threading.Event()
    interrupted.set()
    assert write_outputs(video_pipeline(), "fake", OutputSettings(save=tmp_path / "out"), interrupted=interrupted) == []
    assert list((tmp_path / "out").iterdir()) == []


def test_lines_are_flushed_at_once(tmp_path):
    with (tmp_path / "out").open("w") as file:
        LineWriter(as_json_line, file).write(labeled())
        assert json_lines((tmp_path / "out").read_text())[0]["frame"] == 0
