import json
import time
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from conftest import json_lines
from live import FakeCamera, FakeClassifier, FakeDetector, flat_image

from fer_edge.artifacts.latency_records import MachineState
from fer_edge.artifacts.typed_json import from_data
from fer_edge.benchmarks import faults, label_stability, soak, steady_run
from fer_edge.benchmarks import synthetic_scenes as scenes
from fer_edge.benchmarks.faults import FRAMES_PER_LOSS, LoopedClip
from fer_edge.benchmarks.steady_run import Sample, SteadyRun
from fer_edge.edge_runtime.cameras.camera import CameraError
from fer_edge.edge_runtime.cameras.files import read_frames
from fer_edge.edge_runtime.cameras.source import LiveSource
from fer_edge.edge_runtime.images import write_image
from fer_edge.edge_runtime.live.pipeline import Pipeline, PipelineSettings
from fer_edge.edge_runtime.outputs.text import LogFile
from fer_edge.edge_runtime.outputs.video import VideoRecorder
from fer_edge.labeled_crops import read_crops


def bright(value=255):
    return np.full((48, 48), value, np.uint8)


def test_crops_come_from_one_split_and_only_with_known_labels(tmp_path):
    for split in ("train", "test"):
        for label, value in (("happy", 250), ("sad", 20), ("fear", 90)):
            write_image(tmp_path / "d" / split / label / f"{split}.png", bright(value))
    crops = read_crops(str(tmp_path / "d"), "test", ("happy", "sad"))
    assert [(crop.label, int(crop.face[0, 0])) for crop in crops] == [("happy", 250), ("sad", 20)]
    with pytest.raises(ValueError, match="has no faces with the labels happy"):
        read_crops(str(tmp_path / "d"), "validation", ("happy",))


def test_a_pasted_face_is_where_its_box_is():
    scene = np.zeros((200, 300), np.uint8)
    pasted = scenes.paste(scene, bright(), (120, 90), 60, 0)
    x, y, width, height = scenes.box_of((120, 90), 60)
    assert (x, y, width, height) == (90, 60, 60, 60)
    assert pasted[y + 4 : y + height - 4, x + 4 : x + width - 4].min() > 250
    rows, columns = np.nonzero(pasted > 128)
    assert abs((columns.min() + columns.max()) / 2 - 119.5) <= 1
    assert abs(rows.max() - rows.min() - 58) <= 4
    assert scene.max() == 0  # the scene itself is not changed


def test_images_without_a_face_are_of_every_kind_and_the_same_for_a_seed():
    images = scenes.face_free_images(6, seed=3, size=(64, 48))
    assert all(image.shape == (48, 64, 3) and image.std() > 5 for image in images)
    again = scenes.face_free_images(6, seed=3, size=(64, 48))
    assert all(np.array_equal(a, b) for a, b in zip(images, again, strict=True))


class Flickering(FakeClassifier):
    """Changes its label with every frame."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def predict(self, face):
        self.calls += 1
        return super().predict(np.full((2, 2), 160 if self.calls % 2 else 70, np.uint8))


def test_flicker_is_counted_in_changes_per_second():
    crops = [scenes.LabeledCrop("a", "happy", bright())]
    result = label_stability.measure_flicker(crops, FakeDetector((235, 155, 170, 170)), Flickering())
    assert result.faces == 1
    assert result.changes_per_second["raw"] > 25
    assert result.changes_per_second["smooth"] < 2


def test_lag_is_counted_from_the_first_frame_of_the_new_face():
    crops = [scenes.LabeledCrop("a", "happy", bright(255)), scenes.LabeledCrop("b", "angry", bright(10))]
    result = label_stability.measure_lag(crops, FakeDetector((245, 165, 150, 150)), FakeClassifier())
    assert result.pairs == 1
    assert result.p50_frames["raw"] == 1
    assert 3 < result.p50_frames["smooth"] < 20


def test_a_clip_has_the_requested_number_of_frames_and_the_looped_camera_is_lost_at_intervals(tmp_path):
    scenes.write_clip(tmp_path / "c.avi", bright(), 6)
    assert len(list(read_frames(tmp_path / "c.avi"))) == 6
    camera = LoopedClip(tmp_path / "c.avi", 2 * FRAMES_PER_LOSS)
    frames = [camera.read() is not None for _ in range(FRAMES_PER_LOSS)]
    assert frames.count(False) == 1
    with pytest.raises(CameraError):
        camera.open()


STATE = MachineState(None, None, 0.1)
STEADY = SteadyRun(
    exit_status=0, seconds=60.0, frames=100, log_lines=100, lost=3, reopened=3, label_changes=40, preview_frames=800,
    stubborn_connections=3, broker_restarts=3, mqtt_messages=90, tracebacks=0,
    samples=(Sample(5_000, 1, 1, 1), Sample(10_000, 90_000_000, 20, 9), Sample(15_000, 90_900_000, 24, 10)),
)  # fmt: skip
DISK = soak.FullDisk(messages=("the disk is nearly full",), frames_readable=330, files=("r.mp4",))


def violations(disk=DISK, watched=299, jumped=299, **changes):
    alone, with_viewers, with_jumps = (soak.Watched(frames, 0, 1.0) for frames in (300, watched, jumped))
    steady = replace(STEADY, **changes)
    return soak.violations(
        soak.SoakRecord("soak", "m.tflite", None, STATE, disk, alone, with_viewers, with_jumps, steady, STATE)
    )


def test_a_soak_test_that_passes_violates_no_limit():
    assert violations() == []
    assert violations(reopened=2) == []  # the clip ended with a loss
    assert violations(disk=None) == []
    assert violations(broker_restarts=None, mqtt_messages=None) == []
    assert violations(samples=STEADY.samples[:1]) == []  # a short run


def after_warmup(**values):
    start, grown = STEADY.samples[1:]
    return {"samples": (start, replace(grown, **values))}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"exit_status": -9}, "exit status -9"),
        ({"tracebacks": 1}, "1 tracebacks"),
        (after_warmup(memory_bytes=95_000_001), "memory grew by 5000001 bytes"),
        (after_warmup(threads=12), "3 more threads"),
        (after_warmup(handles=29), "9 more file handles"),
        ({"log_lines": 99}, "100 frames labeled, 99 in the log"),
        ({"reopened": 1}, "3 losses, reopened 1 times"),
        ({"preview_frames": 58}, "58 preview frames in 60 s"),
        ({"preview_frames": 916}, "916 preview frames in 60 s"),
        ({"mqtt_messages": 102}, "102 MQTT messages, 40 label changes, 60 s"),
        ({"mqtt_messages": 2}, "2 MQTT messages"),
        ({"disk": replace(DISK, frames_readable=0)}, "full disk"),
        ({"disk": replace(DISK, files=("r.mp4", ".half.mp4"))}, "full disk"),
        ({"watched": 280}, "20 viewers: 280 frames labeled, 300 without"),
        ({"jumped": 280}, "clock jumps: 280 frames labeled, 300 without"),
    ],
)
def test_a_soak_test_names_each_violated_limit(changes, message):
    (line,) = violations(**changes)
    assert message in line


def test_memory_that_varies_has_not_grown_and_a_leak_has():
    varying = [107_000_000 + 8_000_000 * (number % 3 == 1) for number in range(40)]
    leaking = [value + 175_000 * number for number, value in enumerate(varying)]  # 7 MB in all
    values = {"varying": varying, "leaking": leaking}
    runs = {
        name: replace(STEADY, samples=tuple(Sample(5000 * (number + 2), value, 15, 9) for number, value in enumerate(memory)))
        for name, memory in values.items()
    }
    assert runs["varying"].growth("memory_bytes") == 0
    assert runs["leaking"].growth("memory_bytes") == pytest.approx(30 * 175_000, rel=0.05)
    assert violations(samples=runs["varying"].samples) == []
    assert violations(samples=runs["leaking"].samples) != []


def test_the_newest_record_of_the_soak_test_violates_no_limit():
    path = Path(__file__).parent.parent / "benchmarks/results/soak.jsonl"
    record = from_data(soak.SoakRecord, json.loads(path.read_text().splitlines()[-1]))
    assert record.steady.frames >= 200_000
    assert soak.violations(record) == []


def test_the_soak_test_drives_the_command_with_losses_viewers_and_a_broker(int8_model, tmp_path, monkeypatch):
    pytest.importorskip("aiohttp", reason="aiohttp is not installed: pip install 'fer-edge[serve]'")
    monkeypatch.setattr(faults, "FRAMES_PER_LOSS", 20)
    monkeypatch.setattr(steady_run, "FRAMES_PER_SAMPLE", 10)
    scenes.write_clip(tmp_path / "c.avi", bright(), 6)
    steady = steady_run.run_steadily(int8_model, tmp_path / "c.avi", 30, tmp_path)
    assert (steady.exit_status, steady.log_lines, steady.reopened, steady.tracebacks) == (0, 30, 1, 0)
    assert steady.lost in (1, 2)  # the camera may be 20 frames ahead at the end
    assert steady.samples[0].frames >= 10
    assert steady.samples[0].threads >= 3
    assert steady.preview_frames > 0
    assert steady.stubborn_connections >= 1


def test_a_clock_that_jumps_changes_neither_labels_nor_the_length_of_a_recording(tmp_path):
    images = [flat_image(200)] * 110
    logs = {}
    for name, clock in (("steady", nullcontext()), ("jumping", faults.clock_jumps())):
        source = LiveSource(FakeCamera(images, reconnects=False))
        pipeline = Pipeline(source, FakeDetector(), FakeClassifier(), PipelineSettings(every_frame=True))
        log = LogFile(tmp_path / f"{name}.jsonl", pipeline.labels)
        recorder = VideoRecorder(tmp_path / f"{name}.mp4")
        start = time.monotonic()
        with clock:
            for labeled_frame in pipeline:
                log.write(labeled_frame)
                recorder.write(labeled_frame)
        seconds = time.monotonic() - start
        log.close(True)
        recorder.close(True)
        logs[name] = json_lines((tmp_path / f"{name}.jsonl").read_text())
        assert len(list(read_frames(tmp_path / f"{name}.mp4"))) <= 30 * seconds + 2
    times = [line["time"] for line in logs["jumping"]]
    steps = [later - earlier for earlier, later in pairwise(times)]
    assert [round(step / faults.DAY_S) for step in steps if abs(step) > 1000] == [1, -1]
    assert [[face["label"] for face in line["faces"]] for line in logs["jumping"]] == [["happy"]] * 110
