from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from records import PC, STATE

from fer_edge.artifacts.exported_faces import SPLITS, ExportedFaces, write_exported_faces
from fer_edge.artifacts.typed_json import read_json_lines
from fer_edge.benchmarks.baseline_features import bands, gabor, hog_cells, lbp_histograms, standardized
from fer_edge.benchmarks.baseline_tables import PUBLISHED, BaselineRecord, baselines_section
from fer_edge.benchmarks.baselines import BASELINES, main, measure_baseline, read_divided_faces
from fer_edge.benchmarks.doc_section import replace_section
from fer_edge.edge_runtime.images import write_image

for package in ("sklearn", "skimage", "hmmlearn"):
    pytest.importorskip(package)


@pytest.fixture(scope="module")
def exported():
    """Faces of three classes: a smooth pattern each, with noise and other brightness in each face. Two divisions."""
    rng = np.random.default_rng(0)
    patterns = np.kron(rng.uniform(40, 160, (3, 6, 6)), np.ones((8, 8)))
    targets = np.repeat(np.arange(3), 24)
    images = patterns[targets] + rng.normal(0, 15, (72, 48, 48)) + rng.uniform(-20, 20, (72, 1, 1))
    divisions = np.ones((2, 72), np.int8)
    divisions[0, ::4] = divisions[1, 1::4] = SPLITS.index("test")
    divisions[:, 2::8] = SPLITS.index("validation")
    return ExportedFaces(
        *("ck48", "f", ("happy", "neutral", "sad"), tuple(map(str, range(72))), images.clip(0, 255).astype(np.uint8), targets),
        *("subject", False, ("fold 0/2", "fold 1/2"), divisions),
    )


@pytest.mark.parametrize("name", BASELINES)
def test_a_method_learns_patterns_with_noise(exported, name):
    record = measure_baseline(name, exported)
    assert min(record.accuracies) > 0.8
    assert (record.train_faces, record.test_faces) == ((54, 54), (18, 18))
    assert record.model_bytes > 1000
    assert set(record.recall) == set(exported.labels)


def test_the_time_per_face_comes_from_the_clock(exported):
    ticks = count(step=3_000_000)
    assert set(measure_baseline("eigenfaces", exported, clock_ns=lambda: next(ticks)).samples_ms) == {3.0}


def test_more_training_faces_than_a_method_can_take_are_drawn_at_random(exported, monkeypatch):
    monkeypatch.setitem(BASELINES, "eigenfaces", replace(BASELINES["hog_svm"], max_faces=30))
    assert measure_baseline("eigenfaces", exported).train_faces == (30, 30)


def test_faces_without_a_division_are_rejected(exported):
    with pytest.raises(ValueError, match=r"has 0 training and .* test faces in the division 'all'\. Choose a protocol"):
        measure_baseline("hog_svm", replace(exported, divisions=np.full((1, 72), SPLITS.index("test")), runs=("all",)))


def test_features_do_not_depend_on_brightness_and_contrast():
    image = np.random.default_rng(0).integers(60, 120, (1, 48, 48), np.uint8)
    for features, tolerance in ((standardized, 1e-5), (lbp_histograms, 0), (gabor, 1e-4)):
        assert features(image * 2).shape == features(image).shape
        assert np.abs(features(image * 2) - features(image)).max() <= tolerance


def test_a_gabor_filter_of_the_direction_of_a_grating_answers_the_strongest():
    columns = np.arange(48) * 0.25 * 2 * np.pi
    grating = np.tile(127 + 100 * np.cos(columns), (48, 1)).astype(np.uint8)[None]
    strength = gabor(grating).reshape(5, 8, 36).mean(axis=2)
    assert np.unravel_index(strength.argmax(), strength.shape) == (1, 0)  # 0.25 cycles per pixel along x
    assert strength[1, 4] < 0.05 * strength[1, 0]


def test_features_have_the_documented_sizes():
    images = np.random.default_rng(0).integers(0, 256, (2, 48, 48), np.uint8)
    assert lbp_histograms(images).shape == (2, 36 * 59)
    assert hog_cells(images).shape == (2, 5 * 5 * 4 * 9)
    assert gabor(images).shape == (2, 40 * 36)
    assert bands(standardized(images)).shape == (2, 11, 24)


def record(baseline, protocol, accuracies, data="ck48", **changes):
    values = {
        "title": "LBP + SVM", "settings": "linear", "fingerprint": "f", "leaky": False, "recall": {}, "model_bytes": 2_500_000,
        "cpu_s": 1.0, "samples_ms": (1.0, 2.0, 9.0), "versions": {"scikit-learn": "1.9"}, "environment": PC, "before": STATE,
        "after": STATE, "runs": ("a",) * len(accuracies), "train_faces": (80,), "test_faces": (100,),
    }  # fmt: skip
    return BaselineRecord(baseline=baseline, data=data, protocol=protocol, accuracies=accuracies, **{**values, **changes})


def test_the_table_has_published_and_measured_figures_and_the_last_record_of_each_kind():
    records = [
        record("lbp_svm", "subject", (0.1, 0.2)),
        record("lbp_svm", "subject", (0.7, 0.8)),
        record("lbp_svm", "official", (0.5,), data="fer2013"),
    ]
    table, settings, machine = baselines_section(records).split("\n\n")
    cells = [cell.strip() for cell in table.splitlines()[2].strip("|").split("|")]
    assert cells == [
        *("LBP + SVM", "0.706, 0.847", "not measured", "0.750 (0.115 to 1.000)", "0.500 (0.404 to 0.596)", "2.50", "2.0"),
    ]
    assert settings == "- LBP + SVM: ck48: linear, 80 training faces; fer2013: linear, 80 training faces."
    assert machine == "Measured on a PC with scikit-learn 1.9."


def test_the_command_appends_records_and_writes_the_page(exported, tmp_path):
    page, records = tmp_path / "page.md", tmp_path / "records.jsonl"
    page.write_text("before\n<!-- baselines: generated -->\nold\n<!-- baselines: end -->\nafter\n")
    write_exported_faces(tmp_path / "faces.npz", exported)
    words = ["--data", str(tmp_path / "faces.npz"), "--protocol", "subject", "--baseline", "hog_svm"]
    result = CliRunner().invoke(main, [*words, "--record", str(records), "--page", str(page)])
    assert result.exit_code == 0, result.output
    (written,) = read_json_lines(BaselineRecord, records)
    assert (written.data, written.protocol, len(written.runs)) == ("ck48", "subject", 2)
    before, generated, after = page.read_text().partition(baselines_section([written]))
    assert (before, after) == ("before\n<!-- baselines: generated -->\n\n", "\n\n<!-- baselines: end -->\nafter\n")
    assert generated


def test_a_dataset_is_read_and_divided_by_the_stage_that_reads_datasets(tmp_path):
    rng = np.random.default_rng(0)
    for label in ("happy", "sad"):
        for number in range(10):
            write_image(tmp_path / label / f"{number}.png", rng.integers(0, 256, (48, 48, 3), np.uint8))
    divided = read_divided_faces(tmp_path, "paper", seeds=2)
    assert (divided.protocol, divided.runs, divided.labels) == ("paper", ("seed 0", "seed 1"), ("happy", "sad"))
    assert len(divided.in_split(1, "test")) == 4
    with pytest.raises(ValueError, match=r"no official train and test split .*Use --protocol paper or subject"):
        read_divided_faces(tmp_path, "official")


def test_a_table_needs_records_of_its_datasets():
    with pytest.raises(ValueError, match="no records of ck48 paper or ck48 subject or fer2013 official"):
        baselines_section([record("lbp_svm", "paper", (0.5,), data="own")])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "nowhere.zip", "--protocol", "paper"], "no dataset at 'nowhere.zip'"),
        (["--data", "synthetic:12", "--protocol", "subject", "--baseline", "cnn"], "unknown baseline 'cnn'; choose one of"),
        (["--data", "nowhere.npz", "--protocol", "paper"], "nowhere.npz"),
        (["--data", "synthetic:12", "--protocol", "random"], "is not one of 'paper', 'subject', 'official'"),
        (["--data", "synthetic:12", "--protocol", "paper", "--page", "page.md"], "--page needs --record"),
    ],
)
def test_wrong_arguments_are_named(words, message):
    result = CliRunner().invoke(main, words)
    assert result.exit_code > 0
    assert message in result.output


def test_a_page_without_the_comments_is_not_changed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("text\n")
    with pytest.raises(ValueError, match="needs one line '<!-- peers: generated -->'"):
        replace_section(page, "peers", "table")
    assert page.read_text() == "text\n"


def test_the_documentation_has_the_table_of_the_records():
    root = Path(__file__).parent.parent
    records = read_json_lines(BaselineRecord, root / "benchmarks/results/baselines.jsonl")
    assert baselines_section(records) in (root / "docs/peers.md").read_text()


def test_every_method_has_a_published_figure_next_to_it():
    assert list(BASELINES) == list(PUBLISHED)
