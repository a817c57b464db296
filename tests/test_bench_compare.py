"""fer-edge bench compare: latencies by rounds, accuracies face by face, exit statuses."""

import json
from dataclasses import replace

import numpy as np
import pytest
from records import latency, measured_accuracy

from fer_edge.artifacts.latency_records import StageSamples
from fer_edge.artifacts.typed_json import append_json_lines
from fer_edge.benchmarks.comparison_tables import comparison_notes, comparison_text
from fer_edge.benchmarks.record_comparison import AllowedChange, compare_accuracy, compare_records, mcnemar_p_value


def rounds(factor=1.0, count=8, seed=0, drift=0.0, **changes):
    """Measurements of one file on a machine whose speed changes from round to round, by the same steps for each factor."""
    steps = np.random.default_rng(99).normal(0, drift, count)
    noise = np.random.default_rng(seed)
    scale = factor * np.exp(steps)
    return [latency(samples=noise.lognormal(np.log(step), 0.1, 60).tolist(), **changes) for step in scale]


def faces(right, wrong_in=(), **changes):
    """An accuracy on 100 faces, of which the first are right except those in ``wrong_in``."""
    correct = "".join("1" if index < right and index not in wrong_in else "0" for index in range(100))
    return measured_accuracy(correct.count("1") / 100, correct=correct, faces_digest="d", **changes)


def only_file(old, new, *arguments):
    (file,) = compare_records(old, new, *arguments).files
    return file


@pytest.mark.parametrize("counts", [(0, 0), (3, 3), (0, 5), (0, 6), (12, 30), (200, 260)])
def test_mcnemar_is_the_exact_binomial_test(counts):
    binomtest = pytest.importorskip("scipy.stats").binomtest
    expected = binomtest(counts[0], sum(counts)).pvalue if sum(counts) else 1.0
    assert mcnemar_p_value(*counts) == pytest.approx(expected)


def test_an_injected_slowdown_of_15_percent_is_found_and_none_is_invented():
    found = [only_file(rounds(seed=seed), rounds(1.15, seed=seed + 50)).slower for seed in range(10)]
    false = [only_file(rounds(seed=seed), rounds(seed=seed + 50)).slower for seed in range(20)]
    assert sum(found) >= 9
    assert sum(false) <= 1


def test_drift_that_both_sides_share_cancels_within_a_round():
    file = only_file(rounds(drift=0.3), rounds(1.15, seed=1, drift=0.3))
    assert file.ratio.value == pytest.approx(1.15, abs=0.03)
    assert file.slower
    assert file.rounds == 8


def test_a_slowdown_that_is_allowed_passes():
    assert not only_file(rounds(), rounds(1.15, seed=1), AllowedChange(latency=0.2)).slower
    assert only_file(rounds(), rounds(1.15, seed=1), AllowedChange(latency=0.05)).slower


def test_few_rounds_are_reported():
    file = only_file(rounds(count=1), rounds(count=2, seed=1))
    assert file.rounds == 1
    assert "rounds: 1 in OLD, 2 in NEW; the additional ones are not compared" in file.notes
    assert any("may be chance" in note for note in file.notes)
    assert not any("may be chance" in note for note in only_file(rounds(count=5), rounds(count=5, seed=1)).notes)


def test_a_file_that_does_not_run_anymore_is_worse():
    failed = replace(latency(), samples_ms=(), problem="it cannot run: no such operator")
    assert only_file(rounds(), [failed]).worse
    assert not only_file([failed], rounds()).worse
    assert not only_file([failed], [failed]).worse
    assert "NEW could not run: it cannot run: no such operator" in only_file(rounds(), [failed]).notes
    assert "does not run" in comparison_text(compare_records(rounds(), [failed]), markdown=False)


def test_a_busy_machine_is_reported():
    assert "NEW was measured on a busy machine (load 9)" in only_file(rounds(), rounds(busy=("load 9",))).notes


def test_accuracies_are_compared_face_by_face():
    change = compare_accuracy(faces(80), faces(80, wrong_in=range(10)))
    assert (change.old, change.new, change.faces, change.only_old, change.only_new) == (0.8, 0.7, 100, 10, 0)
    assert change.p_value == pytest.approx(2 / 2**10)
    assert change.worse
    assert not compare_accuracy(faces(80), faces(80, wrong_in=range(10)), allowed_drop=0.1).worse
    assert not compare_accuracy(faces(80), faces(80, wrong_in=range(5))).worse  # p = 0.0625
    assert not compare_accuracy(faces(70), faces(80)).worse


def test_accuracies_on_other_faces_are_not_compared():
    other = measured_accuracy(0.5, correct="10" * 50, faces_digest="e")
    assert compare_accuracy(faces(80), other) is None
    old = [latency(measured_accuracy=faces(80))]
    assert "accuracy: the records were measured on different faces" in only_file(old, [latency(measured_accuracy=other)]).notes
    assert "accuracy: the records have no result per face" in only_file([latency()], [latency()]).notes
    assert "accuracy: only one of the records has it" in only_file(old, [latency(value=None)]).notes


def test_damaged_results_per_face_are_an_error():
    short = measured_accuracy(0.5, correct="10", faces_digest="d")
    with pytest.raises(ValueError, match="100 and 2 faces"):
        compare_accuracy(faces(80), short)


def test_records_without_a_common_file_are_an_error():
    with pytest.raises(ValueError, match=r"no file was measured in both .* OLD has a.tflite \(threads 1, xnnpack\) on a PC"):
        compare_records([latency("a")], [latency("b")])
    with pytest.raises(ValueError, match=r"NEW has a\.tflite"):
        compare_records([latency("a")], [latency("a", num_threads=2)])


def test_files_of_one_record_only_are_named():
    comparison = compare_records([latency("a"), latency("b")], [latency("b"), latency("c")])
    assert list(comparison_notes(comparison))[-2:] == ["only in OLD: a.tflite", "only in NEW: c.tflite"]


def test_a_stage_can_be_compared():
    def staged(value):
        return latency(samples=[1.0], stages=StageSamples({"preprocess": (value, value)}, None, (640, 480)))

    assert only_file([staged(2.0)], [staged(3.0)], None, "preprocess").ratio.value == 1.5
    assert only_file([staged(2.0)], [staged(3.0)], None, "detect").ratio is None
    with pytest.raises(ValueError, match="unknown stage 'x'; choose one of: invoke, detect"):
        compare_records([staged(2.0)], [staged(2.0)], None, "x")


@pytest.fixture
def record(tmp_path):
    def write(name, records):
        append_json_lines(tmp_path / name, records)
        return tmp_path / name

    return write


def test_the_exit_status_says_whether_new_is_worse(invoke, record):
    old, new = record("old", rounds()), record("new", rounds(1.3, seed=1))
    worse = invoke("bench", "compare", old, new)
    assert worse.exit_code == 1
    assert "slower" in worse.stdout
    assert max(map(len, worse.stdout.splitlines())) <= 100
    assert invoke("bench", "compare", old, new, "--allow", "50").exit_code == 0
    assert invoke("bench", "compare", new, old).exit_code == 0
    data = json.loads(invoke("bench", "compare", old, new, "--json").stdout)
    assert data["worse"] is True
    assert data["files"][0]["ratio"]["value"] == pytest.approx(1.3, abs=0.05)


def test_a_drop_of_the_accuracy_alone_fails(invoke, record):
    old = record("old", rounds(measured_accuracy=faces(80)))
    new = record("new", rounds(seed=1, measured_accuracy=faces(80, wrong_in=range(20))))
    assert invoke("bench", "compare", old, new).exit_code == 1
    assert invoke("bench", "compare", old, new, "--allow-accuracy", "20").exit_code == 0


def test_records_that_cannot_be_read_are_errors(error_of, record, tmp_path):
    good = record("good", rounds())
    assert "no records at" in error_of("bench", "compare", good, tmp_path / "none")
    (tmp_path / "cut").write_text(good.read_text()[:-50])
    assert f"line 8 of {tmp_path / 'cut'}" in error_of("bench", "compare", good, tmp_path / "cut")


def test_a_model_named_compare_is_reached_by_its_path(error_of, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "compare").mkdir()
    assert "the folder 'compare' has no .tflite file" in error_of("bench", "./compare")
