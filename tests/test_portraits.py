import zipfile

import numpy as np
import pytest
from click.testing import CliRunner
from live import FakeClassifier, flat_image

from fer_edge.artifacts.typed_json import read_json_lines
from fer_edge.benchmarks import portraits
from fer_edge.benchmarks.portraits import PortraitsRecord, measure_portraits, read_portraits
from fer_edge.edge_runtime.detectors.detection import Detection
from fer_edge.edge_runtime.find_model import find_model
from fer_edge.edge_runtime.images import write_image

HEAD = (10, 10, 44, 44)


class ScriptedDetector:
    """Finds the head in images that are not black, and a collar in the brightest."""

    name = "haar"
    needs_gray = True

    def detect(self, image, min_face_px=32, previous_boxes=None):
        self.shape = image.shape
        if image.max() == 0:
            return []
        return [Detection(HEAD)] + [Detection((30, 50, 12, 12))] * int(image.max() > 250)


@pytest.fixture
def data(tmp_path):
    for label, name, value in (("happy", "a", 255), ("happy", "b", 0), ("happy", "c", 20), ("angry", "d", 30)):
        write_image(tmp_path / "data" / label / f"{name}.png", flat_image(value))
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        for path in (tmp_path / "data").rglob("*.png"):
            archive.write(path, path.relative_to(tmp_path / "data"))
        archive.writestr("README.txt", "text")
    return tmp_path


def test_a_missed_face_counts_as_wrong_and_other_boxes_as_additional(data):
    result = measure_portraits(read_portraits(data / "data.zip"), ScriptedDetector(), FakeClassifier())
    assert (result.images, result.found, result.additional_per_image) == (4, 0.75, 0.25)
    assert result.correct == 0.5  # a and d; b is missed, c is dark and so not happy
    assert result.recall == {"angry": 1.0, "happy": pytest.approx(1 / 3)}
    assert result.portraits_per_class == {"angry": 1, "happy": 3}
    assert (result.detector, result.model, result.tight_found) == ("haar", "fake.tflite", None)


def test_tight_crops_are_cut_at_the_found_boxes(data):
    detector = ScriptedDetector()
    result = measure_portraits(read_portraits(data / "data"), detector, FakeClassifier(), tight=True)
    assert (result.tight_images, result.tight_found) == (3, 1.0)
    assert result.tight_additional_per_image == pytest.approx(1 / 3)
    assert 44 <= detector.shape[0] <= 53  # 1.0 to 1.2 times the box


def test_a_box_counts_as_the_head_only_if_it_is_large_and_covers_the_center():
    assert portraits.is_head((100, 100, 200, 200), 350, 350)
    assert not portraits.is_head((150, 150, 60, 60), 350, 350)
    assert not portraits.is_head((0, 0, 150, 150), 350, 350)


def test_the_program_prints_a_table_and_appends_a_record(data):
    arguments = ["--data", str(data / "data.zip"), "--detector", "none", "--model", "cnn_nano"]
    record = data / "portraits.jsonl"
    result = CliRunner().invoke(portraits.main, [*arguments, "--record", str(record)])
    assert result.output.splitlines()[2].split()[:4] == ["none", find_model("cnn_nano").name, "1.0000", "0.0000"]
    (read,) = read_json_lines(PortraitsRecord, record)
    assert (read.data, read.results[0].found) == ("data", 1.0)


@pytest.mark.parametrize(
    ("name", "message"),
    [("none.zip", "no portraits at"), ("bad.zip", "is not a zip"), ("empty", "no images in class folders")],
)
def test_wrong_data_is_rejected(data, name, message):
    (data / "bad.zip").write_bytes(b"not a zip")
    (data / "empty").mkdir()
    result = CliRunner().invoke(portraits.main, ["--data", str(data / name), "--detector", "none"])
    assert result.exit_code == 1
    assert message in result.output


def test_a_model_without_the_label_of_a_class_is_rejected(tmp_path):
    write_image(tmp_path / "bored" / "a.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="has no label for the portraits' classes bored; its labels: angry, happy, sad"):
        measure_portraits(read_portraits(tmp_path), ScriptedDetector(), FakeClassifier())
