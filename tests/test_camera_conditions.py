import numpy as np
import pytest
from click.testing import CliRunner
from live import FakeClassifier

from fer_edge.artifacts.typed_json import read_json_lines
from fer_edge.benchmarks import camera_conditions
from fer_edge.benchmarks.camera_conditions import ConditionsRecord, measure_conditions
from fer_edge.benchmarks.degraded_images import CONDITIONS, FaceSquare, degrade
from fer_edge.benchmarks.portraits import read_portraits
from fer_edge.edge_runtime.detectors.detector import Detection
from fer_edge.edge_runtime.images import write_image

FACE = FaceSquare(100, 90, 80)


@pytest.fixture
def portrait():
    """A gray image of 200 pixels with fine stripes and a bright face."""
    image = np.full((200, 200, 3), 90, np.uint8)
    image[::2] += 30
    image[50:130, 60:140] += 60
    return image


def inside(image, face):
    x, y, side, _ = face.box()
    return image[y : y + side, x : x + side].astype(float)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_each_condition_is_reproducible_and_keeps_its_input(portrait, condition):
    before = portrait.copy()
    first, face = degrade(portrait, FACE, condition, seed=3)
    again, _ = degrade(portrait, FACE, condition, seed=3)
    assert np.array_equal(portrait, before)
    assert np.array_equal(first, again)
    assert first.dtype == np.uint8
    assert first.shape[2] == 3
    assert (face == FACE) == (condition not in ("small", "compressed", "noisy", "loose box"))
    assert np.array_equal(first, portrait) == (condition in ("unchanged", "loose box"))


def test_light_changes_as_its_condition_says(portrait):
    level = inside(portrait, FACE).mean()
    dark, bright = (inside(degrade(portrait, FACE, name)[0], FACE).mean() / level for name in ("dark", "overexposed"))
    assert 1 / 6 < dark < 1 / 3
    assert 1.3 < bright < 2.2
    lit = inside(degrade(portrait, FACE, "side light")[0], FACE).mean(axis=(0, 2))
    assert max(lit[:8].mean(), lit[-8:].mean()) > 3 * min(lit[:8].mean(), lit[-8:].mean())
    red, _, blue = inside(degrade(portrait, FACE, "color cast")[0], FACE).mean(axis=(0, 1))
    assert not 0.6 < red / blue < 1.7


def test_blur_removes_stripes(portrait):
    stripes = np.abs(np.diff(inside(portrait, FACE), axis=0)).mean()
    for name in ("out of focus", "small"):
        changed, face = degrade(portrait, FACE, name)
        assert np.abs(np.diff(inside(changed, face), axis=0)).mean() < 0.3 * stripes


def test_a_small_face_keeps_its_place(portrait):
    changed, face = degrade(portrait, FACE, "small")
    assert 18 <= face.side <= 28
    assert changed.shape[0] == pytest.approx(200 * face.side / 80, abs=1)
    assert face.x / changed.shape[1] == pytest.approx(0.5, abs=0.01)
    assert inside(changed, face).mean() == pytest.approx(inside(portrait, FACE).mean(), abs=5)


def test_covers_are_where_the_parts_of_a_face_are(portrait):
    rows = {}
    for name in ("sunglasses", "mask", "hand"):
        changed = degrade(portrait, FACE, name)[0] != portrait
        covered_rows = np.flatnonzero(changed.any(axis=(1, 2)))
        rows[name] = (covered_rows.min() - 50) / 80, (covered_rows.max() - 50) / 80  # fractions of the square
        assert 0.02 < changed[50:130, 60:140].mean() < 0.5
    assert rows["sunglasses"] == pytest.approx((0.29, 0.49), abs=0.03)
    assert rows["mask"][0] == pytest.approx(0.56, abs=0.03)
    assert rows["hand"][0] > 0.4


def test_an_unknown_condition_is_rejected(portrait):
    with pytest.raises(ValueError, match="unknown condition 'fog'; choose one of: unchanged, dark"):
        degrade(portrait, FACE, "fog")


class BrightDetector:
    """Finds the face of bright images only."""

    name = "haar"
    needs_gray = True

    def detect(self, image, min_face_px=32, previous_boxes=None):
        x, y, side = (round(share * image.shape[0]) for share in (0.3, 0.25, 0.4))
        return [Detection((x, y, side, side))] if image.max() > 80 else []


@pytest.fixture
def data(tmp_path, portrait):
    for label, name, image in (("happy", "a", portrait), ("angry", "b", portrait // 2 + 1), ("happy", "c", portrait // 9)):
        write_image(tmp_path / "data" / label / f"{name}.png", image)
    return tmp_path / "data"


def test_only_faces_found_in_the_unchanged_image_count(data):
    (result,) = measure_conditions(read_portraits(data), BrightDetector(), [FakeClassifier()], ("unchanged", "dark"))
    assert (result.images, result.faces) == (3, 2)
    assert set(result.correct) == {"unchanged", "dark"}
    assert result.mean_of_conditions == result.correct["dark"]


def test_a_face_that_is_not_found_again_is_wrong(data):
    portraits = read_portraits(data)
    (result,) = measure_conditions(portraits, BrightDetector(), [FakeClassifier()], ("dark",), detects_again=True)
    assert result.correct == {"dark": 0.0}


def test_the_command_prints_a_table_and_records_it(data, tmp_path, monkeypatch):
    monkeypatch.setattr(camera_conditions, "open_detector", lambda name: BrightDetector())
    monkeypatch.setattr(camera_conditions, "Classifier", lambda model: FakeClassifier())
    arguments = ["--data", str(data), "--model", "x", "--condition", "unchanged", "--condition", "mask"]
    result = CliRunner().invoke(camera_conditions.main, [*arguments, "--record", str(tmp_path / "r.jsonl")])
    assert result.exit_code == 0, result.output
    assert "2 of 3 faces found by haar" in result.output
    assert "mean without unchanged" in result.output
    (record,) = read_json_lines(ConditionsRecord, tmp_path / "r.jsonl")
    assert list(record.results[0].correct) == ["unchanged", "mask"]
    wrong = CliRunner().invoke(camera_conditions.main, [*arguments[:2], "--condition", "fog"])
    assert wrong.exit_code == 1
    assert "Error: unknown condition 'fog'" in wrong.output
    missing = CliRunner().invoke(camera_conditions.main, ["--data", str(tmp_path / "none")])
    assert "no portraits at" in missing.output
