import hashlib
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from live import FakeClassifier

from fer_edge.artifacts.contract import BoxTransform
from fer_edge.artifacts.typed_json import append_json_lines, read_json_lines
from fer_edge.benchmarks import detection_sets
from fer_edge.benchmarks.detection_benchmark import DetectionSets, benchmark_detectors, detection_tables
from fer_edge.benchmarks.detection_figure import MISSED, detection_figure
from fer_edge.benchmarks.detection_photos import MARKS_FILE, Photo, read_photos
from fer_edge.benchmarks.marked_images import (
    MarkedFace,
    MarkedImage,
    Part,
    Search,
    count_false,
    in_convention,
    match,
    measure_set,
    size_part,
)
from fer_edge.benchmarks.portraits import Portrait
from fer_edge.benchmarks.synthetic_scenes import CropSource, LabeledCrop, to_gray
from fer_edge.edge_runtime.detectors.detection import Detection
from fer_edge.edge_runtime.detectors.detector import open_detector
from fer_edge.edge_runtime.images import read_image, write_image
from fer_edge.train.synthetic import synthetic_image


def gray_face(value=220, side=48):
    return np.full((side, side), value, np.uint8)


CROPS = [LabeledCrop(str(k), "happy", gray_face(200 + k)) for k in range(8)]


class BrightDetector:
    """Finds the largest bright square, and a false face at the corner."""

    name, needs_gray, looks = "haar", True, 0

    def detect(self, image, min_face_px=32, previous_boxes=None):
        rows, columns = np.nonzero(image.min(axis=2) > 195)
        if not len(rows):
            return [Detection((0, 0, 9, 9))]
        side = int(columns.max() - columns.min())
        return [Detection((int(columns.min()), int(rows.min()), side, side)), Detection((0, 0, 9, 9))]


def test_each_face_is_matched_with_one_detection_the_best_overlap_first():
    faces = [(0, 0, 100, 100), (300, 0, 100, 100), (600, 0, 100, 100)]
    boxes = [(30, 0, 100, 100), (5, 0, 100, 100), (390, 0, 100, 100), (600, 0, 60, 60)]
    assert match(boxes, faces) == {0: 1, 2: 3}  # the overlap of the second is too small
    assert count_false(boxes, {1, 3}, []) == 2
    assert count_false(boxes, {1, 3}, [(400, 20, 90, 90)]) == 1


def test_a_box_is_compared_in_the_convention_of_the_training_crops():
    assert in_convention((100, 100, 80, 80), BoxTransform(1.5, 0.0, -0.25)) == (80, 60, 120, 120)


@pytest.mark.parametrize(
    ("side", "part"), [(40, "below 60 px"), (60, "60 to 90 px"), (209, "140 to 210 px"), (300, "300 px and more")]
)
def test_faces_are_counted_by_size(side, part):
    assert size_part(side) == part


def test_the_result_of_a_set_counts_faces_false_detections_labels_and_parts():
    scene = np.zeros((200, 300, 3), np.uint8)
    scene[50:150, 100:200] = 220
    images = [
        MarkedImage("found", lambda: scene, (MarkedFace((98, 50, 100, 100), ("profile",), "happy"),)),
        MarkedImage("missed", lambda: scene, (MarkedFace((0, 100, 80, 80), (), "sad"),), ((0, 0, 50, 50),)),
    ]
    searches = {"bright": Search("haar", BrightDetector().detect), "blind": Search("haar", lambda image: [])}
    results = measure_set(images, searches, FakeClassifier())
    result = results["bright"]
    assert (result.images, result.faces, result.found, result.false_per_image) == (2, 2, 1, 1.0)
    assert result.parts == {"60 to 90 px": Part(1, 0), "90 to 140 px": Part(1, 1), "profile": Part(1, 1)}
    assert (result.correct, result.accuracy) == (0.5, 1.0)
    assert result.iou == pytest.approx(0.96, abs=0.02)
    assert (results["blind"].found, results["blind"].correct, results["blind"].accuracy) == (0, 0.0, None)


def test_scenes_are_the_same_each_time_and_their_faces_are_inside():
    first, second = (detection_sets.scene_sets(CROPS, 3, 2) for _ in range(2))
    assert list(first) == ["faces", "turned 30 degrees", "half covered", "dark", "several faces"]
    assert [len(images) for images in first.values()] == [3, 2, 2, 2, 2]
    for name, images in first.items():
        for image, again in zip(images, second[name], strict=True):
            assert np.array_equal(image.read(), again.read())
            assert all(x >= 0 and y >= 0 and x + w <= 641 and y + h <= 481 for x, y, w, h in (f.box_px for f in image.faces))
    assert all(len(image.faces) >= 2 for image in first["several faces"])
    assert first["dark"][0].read().mean() < 40 < first["faces"][0].read().mean()


def test_a_half_covered_face_keeps_the_other_half():
    face = np.arange(48 * 48, dtype=np.int64).reshape(48, 48).astype(np.uint8)
    covered = detection_sets.half_covered(face, np.random.default_rng(0))
    assert np.count_nonzero(covered == face) == pytest.approx(48 * 48 / 2, rel=0.02)
    assert face[30, 30] != 0  # the face itself is not changed
    assert np.array_equal(face, np.arange(48 * 48, dtype=np.int64).reshape(48, 48).astype(np.uint8))


def test_portraits_are_cut_tight_and_their_heads_pasted():
    image = np.full((350, 350, 3), 230, np.uint8)
    sets = detection_sets.portrait_sets([Portrait("a.jpg", "happy", lambda: image)], 1)
    (portrait,), (tight,), (head,) = sets["portraits"], sets["tight crops"], sets["heads"]
    assert portrait.faces[0].box_px == (28, 24, 294, 294)
    assert 294 <= tight.read().shape[0] <= 353
    x, y, side, _ = tight.faces[0].box_px
    assert x >= 0 and y >= 0 and x + side <= tight.read().shape[1] + 1
    x, y, side, _ = head.faces[0].box_px
    assert head.read()[y + side // 2, x + side // 2].min() > 220
    assert head.read().shape == (480, 640, 3)


def photo(path, **changes):
    marks = Photo(
        "owner/name", "0" * 40, "a/b.png", "CC0-1.0", hashlib.sha256(path.read_bytes()).hexdigest(), 1280, 960,
        (MarkedFace((200, 100, 240, 240), ("profile",)), MarkedFace((800, 100, 100, 100))), ((0, 0, 60, 60),),
    )  # fmt: skip
    return replace(marks, **changes)


def test_photos_are_found_by_content_reduced_and_small_faces_ignored(tmp_path):
    (tmp_path / "photos").mkdir()
    write_image(tmp_path / "photos" / "renamed.png", np.zeros((960, 1280, 3), np.uint8))
    append_json_lines(tmp_path / "marks.jsonl", [photo(tmp_path / "photos" / "renamed.png")])
    (marked,) = read_photos(tmp_path / "photos", tmp_path / "marks.jsonl")
    assert marked.read().shape == (480, 640, 3)
    assert marked.faces == (MarkedFace((100, 50, 120, 120), ("profile",)),)
    assert marked.ignored_px == ((0, 0, 30, 30), (400, 50, 50, 50))


def test_missing_photos_are_named(tmp_path):
    write_image(tmp_path / "a.png", np.zeros((96, 128, 3), np.uint8))
    append_json_lines(tmp_path / "marks.jsonl", [photo(tmp_path / "a.png"), photo(tmp_path / "a.png", sha256="f" * 64)])
    with pytest.raises(FileNotFoundError, match=r"(?s)1 of 2 photos are not in .*owner/name: a/b\.png"):
        read_photos(tmp_path, tmp_path / "marks.jsonl")
    with pytest.raises(FileNotFoundError, match=r"no folder .*none"):
        read_photos(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"no marks in .*in the repository of fer-edge"):
        read_photos(tmp_path, tmp_path / "none.jsonl")


def test_the_marks_name_200_photos_with_large_faces_of_free_licenses():
    if not MARKS_FILE.is_file():
        pytest.skip("the installed package has no marks")
    photos = read_json_lines(Photo, MARKS_FILE)
    assert len({photo.sha256 for photo in photos}) == len(photos)
    assert {photo.license for photo in photos} <= {"CC0-1.0", "CC-BY-3.0", "CC-BY-4.0", "BSD-3-Clause"}
    scales = [min(1, 640 / photo.width, 480 / photo.height) for photo in photos]
    large = [any(face.box_px[2] * scale >= 60 for face in p.faces) for p, scale in zip(photos, scales, strict=True)]
    assert sum(large) >= 200
    for marked in photos:
        for x, y, width, height in (face.box_px for face in marked.faces):
            assert 0 < x + width / 2 < marked.width
            assert 0 < y + height / 2 < marked.height


def test_the_benchmark_has_one_row_per_set_and_one_column_per_detector(monkeypatch):
    monkeypatch.setattr(detection_sets, "FACE_FREE_IMAGES", 6)
    image = np.zeros((480, 640, 3), np.uint8)
    photos = [MarkedImage("a", lambda: image, (MarkedFace((0, 0, 70, 70), ("covered",)),)), MarkedImage("b", lambda: image)]
    sets = DetectionSets(CROPS, (), photos, 2, 1)
    record = benchmark_detectors(sets, {"haar": BrightDetector()}, FakeClassifier(), CropSource("m", "d", "test"))
    assert record.what == "detection_sets"
    assert record.detectors["haar"].sets["photos, no face"].false_per_image == 1.0
    assert record.detectors["haar"].looks_per_scene is None
    text = detection_tables(record)
    assert "haar" in text.splitlines()[0]
    rows = [" ".join(line.split()) for line in text.splitlines()]
    assert "photos, covered, found % 1 0.0" in rows
    assert "photos, no face, false per image 1 1.000" in rows


def test_the_figure_shows_scenes_in_which_the_detector_is_right_and_in_which_it_errs(tmp_path, invoke):
    class Half:
        """Finds the faces in every second scene, and nothing else."""

        name = "none"

        def __init__(self):
            self.inner, self.calls = open_detector("own"), 0

        def detect(self, image, min_face_px=32, previous_boxes=None):
            self.calls += 1
            return self.inner.detect(image, min_face_px) if self.calls % 2 else []

    face = to_gray(synthetic_image("happy", 0)[110:370, 190:450])
    crops = [LabeledCrop("happy", "happy", face)] * 6
    figure, scenes, wrong = detection_figure(Half(), BoxTransform(), crops)
    assert figure.shape == (3 * 244 - 4, 4 * 324 - 4, 3)
    assert scenes == 6 * 40
    assert wrong >= 5 * 20  # the images without a face are right
    panels = [figure[244 * (k // 4) :][:240, 324 * (k % 4) :][:, :320] for k in range(12)]
    missed = [np.abs(panel.astype(int) - MISSED).max(axis=2).min() < 60 for panel in panels]
    assert not any(missed[:6])
    assert all(missed[6:])
    never = detection_figure(SimpleNamespace(detect=lambda image, size: [Detection((0, 0, 60, 60))]), BoxTransform(), crops)
    assert never[1:] == (6 * 40, 6 * 40)
    result = invoke("dev", "detection-figure", tmp_path / "figure.jpg")
    assert result.exit_code == 0
    assert "own errs in" in result.stdout
    assert read_image(tmp_path / "figure.jpg").shape == figure.shape
