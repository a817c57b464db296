from dataclasses import replace

import pytest
from records import PC, latency, measured_accuracy

from fer_edge.artifacts.latency_records import ConversionCost
from fer_edge.benchmarks.bench_table import COLUMNS, bench_table, check_columns
from fer_edge.benchmarks.choose import Condition, choose_smallest, parse_conditions
from fer_edge.benchmarks.latency_tables import derive_row
from fer_edge.benchmarks.record_rows import record_rows

PI = replace(PC, cpu="a Pi")
STORED = ConversionCost(0.7, 0.66, 0.98, -0.02, 1.0, faces=3589)


def record(network="cnn", p50=1.0, value=0.9, **changes):
    return latency(network, value, samples=[p50] * 10, **{"file": f"{network}_d_int8.tflite", **changes})


def rows_of(*records, baseline=None, **others):
    sources = {"one.jsonl": records} | {f"{name}.jsonl": of_source for name, of_source in others.items()}
    return [row for row, _ in record_rows(sources, baseline)]


def body(text):
    """The rows of a text table, as lists of cells."""
    lines = text.splitlines()
    (rule,) = [number for number, line in enumerate(lines) if line.startswith("---")]
    table = lines[rule + 1 :]
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in table[: (table + [""]).index("")]]


def test_columns_that_are_equal_in_all_rows_are_above_the_table():
    text = bench_table(rows_of(record("a"), record("b")))
    assert text.splitlines()[:5] == ["data: d", "protocol: paper", "threads: 1", "backend: xnnpack", "board: a PC"]
    assert "energy: not measured" in text
    assert "threads" not in text.split("energy")[1]
    several = bench_table(rows_of(record("a"), record("a", num_threads=2)))
    assert [cells[2] for cells in body(several)] == ["1", "2"]


def test_a_table_fits_in_100_columns_whatever_varies():
    records = [
        record("a_network_with_a_very_long_name_indeed", 12.5, num_threads=threads, backend=backend, peak_memory_bytes=10**9,
               arena_bytes=10**8, measured_accuracy=measured_accuracy(0.5, data=data))
        for threads in (1, 2)
        for backend in ("xnnpack", "no-xnnpack")
        for data in ("d", "fer2013")
    ]  # fmt: skip
    for markdown in (False, True):
        text = bench_table(rows_of(*records), markdown=markdown)
        assert max(map(len, text.splitlines())) <= 100
        assert "a_network_with" in text
        assert "p50 ms" in text


def test_boards_that_do_not_fit_next_to_each_other_are_in_several_tables():
    boards = {f"board{number}": [record("a", number + 1.0, environment=replace(PC, cpu=f"PC {number}"))] for number in range(9)}
    text = bench_table(rows_of(record("a", 1.0), baseline="a", **boards))
    assert max(map(len, text.splitlines())) <= 100
    assert text.count("network") > 1
    assert "J p50 ms" in text


def test_asked_columns_are_shown_in_their_order_and_unknown_ones_are_listed():
    text = bench_table(rows_of(record("a", 0.123, load_ms=45.678)), ["load", "p50", "network"])
    assert body(text) == [["45.7", "0.12", "a"]]
    with pytest.raises(ValueError, match="unknown column 'speed'; choose from: network, precision, file"):
        check_columns(["p50", "speed"])


def test_an_accuracy_has_its_interval_and_a_mark_if_the_file_stores_it():
    rows = rows_of(
        record("a", value=None, conversion=STORED),
        record("b", measured_accuracy=measured_accuracy(0.5, count=10)),
        record("c", value=None),
    )
    text = bench_table(rows, ["network", "accuracy"])
    assert body(text) == [["a", "0.660* (0.644-0.675)"], ["b", "0.500 (0.237-0.763)"], ["c", "-"]]
    assert "* stored in the file when it was converted" in text
    assert "a dash: not measured" in text


def test_a_stored_accuracy_of_an_unknown_number_of_faces_has_no_interval():
    rows = rows_of(record("a", value=None, conversion=replace(STORED, faces=None)))
    assert body(bench_table(rows, ["accuracy"])) == [["0.660*"]]


def test_footnotes_fit_too_and_name_boards_by_letter():
    reasons = ("p99 is 4.0 times p50", "other processes took 40% of the CPU time", "load 3.0 on 2 cores")
    rows = rows_of(record("a", busy=reasons), pi=[record("a", 4.0, environment=PI, busy=reasons)])
    for markdown in (False, True):
        text = bench_table(rows, markdown=markdown)
        assert max(map(len, text.splitlines())) <= 100
        assert "a int8 on B: p99" in " ".join(text.split())


def test_a_busy_machine_is_marked_and_explained():
    text = bench_table(rows_of(record("a", busy=("load 3.0 on 2 cores", "p99 is 4.0 times p50")), record("b", 2.0, busy=())))
    assert [next(cell for cell in cells if cell[:2] in ("1.", "2.")) for cells in body(text)] == ["1.00!", "2.00"]
    assert "unreliable. a int8: load 3.0 on 2 cores, p99 is 4.0 times" in text


def test_only_some_busy_rows_are_explained_below_the_table():
    text = bench_table(rows_of(*(record(name, busy=("load 3.0 on 2 cores",)) for name in "abcde")))
    assert " ".join(text.split()).count("load 3.0 on 2 cores") == 3
    assert "and 2 more rows" in text


def test_a_file_that_cannot_run_is_a_row_with_the_reason_below():
    failed = latency("m", None, samples_ms=(), problem="it cannot run: an ONNX file", file="m.onnx", precision=None, data=None)
    text = bench_table(rows_of(record("a"), failed))
    assert "cannot run" in body(text)[1]
    assert "m.onnx: it cannot run: an ONNX file" in text
    assert "data: d" in text


def test_each_board_has_columns_and_a_file_that_one_lacks_is_not_measured():
    pi = [record("a", 4.0, environment=PI)]
    text = bench_table(rows_of(record("a", 1.0), record("b", 2.0), pi=pi))
    assert "A: a PC" in text
    assert "B: a Pi" in text
    assert [cells[-2:] for cells in body(text)] == [["1.00", "4.00"], ["2.00", "-"]]
    assert text.count("A p50 ms") == text.count("B p50 ms") == 1


def test_two_boards_with_one_name_are_named_by_their_record_files():
    rows = rows_of(record("a", 1.0), other=[record("a", 2.0)])
    assert [row.board for row in rows] == ["a PC [one]", "a PC [other]"]
    elsewhere = replace(PC, kernel="7")
    assert rows_of(record("a"), other=[record("b"), record("a", environment=elsewhere)])[0].board == "a PC [one]"


def test_records_of_one_board_in_two_files_are_one_board():
    assert {row.board for row in rows_of(record("a"), other=[record("b")])} == {"a PC"}


def test_record_files_of_one_name_are_named_by_their_paths():
    sources = {"x/r.jsonl": [record("a")], "y/r.jsonl": [record("a", 2.0)]}
    assert [row.board for row, _ in record_rows(sources)] == ["a PC [x/r.jsonl]", "a PC [y/r.jsonl]"]


def test_the_last_of_repeated_records_counts():
    assert [row.p50_ms for row in rows_of(record("a", 1.0), record("a", 3.0))] == [3.0]


def test_boards_without_a_common_file_are_an_error():
    with pytest.raises(ValueError, match=r"no file in common: a PC has a_d_int8\.tflite, the others have b_d"):
        rows_of(record("a"), pi=[record("b", environment=PI)])


@pytest.mark.parametrize("baseline", ["a", "a_d_int8", "models/a_d_int8.tflite"])
def test_ratios_are_to_the_baseline_file_on_the_same_board(baseline):
    pi = [record("a", 10.0, environment=PI), record("b", 40.0, environment=PI)]
    rows = rows_of(record("a", 2.0), record("b", 4.0), pi=pi, baseline=baseline)
    assert [row.ratio for row in rows] == [1.0, 2.0, 1.0, 4.0]
    assert "4.00 (4.00-4.00)" in bench_table(rows)


def test_the_baseline_of_a_precision_is_the_file_of_the_same_network():
    floats = [record(name, p50, precision="float32", file=f"{name}.tflite") for name, p50 in (("a", 4.0), ("b", 10.0))]
    rows = rows_of(*floats, record("a", 2.0), record("b", 1.0), record("c"), baseline="float32")
    assert [row.ratio for row in rows] == [1.0, 1.0, 0.5, 0.1, None]


def test_the_baseline_of_a_backend_is_the_same_file_with_it():
    rows = rows_of(record("a", 1.0), record("a", 4.0, backend="no-xnnpack"), record("b", 3.0), baseline="no-xnnpack")
    assert [row.ratio for row in rows] == [0.25, 1.0, None]


def test_the_ratio_of_the_baseline_to_itself_has_no_noise():
    noisy = latency("a", samples=[1.0] * 50 + [3.0] * 50)
    (row,) = rows_of(noisy, baseline="a")
    assert (row.ratio, row.ratio_low, row.ratio_high) == (1.0, 1.0, 1.0)


def test_a_baseline_that_is_missing_or_not_one_file_is_an_error():
    with pytest.raises(
        ValueError,
        match=r"no baseline 'x' among the measured files; choose a precision \(int8\), a backend \(xnnpack\) or a file: a_d",
    ):
        rows_of(record("a"), baseline="x")
    other = record("a", precision="float32", file="a_d_float32.tflite")
    with pytest.raises(ValueError, match=r"the baseline 'a' is not one file: a_d_int8\.tflite, a_d_float32"):
        rows_of(record("a"), other, baseline="a")


def test_conditions_are_read_with_units():
    assert parse_conditions("accuracy >= 66 %, p50 <= 500us,size<0.1 MB") == [
        Condition("accuracy", ">=", 0.66),
        Condition("p50", "<=", 0.5),
        Condition("size", "<", 100_000.0),
    ]
    assert parse_conditions("p99 < 2") == [Condition("p99", "<", 2.0)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("accuracy", "cannot read 'accuracy'. Write conditions like: accuracy >= 0.66"),
        ("", "cannot read ''"),
        ("p50 <= 1 ms,", "cannot read ''"),
        ("speed > 1", "does not know 'speed'; choose from: accuracy"),
        ("p50 < 1 MB", "does not know the unit 'MB' of p50; it takes: ms, s, us"),
        ("parameters < 1 KB", "it takes: no unit"),
        ("p50 < 1.2.3", "cannot read the number '1.2.3'"),
        ("p50 = 1", "cannot read 'p50 = 1'"),
    ],
)
def test_a_condition_that_cannot_be_read_is_an_error(text, message):
    with pytest.raises(ValueError, match=message):
        parse_conditions(text)


def test_the_smallest_file_that_fits_is_chosen_and_the_others_have_reasons():
    rows = rows_of(
        record("slow", 3.0, file_bytes=100),
        record("wrong", 0.5, value=0.6, file_bytes=200),
        record("good", 0.5, file_bytes=300_000, num_threads=2),
        record("good", 0.8, file_bytes=300_000),
        record("large", 0.1, file_bytes=400_000),
        record("unknown", 0.1, value=None, file_bytes=10),
        latency("broken", None, samples_ms=(), problem="it cannot run: damaged", file="broken.tflite"),
    )
    chosen, reasons = choose_smallest(rows, parse_conditions("accuracy >= 0.66, p50 <= 1 ms"))
    assert chosen == "good int8 2 threads (good_d_int8.tflite, 0.30 MB)"
    assert reasons == [
        "slow int8 (slow_d_int8.tflite, 0.00 MB): p50 3 ms is above 1 ms",
        "wrong int8 (wrong_d_int8.tflite, 0.00 MB): accuracy 0.6 is below 0.66",
        "unknown int8 (unknown_d_int8.tflite, 0.00 MB): accuracy not measured",
        "broken int8 (broken.tflite, 0.00 MB): it cannot run: damaged",
        "good int8 (good_d_int8.tflite, 0.30 MB): fits, but is not faster",
        "large int8 (large_d_int8.tflite, 0.40 MB): fits, but is larger",
    ]


def test_a_file_must_fit_on_every_board():
    rows = rows_of(record("a", 0.5), pi=[record("a", 5.0, environment=PI)])
    chosen, reasons = choose_smallest(rows, parse_conditions("p50 <= 1 ms"))
    assert chosen is None
    assert reasons == ["a int8 (a_d_int8.tflite, 0.00 MB): p50 5 ms is above 1 ms on a Pi"]


def test_a_file_that_one_board_lacks_is_not_chosen():
    rows = rows_of(record("a", file_bytes=1), record("b"), pi=[record("b", environment=PI)])
    chosen, reasons = choose_smallest(rows, parse_conditions("p50 <= 1 ms"))
    assert chosen == "b int8 (b_d_int8.tflite, 0.00 MB)"
    assert reasons == ["a int8 (a_d_int8.tflite, 0.00 MB): not measured on a Pi"]


def test_an_accuracy_that_was_measured_on_one_board_is_that_of_the_file():
    pi = [record("a", 4.0, value=None, conversion=STORED, data="fer2013", environment=PI)]
    rows = rows_of(record("a", 1.0, data="fer2013"), pi=pi)
    text = bench_table(rows)
    assert len(body(text)) == 1
    assert "data: d, trained on fer2013" in text
    assert choose_smallest(rows, parse_conditions("accuracy > 0.8"))[0] == "a int8 (a_d_int8.tflite, 0.00 MB)"


def test_a_chosen_file_says_if_its_accuracy_is_stored_and_the_machine_was_busy():
    row = derive_row(record("a", value=None, conversion=STORED, busy=("load",)))
    chosen, _ = choose_smallest([row], parse_conditions("accuracy > 0.5"))
    assert chosen == "a int8 (a_d_int8.tflite, 0.00 MB, accuracy as stored in the file, measured on a busy machine)"


def test_every_column_has_a_cell_for_a_full_and_an_empty_row():
    full, failed = derive_row(record()), derive_row(latency(value=None, samples_ms=(), problem="x"))
    assert all(column.cell(full) and column.cell(failed) for column in COLUMNS.values())
