import zipfile

import numpy as np
import pytest
from live import FakeClassifier, FakeDetector

from fer_edge.benchmarks import detection_benchmark as full_pictures
from fer_edge.benchmarks import label_stability as flicker
from fer_edge.benchmarks import synthetic_scenes as scenes
from fer_edge.benchmarks.soak import LOST_EVERY, LoopedClip, broken_bounds
from fer_edge.edge_runtime.cameras.camera import CameraError
from fer_edge.edge_runtime.cameras.source import read_frames
from fer_edge.edge_runtime.detectors.detector import Detection
from fer_edge.edge_runtime.images import write_image


def bright(value=255):
    return np.full((48, 48), value, np.uint8)


@pytest.fixture
def data(tmp_path):
    for part in ("train", "test"):
        for label, value in (("happy", 250), ("sad", 20), ("other", 90)):
            write_image(tmp_path / "d" / part / label / f"{part}.png", bright(value))
    return tmp_path / "d"


def test_crops_come_from_one_part_of_a_folder_or_a_zip_and_only_of_known_labels(data, tmp_path):
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        for file in data.rglob("*.png"):
            archive.write(file, file.relative_to(data))
    for path in (data, tmp_path / "d.zip"):
        crops = scenes.read_crops(path, "test", ("happy", "sad"))
        assert [(crop.label, int(crop.face[0, 0])) for crop in crops] == [("happy", 250), ("sad", 20)]
    with pytest.raises(ValueError, match="no pictures in folders named happy"):
        scenes.read_crops(data, "validation", ("happy",))


def test_a_pasted_face_stands_where_its_box_is():
    scene = np.zeros((200, 300), np.uint8)
    pasted = scenes.paste(scene, bright(), (120, 90), 60, 0)
    x, y, width, height = scenes.box_of((120, 90), 60)
    assert (x, y, width, height) == (90, 60, 60, 60)
    assert pasted[y + 4 : y + height - 4, x + 4 : x + width - 4].min() > 250
    rows, columns = np.nonzero(pasted > 128)
    assert abs((columns.min() + columns.max()) / 2 - 119.5) <= 1
    assert abs(rows.max() - rows.min() - 58) <= 4
    assert scene.max() == 0  # the scene itself is not changed


def test_the_same_seed_gives_the_same_scenes():
    crops = [scenes.LabeledCrop(str(k), "happy", bright(k)) for k in range(5)]
    first, second = (full_pictures.make_scenes(crops, 3, seed=4) for _ in range(2))
    assert [scene.crop.name for scene in first] == [scene.crop.name for scene in second]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(first, second, strict=True))
    assert all(scene.box[0] >= 0 and scene.box[0] + scene.box[2] <= 640 for scene in first)


def test_full_pictures_count_what_was_found_and_what_was_not_there():
    crops = [scenes.LabeledCrop("a", "happy", bright())] * 4

    class Detector(FakeDetector):
        def detect(self, picture, min_face_px=32, previous_boxes=None):
            self.calls += 1
            own, other = Detection(made[self.calls - 1].box), Detection((0, 0, 9, 9))
            return [other] if self.calls == 4 else [own, other]

    made = full_pictures.make_scenes(crops, 4)
    row = full_pictures.measure_detector(Detector(), FakeClassifier(), made)
    assert (row["pictures"], row["found"], row["detection_rate"]) == (4, 3, 0.75)
    assert row["false_per_picture"] == 1.0
    assert row["accuracy"]["original"] == 1.0


class Flickering(FakeClassifier):
    """Changes its mind at every frame."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def predict(self, face):
        self.calls += 1
        return super().predict(np.full((2, 2), 160 if self.calls % 2 else 70, np.uint8))


def test_flicker_is_counted_in_changes_a_second():
    crops = [scenes.LabeledCrop("a", "happy", bright())]
    found = flicker.measure_flicker(crops, FakeDetector((235, 155, 170, 170)), Flickering())
    assert found["faces"] == 1
    assert found["raw"]["changes_per_second"] > 25
    assert found["smooth"]["changes_per_second"] < 2


def test_lag_is_counted_from_the_first_frame_of_the_new_face():
    crops = [scenes.LabeledCrop("a", "happy", bright(255)), scenes.LabeledCrop("b", "angry", bright(10))]
    found = flicker.measure_lag(crops, FakeDetector((245, 165, 150, 150)), FakeClassifier())
    assert found["pairs"] == 1
    assert found["raw"]["p50_frames"] == 1
    assert 3 < found["smooth"]["p50_frames"] < 20


def test_a_clip_has_as_many_frames_as_it_was_asked_for_and_the_looped_one_is_lost_now_and_then(tmp_path):
    scenes.write_clip(tmp_path / "c.avi", bright(), 6)
    assert len(list(read_frames(tmp_path / "c.avi"))) == 6
    camera = LoopedClip(tmp_path / "c.avi", 2 * LOST_EVERY)
    given = [camera.read() is not None for _ in range(LOST_EVERY)]
    assert given.count(False) == 1
    with pytest.raises(CameraError):
        camera.open()


def soak_record(**changes):
    record = {
        "steady": {
            "frames": 100, "log_lines": 100, "lost": 3, "reopened": 3, "growth_bytes": 900_000, "threads_left_over": 0,
            "handles_left_over": 0,
        },
        "full_disk": {"told": ["the disk is nearly full"], "frames_readable": 330, "files": ["r.mp4"]},
        "twenty_viewers": {"viewers_0": {"processed": 300}, "viewers_20": {"processed": 299}},
    }  # fmt: skip
    for path, value in changes.items():
        part, name = path.split("__")
        record[part][name] = value
    return record


def test_a_soak_in_which_all_is_well_breaks_no_bound():
    assert broken_bounds(soak_record()) == []
    assert broken_bounds(soak_record(steady__reopened=2)) == []  # the clip ended with a loss
    assert broken_bounds({**soak_record(), "full_disk": None}) == []


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ({"steady__growth_bytes": 5_000_001}, "memory grew by 5000001 bytes"),
        ({"steady__threads_left_over": 1}, "1 threads left over"),
        ({"steady__handles_left_over": 2}, "2 file handles left over"),
        ({"steady__log_lines": 99}, "100 frames labeled, 99 in the log"),
        ({"steady__reopened": 1}, "3 losses, back after 1"),
        ({"full_disk__frames_readable": 0}, "full disk"),
        ({"full_disk__files": ["r.mp4", ".half.mp4"]}, "full disk"),
        ({"twenty_viewers__viewers_20": {"processed": 280}}, "20 viewers: 280 frames labeled, 300 without"),
    ],
)
def test_a_soak_tells_each_bound_that_does_not_hold(broken, told):
    (line,) = broken_bounds(soak_record(**broken))
    assert told in line
