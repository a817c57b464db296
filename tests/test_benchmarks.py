import json

import pytest

from fer_edge.benchmarks import environment
from fer_edge.benchmarks.latency_records import append_records, derive_row, read_records
from fer_edge.benchmarks.latency_tables import (
    HEADER,
    as_csv,
    as_json,
    as_markdown,
    cells,
    conversion_cells,
    pareto_front,
    plot_rows,
    precision_markers,
)
from fer_edge.benchmarks.measure import measure_model
from fer_edge.benchmarks.overhead import measure_overhead
from fer_edge.benchmarks.protocol import Protocol, time_runs


class FakeBoard:
    """A clock that each call moves on by the next of its times."""

    def __init__(self, times_ms):
        self._times = iter(times_ms)
        self.now_ns = 0

    def run(self):
        self.now_ns += next(self._times) * 1_000_000

    def clock_ns(self):
        return self.now_ns


def test_warmup_calls_are_not_in_the_samples():
    board = FakeBoard([100, 90, 5, 6, 7])
    assert time_runs(board.run, warmup_runs=2, min_runs=3, min_seconds=0, clock_ns=board.clock_ns) == (5.0, 6.0, 7.0)


def test_runs_go_on_until_both_minima_are_reached():
    board = FakeBoard([10] * 100)
    assert len(time_runs(board.run, 0, min_runs=3, min_seconds=0.2, clock_ns=board.clock_ns)) == 20
    board = FakeBoard([10] * 100)
    assert len(time_runs(board.run, 0, min_runs=30, min_seconds=0.2, clock_ns=board.clock_ns)) == 30


def record(name="cnn", precision="int8", accuracy=0.9, size=1000, samples=(1.0, 2.0, 3.0)):
    return {
        "architecture": name, "precision": precision, "data": "d", "split": "paper", "accuracy": accuracy, "macro_f1": accuracy,
        "file_bytes": size, "parameters": 10, "num_threads": 1, "load_ms": 1.0, "first_inference_ms": 2.0,
        "peak_memory_bytes": None, "samples_ms": list(samples), "protocol": {"stage": "invoke"},
        "environment": {"board": None, "cpu": "a PC", "machine": "x86_64"},
    }  # fmt: skip


def test_percentiles_are_derived_from_the_raw_samples():
    row = derive_row(record(samples=range(1, 101)))
    assert (row.p50_ms, row.p90_ms, row.p99_ms) == pytest.approx((50.5, 90.1, 99.01))
    assert row.board == "a PC"


@pytest.mark.parametrize(
    ("cpuinfo", "told"),
    [
        ("model name\t: a PC\nflags\t\t: fpu avx2 avx512_vnni amx_int8\n", "a PC (amx_int8)"),
        ("model name\t: a PC\nflags\t\t: fpu avx2 avx512_vnni_not\n", "a PC"),
        ("processor\t: 0\nFeatures\t: fp asimd asimddp\nModel\t\t: Raspberry Pi 5\n", "Raspberry Pi 5 (asimddp)"),
    ],
)
def test_a_table_tells_whether_the_cpu_multiplies_integers(tmp_path, monkeypatch, cpuinfo, told):
    file = tmp_path / "cpuinfo"
    file.write_text(cpuinfo)
    monkeypatch.setattr(environment, "CPU", file)
    monkeypatch.setattr(environment, "BOARD", tmp_path / "none")
    assert derive_row({**record(), "environment": environment.describe_environment()}).board == told


def test_the_pareto_front_holds_what_nothing_beats():
    fast, accurate, beaten, unknown = (
        derive_row(entry)
        for entry in (
            record("fast", accuracy=0.8, samples=[1.0]),
            record("accurate", accuracy=0.9, samples=[5.0]),
            record("beaten", accuracy=0.8, samples=[2.0]),
            record("unknown", accuracy=None),
        )
    )
    assert pareto_front([fast, accurate, beaten, unknown]) == [fast, accurate]


def test_an_accuracy_stands_beside_the_data_that_it_is_of():
    elsewhere = {"data": "ck48", "split": "all", "part": "all", "count": 9, "warning": None}
    assert derive_row({**record(), "data": "fer2013", "evaluated": elsewhere}).data == "ck48, trained on fer2013"
    assert derive_row({**record(), "data": "ck48", "evaluated": elsewhere}).data == "ck48"


def test_what_was_not_measured_is_null_and_printed_as_such():
    row = derive_row(record(accuracy=None))
    assert json.loads(as_json([row]))[0]["accuracy"] is None
    assert as_csv([row]).splitlines()[1].split(",")[4] == ""
    assert as_markdown(HEADER, [cells(row)]).splitlines()[2].count("not measured") == 3
    assert conversion_cells(row)[4:9] == ("not measured",) * 5
    assert conversion_cells(row)[10] == "not measured"
    told = derive_row({**record(), "compressed_bytes": 700_000, "conversion": {"refused": True}})
    assert (conversion_cells(told)[8], conversion_cells(told)[10]) == ("refused", "0.70")


def test_records_are_appended_and_read_back(tmp_path):
    path = tmp_path / "records.jsonl"
    append_records(path, [record("a")])
    append_records(path, [record("b")])
    assert [entry["architecture"] for entry in read_records(path)] == ["a", "b"]
    path.write_text(path.read_text() + "{}\n")
    with pytest.raises(ValueError, match="line 3 of"):
        read_records(path)


def test_a_plot_without_accuracy_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no row has a measured accuracy"):
        plot_rows([derive_row(record(accuracy=None))], tmp_path / "p.png")
    assert not list(tmp_path.iterdir())


def test_every_precision_of_a_plot_has_a_marker_of_its_own():
    names = ["int8-tflite", "int8", "int8-qat", "float32", "int8"]
    markers = precision_markers([derive_row(record(precision=name)) for name in names])
    assert (markers["float32"], markers["int8"]) == ("o", "^")
    assert len(set(markers.values())) == len(markers) == 4


def test_a_model_is_measured_in_a_process_of_its_own(models):
    got = measure_model(models["int8"], 1, Protocol(warmup_runs=1, min_runs=5, min_seconds=0))
    assert len(got["samples_ms"]) == 5
    assert min(got["samples_ms"]) > 0
    assert got["file_bytes"] == models["int8"].stat().st_size
    assert got["peak_memory_bytes"] > got["memory_before_bytes"] > 0
    assert got["environment"]["runtimes"]


def test_predict_and_invoke_are_both_timed(models):
    predict_ms, invoke_ms, _ = measure_overhead(models["int8"], rounds=5)
    assert predict_ms > 0
    assert invoke_ms > 0
