"""The report of bench as an HTML page, and its plot as an image."""

from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from records import PC, latency, measured_accuracy

from fer_edge.artifacts.metrics import classification_metrics
from fer_edge.benchmarks.latency_tables import derive_row
from fer_edge.benchmarks.plain_ticks import plain_ticks
from fer_edge.benchmarks.plots import board_markers, check_plot, free_place, plot_rows
from fer_edge.benchmarks.report_entries import float_change, float_entry, report_entries
from fer_edge.benchmarks.row_names import row_names

LABELS = ("happy", "sad")


def accuracy(correct, labels=LABELS):
    """An accuracy on faces of two classes in turn; ``correct`` has a character per face."""
    targets = np.arange(len(correct)) % 2
    right = np.array([character == "1" for character in correct])
    probabilities = np.eye(2, dtype=np.float32)[np.where(right, targets, 1 - targets)]
    metrics = classification_metrics(probabilities, targets, labels)
    return measured_accuracy(metrics.accuracy, metrics=metrics, correct=correct, faces_digest="d")


def record(precision="int8", ms=1.0, correct="1110", board="a PC", network="cnn", labels=LABELS, **changes):
    times = np.random.default_rng(0).normal(ms, 0.01 * ms, 50).tolist()
    made = latency(network, None, times, precision=precision, measured_accuracy=accuracy(correct, labels), **changes)
    return replace(made, file=f"{network}_{precision}.tflite", environment=replace(PC, board=board))


def pairs(*records):
    return [(derive_row(one), one) for one in records]


class Elements(HTMLParser):
    """Collects the tags, attributes and visible text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text, self._hidden = [], [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self._hidden = tag in ("script", "style")

    def handle_endtag(self, tag):
        self._hidden = False

    def handle_data(self, data):
        if not self._hidden and data.strip():
            self.text.append(data.strip())


@pytest.fixture
def report(tmp_path):
    pytest.importorskip("bokeh", reason="bokeh is not installed: pip install 'fer-edge[bench]'")
    from fer_edge.benchmarks.report_page import write_report

    def write(*records):
        write_report(pairs(*records), tmp_path / "report.html")
        return tmp_path / "report.html"

    return write


def test_names_are_as_short_as_is_unique_on_a_board():
    rows = [derive_row(one) for one in (record(), record(board="a Pi"), record("float32"))]
    assert row_names(rows) == ["cnn int8", "cnn int8", "cnn float32"]
    other = replace(record(), file="other.tflite")
    assert row_names([derive_row(record()), derive_row(other)]) == ["cnn_int8", "other"]
    threads = [derive_row(record(num_threads=count)) for count in (1, 2)]
    assert row_names(threads) == ["cnn_int8, threads 1, xnnpack", "cnn_int8, threads 2, xnnpack"]


def test_a_quantized_file_is_compared_with_float32_of_the_same_network_and_board():
    base, small = record("float32", 4.0, "1111" * 20), record("int8", 1.0, "1110" * 20)
    entries = report_entries(pairs(base, small, record(board="a Pi")))
    assert float_entry(entries[0], entries) is None
    assert float_entry(entries[1], entries) is entries[0]
    assert float_entry(entries[2], entries) is None
    change = float_change(entries[1], entries[0])
    assert change.speed.value == pytest.approx(0.25, abs=0.01)
    assert change.accuracy == -0.25
    assert change.accuracy_reach == pytest.approx(1.96 * (20 - 400 / 80) ** 0.5 / 80, abs=1e-4)
    assert change.p_value == pytest.approx(2 / 2**20)


def test_the_report_shows_results_changes_recalls_and_confusions(report):
    text = Elements(report(record("float32", 4.0, "1111"), record("int8", 1.0, "1110")).read_text()).text
    assert {"cnn int8", "cnn float32", "Quantized against float32", "Recall per class", "Confusion matrix", "a PC"} <= set(text)
    assert "75.0 %" in text  # accuracy of int8
    assert "-25.00 points" in text
    assert "50 %" in text  # recall of sad


def test_a_report_loads_nothing_from_elsewhere(report):
    page = Elements(report(record()).read_text())
    assert not {"link", "img", "iframe"} & set(page.tags)
    assert not [value for name, value in page.attributes if name == "src"]
    (policy,) = [value for name, value in page.attributes if name == "content" and "default-src" in value]
    assert policy.startswith("default-src 'none'")


HOSTILE = "<img src=x onerror=alert(1)>'\"</script><script>alert(2)</script>{{ 7*7 }}"


def test_names_and_labels_cannot_inject_code(report):
    plain, hostile = (
        report(record("float32", 2.0, network=name), record(network=name, labels=(name, "b"), board=name)).read_text()
        for name in ("plain", HOSTILE)
    )
    assert Elements(hostile).tags == Elements(plain).tags
    assert "<img" not in hostile
    assert not [name for name, _ in Elements(hostile).attributes if name == "onerror"]


def test_a_file_that_cannot_run_is_shown_with_its_reason(report):
    failed = replace(record(), samples_ms=(), problem="it cannot run: no such operator", measured_accuracy=None)
    text = Elements(report(failed).read_text()).text
    assert "it cannot run: no such operator" in text
    assert "No file has both an accuracy and a latency. Give --data to measure the accuracy." in text


def test_an_emulated_board_has_no_times(report):
    emulated = replace(
        record(), samples_ms=(), load_ms=None, first_inference_ms=None, instructions=12_300_000,
        environment=replace(PC, board="a Pi", emulator="qemu"),
    )  # fmt: skip
    text = Elements(report(emulated, record()).read_text()).text
    assert "12.3 million" in text
    assert "an emulator ran it, so there are no times" in text


def test_a_report_in_chromium_places_names_and_sorts(chromium, report):
    records = [record("float32", 4.0, "1111", network=HOSTILE), record("int8", 1.0, "1110"), record("float32", 2.0)]
    page = chromium.new_page(viewport={"width": 390, "height": 844})
    problems = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("dialog", lambda dialog: problems.append(dialog.message))
    page.goto(report(*records).as_uri())
    names = "Bokeh.documents[0].roots()[0].renderers.map(one => one.data_source.data.shown).find(Boolean)"
    page.wait_for_function(f"window.Bokeh && Bokeh.documents.length && ({names} || []).some(Boolean)")
    assert "cnn int8" in page.evaluate(names)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.click("table.sortable button:text-is('p50 ms')")
    assert page.locator("table.sortable tbody th").first.inner_text() == "cnn int8"
    page.click("table.sortable button:text-is('p50 ms')")
    assert page.locator("table.sortable tbody th").first.inner_text().startswith("<img")
    assert problems == []
    page.close()


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0.09, 6, [0.1, 0.2, 0.5, 1, 2, 5]), (0.3, 0.4, []), (1, 10, [1, 2, 5, 10]), (0.01, 1000, [0.01, 0.1, 1, 10, 100, 1000])],
)
def test_ticks_are_plain_numbers(low, high, ticks):
    assert plain_ticks(low, high) == ticks


def test_a_name_is_placed_where_nothing_else_is():
    frame = (0, 0, 100, 100)
    assert free_place((50, 50), (20, 10), 5, [], frame) == (55, 45, 75, 55)
    assert free_place((90, 50), (20, 10), 5, [], frame) == (65, 45, 85, 55)
    assert free_place((50, 50), (20, 10), 5, [(0, 0, 100, 100)], frame) is None


def test_every_board_of_a_plot_has_a_different_marker():
    markers = board_markers([derive_row(record(board=name)) for name in ("PC", "Pi 4", "Pi 5", "PC")])
    assert list(markers) == ["PC", "Pi 4", "Pi 5"]
    assert len(set(markers.values())) == 3


def test_a_plot_has_names_and_plain_ticks(tmp_path):
    records = (record("float32", 0.8), record(ms=0.2), record(ms=0.4, board="a Pi"))
    plot_rows([derive_row(one) for one in records], tmp_path / "p.svg")
    text = (tmp_path / "p.svg").read_text()
    assert [name for name in ("cnn float32", "cnn int8", "a Pi", "0.2", "0.5") if f"<!-- {name} -->" not in text] == []


def test_a_plot_that_cannot_be_drawn_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no row has a measured accuracy"):
        plot_rows([derive_row(latency(value=None))], tmp_path / "p.png")
    with pytest.raises(ValueError, match=r"a plot cannot be saved as .*p.txt"):
        check_plot(tmp_path / "p.txt")
    assert not list(tmp_path.iterdir())
