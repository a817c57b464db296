import json

import pytest
from records import latency, measured_accuracy, metrics

from fer_edge.artifacts.latency_records import (
    RECORD_VERSION,
    ConversionCost,
    Energy,
    LatencyRecord,
    StageSamples,
    read_latency_records,
)
from fer_edge.artifacts.metrics import VoteMetrics
from fer_edge.artifacts.typed_json import append_json_lines, to_data
from fer_edge.benchmarks.intervals import accuracy_interval, ratio_of_medians
from fer_edge.benchmarks.latency_tables import derive_row


def full_record():
    measured = measured_accuracy(
        0.6, count=10, metrics=metrics(0.6), votes=VoteMetrics(10, 0.55, 0.1), correct="1010101011", faces_digest="d"
    )
    return latency(
        measured_accuracy=measured,
        backend="no-xnnpack",
        arena_bytes=70_000,
        stages=StageSamples({"detect": (5.0, 7.0, 6.0), "classify": (1.0,)}, "haar", (640, 480)),
        energy=Energy("intel-rapl package-0", joules=6.0, seconds=2.0, runs=1000),
        busy=("load 3.0 on 2 cores",),
        sha256="abc",
        record_version=RECORD_VERSION,
    )


def test_a_record_with_every_field_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "r.jsonl"
    append_json_lines(path, [full_record()])
    assert read_latency_records(path) == [full_record()]


def test_a_record_of_the_first_version_is_read(tmp_path):
    path = tmp_path / "r.jsonl"
    fields = LatencyRecord.__dataclass_fields__
    old = {name: value for name, value in to_data(latency(value=None)).items() if name in list(fields)[:20]}
    path.write_text(json.dumps(old) + "\n")
    (record,) = read_latency_records(path)
    assert (record.record_version, record.backend, record.busy, record.stages) == (1, "xnnpack", None, None)


def test_a_row_has_the_stages_the_energy_and_the_intervals_of_the_record():
    row = derive_row(full_record())
    assert (row.detect_ms, row.classify_ms, row.preprocess_ms) == (6.0, 1.0, None)
    assert (row.energy_mj, row.arena_bytes, row.busy) == (6.0, 70_000, ("load 3.0 on 2 cores",))
    assert (row.accuracy, row.accuracy_source, row.vote_agreement) == (0.6, "measured", 0.55)
    assert (row.accuracy_low, row.accuracy_high) == pytest.approx((0.3127, 0.8318), abs=1e-4)


def test_without_a_measurement_a_row_has_the_accuracy_that_the_file_stores():
    cost = ConversionCost(0.9, 0.8, 0.97, -0.1, 1.0, faces=100)
    row = derive_row(latency(value=None, conversion=cost))
    assert (row.accuracy, row.accuracy_source, row.macro_f1) == (0.8, "stored", None)
    assert row.accuracy_low < 0.8 < row.accuracy_high


def test_a_file_that_could_not_run_is_a_row_without_latency():
    row = derive_row(latency(value=None, samples_ms=(), problem="an ONNX file", precision=None))
    assert (row.p50_ms, row.p99_ms, row.problem) == (None, None, "an ONNX file")
    with pytest.raises(ValueError, match="needs samples, or the problem"):
        latency(samples=())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"record_version": 3}, "line 1 of .* has version 3, this fer-edge reads 1 to 2. Install the fer-edge that wrote it"),
        ({"record_version": "x"}, "has version x"),
        ({"backend": "gpu"}, "unknown backend 'gpu'; choose one of: xnnpack, no-xnnpack"),
        ({"samples_ms": []}, "needs samples, or the problem"),
    ],
)
def test_a_record_that_cannot_be_read_is_named_with_the_reason(tmp_path, change, message):
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps(to_data(latency()) | change) + "\n")
    with pytest.raises(ValueError, match=message):
        read_latency_records(path)


def test_a_truncated_line_is_named_with_a_remedy(tmp_path):
    path = tmp_path / "r.jsonl"
    line = json.dumps(to_data(latency()))
    path.write_text(f"{line}\n{line[:100]}\n")
    with pytest.raises(ValueError, match=r"line 2 of .* is truncated or damaged: delete it, or measure again"):
        read_latency_records(path)
    path.write_text("")
    with pytest.raises(ValueError, match="has no records"):
        read_latency_records(path)


def test_the_interval_of_an_accuracy_is_wilsons():
    # The score interval, worked out by hand: (p + z2/2n +- z sqrt(p(1-p)/n + z2/4n2)) / (1 + z2/n)
    assert accuracy_interval(0.66, 100) == pytest.approx((0.5628, 0.7454), abs=1e-4)
    assert accuracy_interval(1.0, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)


def test_the_ratio_of_medians_has_an_interval_that_contains_it():
    fast, slow = [1.0, 1.1, 0.9, 1.0] * 25, [2.0, 2.2, 1.8, 2.0] * 25
    ratio = ratio_of_medians(slow, fast)
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((2.0, 2.0, 2.0))
    drifting = ratio_of_medians([1.0] * 50 + [3.0] * 50, [1.0] * 100)
    assert drifting.low == 1.0
    assert drifting.high == 3.0
    assert ratio_of_medians([2.0], [1.0]).value == 2.0
