import json

import pytest
from records import latency, measured_accuracy

from fer_edge.artifacts.latency_records import ConversionCost, LatencyProtocol
from fer_edge.benchmarks import environment
from fer_edge.benchmarks.latency_tables import (
    as_csv,
    as_json,
    conversion_cells,
    derive_row,
    pareto_front,
)
from fer_edge.benchmarks.measure import measure_model
from fer_edge.benchmarks.overhead import measure_overhead
from fer_edge.benchmarks.plots import plot_rows
from fer_edge.benchmarks.tables import markdown_table, text_table
from fer_edge.benchmarks.timing import time_runs
from fer_edge.edge_runtime import board as board_module


class FakeBoard:
    """A clock that each call advances by the next of its times."""

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


def test_runs_continue_until_both_minima_are_reached():
    board = FakeBoard([10] * 100)
    assert len(time_runs(board.run, 0, min_runs=3, min_seconds=0.2, clock_ns=board.clock_ns)) == 20
    board = FakeBoard([10] * 100)
    assert len(time_runs(board.run, 0, min_runs=30, min_seconds=0.2, clock_ns=board.clock_ns)) == 30


def test_percentiles_are_derived_from_the_raw_samples():
    row = derive_row(latency(samples=range(1, 101)))
    assert (row.p50_ms, row.p90_ms, row.p99_ms) == pytest.approx((50.5, 90.1, 99.01))
    assert row.board == "a PC"


@pytest.mark.parametrize(
    ("cpuinfo", "board"),
    [
        ("model name\t: a PC\nflags\t\t: fpu avx2 avx512_vnni amx_int8\n", "a PC (amx_int8)"),
        ("model name\t: a PC\nflags\t\t: fpu avx2 avx512_vnni_not\n", "a PC"),
        ("processor\t: 0\nFeatures\t: fp asimd asimddp\nModel\t\t: Raspberry Pi 5\n", "Raspberry Pi 5 (asimddp)"),
    ],
)
def test_a_table_names_the_integer_dot_product_of_the_cpu(tmp_path, monkeypatch, cpuinfo, board):
    file = tmp_path / "cpuinfo"
    file.write_text(cpuinfo)
    monkeypatch.setattr(board_module, "CPU", file)
    monkeypatch.setattr(environment, "BOARD", tmp_path / "none")
    assert derive_row(latency(environment=environment.describe_environment())).board == board


def test_the_pareto_front_has_the_rows_that_no_other_row_dominates():
    fast, accurate, dominated, unknown = (
        derive_row(entry)
        for entry in (
            latency("fast", 0.8, samples=[1.0]),
            latency("accurate", 0.9, samples=[5.0]),
            latency("dominated", 0.8, samples=[2.0]),
            latency("unknown", None),
        )
    )
    assert pareto_front([fast, accurate, dominated, unknown]) == [fast, accurate]


def test_a_row_names_the_data_of_its_accuracy():
    elsewhere = measured_accuracy(0.9, "ck48", protocol="all", split="all")
    assert derive_row(latency(data="fer2013", measured_accuracy=elsewhere)).data == "ck48, trained on fer2013"
    assert derive_row(latency(data="ck48", measured_accuracy=elsewhere)).data == "ck48"


def test_leaky_protocols_are_marked():
    assert derive_row(latency(value=None, leaky=True)).protocol == "paper (leaky)"
    assert derive_row(latency(measured_accuracy=measured_accuracy(0.9, warning="leaky split"))).protocol == "paper (leaky)"
    assert derive_row(latency(leaky=True)).protocol == "paper"


def test_values_that_were_not_measured_are_null_and_printed_as_such():
    row = derive_row(latency(value=None))
    assert json.loads(as_json([row]))[0]["accuracy"] is None
    assert as_csv([row]).splitlines()[1].split(",")[4] == ""
    assert conversion_cells(row)[4:9] == ("not measured",) * 5
    assert conversion_cells(row)[10] == "not measured"
    rejected = ConversionCost(0.9, 0.1, 0.1, -0.5, 1.0, rejected=True)
    full = derive_row(latency(compressed_bytes=700_000, conversion=rejected))
    assert (conversion_cells(full)[7], conversion_cells(full)[8], conversion_cells(full)[10]) == ("-50.0", "rejected", "0.70")


def test_tables_align_numbers_to_the_right_and_keep_their_digits():
    rows = [("a", "0.9800", "x"), ("bb", "10.0", "yy")]
    assert text_table(("name", "value", "word"), rows).splitlines() == [
        "name      value  word",
        "------  -------  ------",
        "a        0.9800  x",
        "bb         10.0  yy",
    ]
    assert markdown_table(("name", "value"), [("a", "0.9800")]).splitlines() == [
        "| name   |   value |",
        "|:-------|--------:|",
        "| a      |  0.9800 |",
    ]
    assert text_table(("name", "value"), []).splitlines()[0].split() == ["name", "value"]


def test_a_plot_without_accuracy_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no row has a measured accuracy"):
        plot_rows([derive_row(latency(value=None))], tmp_path / "p.png")
    assert not list(tmp_path.iterdir())


def test_a_model_is_measured_in_another_process(models):
    result = measure_model(models["int8"], 1, LatencyProtocol(warmup_runs=1, min_runs=5, min_seconds=0))
    assert len(result.samples_ms) == 5
    assert min(result.samples_ms) > 0
    assert result.file_bytes == models["int8"].stat().st_size
    assert result.peak_memory_bytes > result.memory_before_bytes > 0
    assert result.environment.runtimes


def test_predict_and_invoke_are_both_timed(models):
    predict_ms, invoke_ms, _ = measure_overhead(models["int8"], rounds=5)
    assert predict_ms > 0
    assert invoke_ms > 0
