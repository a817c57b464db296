import csv
import io
from dataclasses import replace

import pytest
from records import converted, evaluation, latency, training

from fer_edge.artifacts.contract import read_contract
from fer_edge.benchmarks.paper.comparison_page import AXIS, compare_networks, comparison_page, draw_networks, newest_series
from fer_edge.benchmarks.paper.paper_results import PUBLISHED
from fer_edge.benchmarks.paper.paper_tables import paper_tables
from fer_edge.benchmarks.paper.series import all_series, compared_runs, series_csv
from fer_edge.edge_runtime.find_model import bundled_models


def tables(trainings, evaluations=(), source="mine.jsonl"):
    return paper_tables(compared_runs(trainings, evaluations), trainings, evaluations, source)


def rows_of(text, title):
    section = text.split(f"## {title}")[1].split("##")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("|")][2:]


def series_of(trainings, evaluations=()):
    return all_series(compared_runs(trainings, evaluations))


def csv_rows(trainings, evaluations=()):
    return list(csv.DictReader(io.StringIO(series_csv(series_of(trainings, evaluations), (), evaluations))))


ACCURACY, LOSS = "Accuracy (published table 5)", "Loss (published table 6)"
SCORES, RELATED = "Precision, recall and F1 (published table 7)", "Related work (published table 8)"


def test_the_published_metrics_are_next_to_the_means_of_ours():
    text = tables([training("paper", 0.9), training("paper", 0.94, seed=1), converted(training("subject", 0.8), 0.79)])
    cnn, vgg16 = rows_of(text, ACCURACY)[:2]
    assert cnn[:4] == ["CNN", "0.9783", "0.9797", "0.9800"]
    assert cnn[6] == "0.9200 ± 0.0283 (0.6659 to 1.0000, 2 runs)"
    assert cnn[7:] == ["not measured", "0.8000", "0.7900"]
    assert set(vgg16[4:]) == {"not measured"}
    assert rows_of(text, LOSS)[0][-1] == "0.2000"
    assert rows_of(text, SCORES)[0][-1] == "0.7000"
    assert rows_of(text, RELATED)[-1] == ["CNN, ours", "CK+48", "80.00", "subject"]
    assert len(rows_of(text, ACCURACY)) == len(PUBLISHED)


def test_the_text_names_the_file_of_the_records():
    text = tables([training("paper", 0.9)], source="mine.jsonl")
    assert "`mine.jsonl`" in text
    assert "benchmarks/results" not in text


def test_int8_files_have_a_row_below_that_of_their_runs():
    runs = [
        converted(training("subject", accuracy, fold=fold, folds=3, digest=f"fold {fold}"), 0.5)
        for fold, accuracy in enumerate((0.9, 0.8, 0.7))
    ]
    one = evaluation(0.5, loss=0.4, digest="fold 1", protocol="subject 1/3")
    others = [
        replace(one, digest="fold 2"),  # the test faces of another fold
        replace(one, precision="float16"),
        replace(one, data="fer2013"),
        replace(one, split="validation"),
        replace(one, warning="the model was trained with another split (subject, seed 1): it has seen some of these faces"),
        replace(one, network="cnn_nano", digest="a network that is not compared"),
    ]
    leaky = "leaky split: 1 test images have pixel-identical copies in training"
    inflated = evaluation(0.5, loss=0.2, digest="fold 0", protocol="subject 0/3", warning=leaky)
    narrow = training("subject", 0.9, fold=1, folds=3, network="cnn_nano", digest="a network that is not compared")
    text = tables([*runs, narrow], [*others, one, inflated])
    loss = rows_of(text, LOSS)[1]
    assert (loss[0], loss[5], loss[6].split(" (")[0]) == ("CNN, int8", "not measured", "0.3000 ± 0.1414")
    scores = rows_of(text, SCORES)[1]
    assert [cell.split(" ")[0] for cell in scores[8:]] == ["0.5000", "0.5000", "0.4000", "0.4000"]
    assert len(rows_of(text, "Models measured on other data or splits, and ensembles")) == len(others)
    assert "int8" not in tables(runs).split("## Loss")[1].split("## Related")[0]


def test_runs_with_other_initial_weights_are_not_averaged():
    text = tables([training("paper", 0.9), training("paper", 0.98, weights="cnn-fer2013")])
    assert [(row[0], row[6]) for row in rows_of(text, ACCURACY)[:2]] == [("CNN 1", "0.9000"), ("CNN 2", "0.9800")]
    assert [(row[0], row[5]) for row in rows_of(text, "Our configurations")] == [("CNN 1", "none"), ("CNN 2", "cnn-fer2013")]


def test_initial_models_with_one_name_are_distinguished_by_digest():
    runs = [
        training("paper", accuracy, weights="cnn-fer2013", parents=(digest,))
        for accuracy, digest in ((0.9, "0123456789"), (0.98, "abcdef0123"))
    ]
    text = tables(runs)
    assert [row[6] for row in rows_of(text, ACCURACY)[:2]] == ["0.9000", "0.9800"]
    sources = [row[5] for row in rows_of(text, "Our configurations")]
    assert sources == ["cnn-fer2013 (01234567)", "cnn-fer2013 (abcdef01)"]


def test_the_csv_has_a_row_per_configuration_data_and_protocol():
    trainings = [
        training("paper", 0.9),
        training("paper", 0.94, seed=1),
        training("subject", 0.7, recipe="edge"),
        training("official", 0.6, data="fer2013", recipe="edge"),
        training("official", 0.5, data="fer2013", recipe="edge", parameters=800_000),
    ]
    rows = [(row["data"], row["protocol"], row["parameters"], row["runs"], row["test_accuracy"]) for row in csv_rows(trainings)]
    assert rows == [
        ("ck48", "paper", "900000", "2", "0.9200"),
        ("ck48", "subject", "900000", "1", "0.7000"),
        ("fer2013", "official", "900000", "1", "0.6000"),
        ("fer2013", "official", "800000", "1", "0.5000"),
    ]


def test_runs_with_other_settings_have_separate_rows():
    mild, strong = ("mixup=0.2",), ("mixup=0.3",)
    settings = {"data": "fer2013", "recipe": "edge-changed"}
    runs = [
        training("official", 0.5, seed=0, changes=mild, **settings),
        training("official", 0.6, seed=1, changes=mild, **settings),
        training("official", 0.7, seed=2, changes=strong, **settings),
        training("official", 0.8, seed=3, changes=mild, image_size=64, **settings),
        training("official", 0.9, seed=4, changes=mild, parents=(None, "another model"), teachers=("a",), **settings),
    ]
    rows = [(row["recipe"], row["test_accuracy"]) for row in csv_rows(runs)]
    assert rows == [
        ("edge with mixup=0.2", "0.5500"),
        ("edge with mixup=0.3", "0.7000"),
        ("edge with mixup=0.2", "0.8000"),
        ("edge with mixup=0.2", "0.9000"),
    ]


def folds(accuracy, count=10, **settings):
    return [training("subject", accuracy, fold=fold, folds=10, digest=f"{accuracy}{fold}", **settings) for fold in range(count)]


def test_the_page_shows_the_complete_series_that_was_recorded_last_not_the_best():
    trainings = folds(0.9, weights="a") + folds(0.8, weights="b") + folds(0.95, count=3, weights="c")
    chosen = newest_series(series_of(trainings), "cnn", "subject")
    assert (chosen.mean().mean, len(chosen.runs)) == (pytest.approx(0.8), 10)
    incomplete = newest_series(series_of(folds(0.95, count=3)), "cnn", "subject")
    assert len(incomplete.runs) == 3
    assert newest_series(series_of(trainings), "vgg16", "subject") is None
    assert newest_series(series_of(trainings), "cnn", "paper") is None


def test_the_page_has_six_rows_and_names_what_was_not_measured():
    rows = compare_networks(series_of(folds(0.9)), {}, [])
    text = comparison_page(rows, "c.png", "d.md")
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [row[0] for row in cells] == ["CNN", "VGG16", "InceptionV3", "MobileNetV2", "DenseNet121", "cnn_nano"]
    assert cells[0][1:] == ["0.980", "not measured", "0.900 (0.900 to 0.900)", *["not measured"] * 3]
    assert cells[5][1:] == ["-", *["not measured"] * 5]


def test_the_page_counts_the_results_that_started_from_fer2013_models():
    weights = "models/cnn_fer2013_int8.tflite"
    fine_tuned = folds(0.9, weights=weights)
    for paper, count in ((training("paper", 0.9, weights=weights), "All 2"), (training("paper", 0.9), "1 of the 2")):
        trainings = [*fine_tuned, paper]
        text = comparison_page(compare_networks(series_of(trainings), {}, []), "c.png", "d.md")
        assert f"{count} results in these two columns started from our FER2013 models" in text


def test_size_and_latency_are_those_of_the_bundled_file():
    path = bundled_models()["cnn_nano_fer2013"]
    earlier = latency(samples=(9.0,), file=path.name)
    timed = [earlier, latency(file=path.name), latency(samples=(9.0,), file=path.name, num_threads=2)]
    row = compare_networks([], {"cnn_nano": path}, timed)[-1]
    metrics = read_contract(path).metrics
    assert (row.p50_ms, row.file_bytes, row.int8_faces) == (2.0, path.stat().st_size, metrics.faces)
    assert row.int8_change == pytest.approx(metrics.after.accuracy - metrics.before.accuracy)


@pytest.mark.parametrize("accuracy", [0.96, 0.7])
def test_every_mark_has_a_label_in_the_color_of_its_kind(accuracy):
    (axes,) = draw_networks(compare_networks(series_of([training("paper", accuracy)]), {}, [])).axes
    labels = {text.get_text(): text.get_color() for text in axes.texts}
    assert labels["published 0.980"] != labels[f"ours, published protocol, 1 run {accuracy:.3f}"]
    assert {line.get_color() for line in axes.lines} <= set(labels.values())
    assert axes.get_legend() is None
    assert all(line.get_xdata()[0] >= AXIS[0] for line in axes.lines)
