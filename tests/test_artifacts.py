import json
from dataclasses import dataclass

import numpy as np
import pytest

from fer_edge.artifacts.accuracy_records import read_accuracy_records
from fer_edge.artifacts.contract import CONTRACT_VERSION, Contract, ModelError, read_contract
from fer_edge.artifacts.latency_records import LatencyProtocol, read_latency_records
from fer_edge.artifacts.mean_ci import mean_ci
from fer_edge.artifacts.metrics import classification_metrics, vote_metrics
from fer_edge.artifacts.path_names import command_without_folders
from fer_edge.artifacts.training_data import DataSummary, Leakage
from fer_edge.artifacts.training_plan import Augmentation
from fer_edge.artifacts.typed_json import append_json_lines, from_data, read_json_lines, to_data
from fer_edge.edge_runtime.find_model import default_model


@dataclass(frozen=True)
class Inner:
    name: str
    size_px: int = 1


@dataclass(frozen=True)
class Outer:
    share: float
    inner: Inner
    names: tuple[str, ...]
    counts: dict[str, int | None]
    pair: tuple[float, float] | None = None


OUTER = {"share": 1, "inner": {"name": "a", "size_px": 2}, "names": ["x"], "counts": {"k": None}, "pair": [0, 1]}


def test_json_becomes_nested_dataclasses_and_back():
    outer = from_data(Outer, OUTER)
    assert outer == Outer(1.0, Inner("a", 2), ("x",), {"k": None}, (0.0, 1.0))
    assert isinstance(outer.share, float)
    assert to_data(outer) == OUTER


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"share": "1"}, r"share must be float. Received: '1'"),
        ({"share": True}, r"share must be float. Received: True"),
        ({"inner": {"name": 3}}, r"inner.name must be str. Received: 3"),
        ({"inner": {}}, r"inner lacks 'name'"),
        ({"names": ["x", 1]}, r"names\[1\] must be str"),
        ({"counts": {"k": 1.5}}, r"counts.k must be int"),
        ({"pair": [1.0]}, r"pair must have 2 entries. Received: 1"),
        ({"other": 1}, r"Outer has unknown 'other'"),
    ],
)
def test_a_wrong_field_is_named_with_its_path_and_value(change, message):
    with pytest.raises(ValueError, match=message):
        from_data(Outer, OUTER | change)


def test_appending_keeps_existing_lines_byte_for_byte(tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_text('{"name":  "old"}\n')
    append_json_lines(path, [Inner("new", 3)])
    assert path.read_text() == '{"name":  "old"}\n{"name": "new", "size_px": 3}\n'
    assert read_json_lines(Inner, path) == [Inner("old"), Inner("new", 3)]


def test_a_file_without_a_final_newline_keeps_its_last_record(tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_text('{"name": "old"}')
    append_json_lines(path, [Inner("new")])
    assert read_json_lines(Inner, path) == [Inner("old"), Inner("new")]


def test_a_damaged_line_is_named_by_its_number(tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_text('{"name": "a"}\n{"name": \n')
    with pytest.raises(ValueError, match=r"line 2 of .*records.jsonl is not a Inner"):
        read_json_lines(Inner, path)
    path.write_text("[]\n")
    with pytest.raises(ValueError, match=r"line 1 of .* is not an accuracy record"):
        read_accuracy_records(path)
    with pytest.raises(ValueError, match=r"line 1 of .* is not a LatencyRecord"):
        read_latency_records(path)


def test_metrics_of_a_small_confusion_matrix_are_those_computed_by_hand():
    # true a: a, a, b; true b: b; true c: none; predicted c: none
    probabilities = np.array([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.9, 0.0]], np.float32)
    metrics = classification_metrics(probabilities, np.array([0, 0, 0, 1]), ("a", "b", "c"))
    assert metrics.confusion == ((2, 1, 0), (0, 1, 0), (0, 0, 0))
    assert (metrics.count, metrics.accuracy) == (4, 0.75)
    assert metrics.loss == pytest.approx(-np.log([0.8, 0.6, 0.2, 0.9]).mean(), rel=1e-6)
    assert metrics.per_class["a"].f1 == pytest.approx(0.8)
    assert (metrics.per_class["b"].precision, metrics.per_class["b"].recall) == (0.5, 1.0)
    assert (metrics.per_class["c"].recall, metrics.per_class["c"].support) == (0.0, 0)
    assert metrics.macro.f1 == pytest.approx((0.8 + 2 / 3) / 2)  # c has no faces and does not count
    assert metrics.weighted.recall == pytest.approx(0.75)


def test_metrics_equal_those_of_scikit_learn():
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(5), 200).astype(np.float32)
    targets = rng.integers(0, 4, 200)  # the fifth class has no faces
    metrics = classification_metrics(probabilities, targets, tuple("abcde"))
    predicted = probabilities.argmax(axis=1)
    for average, labels in (("macro", range(4)), ("weighted", range(5))):
        expected = sklearn_metrics.precision_recall_fscore_support(
            targets, predicted, labels=list(labels), average=average, zero_division=0
        )
        got = getattr(metrics, average)
        assert (got.precision, got.recall, got.f1) == pytest.approx(expected[:3])
    assert metrics.confusion == tuple(map(tuple, sklearn_metrics.confusion_matrix(targets, predicted, labels=range(5))))


def test_top_2_and_the_surest_faces_are_those_counted_by_hand():
    probabilities = np.array([[0.9, 0.1, 0], [0.5, 0.4, 0.1], [0.6, 0.1, 0.3], [0.2, 0.35, 0.45], [0.7, 0.2, 0.1]], np.float32)
    metrics = classification_metrics(probabilities, np.array([0, 1, 1, 2, 0]), ("a", "b", "c"))
    assert metrics.top2_accuracy == pytest.approx(4 / 5)  # the third face is second to c
    assert metrics.confident_accuracy == pytest.approx(2 / 4)  # all but the fourth face
    votes = vote_metrics(probabilities[:2], np.array([[0.5, 0.4, 0.1], [0.2, 0.8, 0]], np.float32))
    assert (votes.count, votes.agreement) == (2, pytest.approx(0.35))
    assert votes.ece == pytest.approx((0.4 + 0.3) / 2)


def test_no_faces_have_no_metrics():
    with pytest.raises(ValueError, match="no faces to evaluate"):
        classification_metrics(np.empty((0, 2), np.float32), np.empty(0, np.int64), ("a", "b"))


@pytest.mark.parametrize("name", ["../escaped/x", "a/b", "CK+", "", "a b"])
def test_a_name_that_becomes_a_file_name_has_no_path_in_it(name):
    with pytest.raises(ValueError, match="may contain only a-z, 0-9, _ and -"):
        DataSummary(name, "0" * 64, 1, 48)


def test_a_contract_survives_json_and_rejects_another_version():
    contract = read_contract(default_model())
    assert Contract.from_json(contract.to_json()) == contract
    older = json.loads(contract.to_json()) | {"contract_version": CONTRACT_VERSION - 1}
    with pytest.raises(ModelError, match=f"contract version {CONTRACT_VERSION - 1}, this fer-edge reads {CONTRACT_VERSION}"):
        Contract.from_json(json.dumps(older))
    escaping = json.loads(contract.to_json()) | {"architecture": "../escaped/x"}
    with pytest.raises(ModelError, match="may contain only a-z, 0-9, _ and -"):
        Contract.from_json(json.dumps(escaping))


def test_a_contract_with_a_field_of_another_type_is_damaged():
    contract = json.loads(read_contract(default_model()).to_json())
    with pytest.raises(ModelError, match=r"damaged \(image_size must be int. Received: '48'\)"):
        Contract.from_json(json.dumps(contract | {"image_size": "48"}))


def test_the_interval_of_a_mean_is_students_and_stays_within_its_bounds():
    pytest.importorskip("scipy")
    ci = mean_ci([0.90, 0.94, 0.92])
    assert (ci.mean, ci.deviation, ci.runs) == pytest.approx((0.92, 0.02, 3))
    assert (ci.low, ci.high) == pytest.approx((0.92 - 4.30265 * 0.02 / 3**0.5, 0.92 + 4.30265 * 0.02 / 3**0.5), abs=1e-5)
    assert mean_ci([0.99, 1.0, 1.0]).high == 1.0
    assert str(mean_ci([0.5])) == "0.5000"


def test_leakage_is_described_in_one_line():
    assert Leakage(0, 0, 0, leaky=False).warning() is None
    assert Leakage(2, 3, 9, leaky=True).warning() == (
        "leaky split: 9 test images show 3 people seen in training; 2 test images have pixel-identical copies in training"
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shift": 1.5}, "shift must be a fraction from 0 to 1"),
        ({"rotation_degrees": 181}, "rotation_degrees must be between 0 and 180"),
        ({"mixup": 0.6, "cutmix": 0.6}, "must not exceed 1 together"),
    ],
)
def test_an_augmentation_out_of_bounds_is_rejected(settings, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**settings)


def test_a_latency_protocol_needs_a_run_and_a_known_stage():
    with pytest.raises(ValueError, match="at least 1 counted run"):
        LatencyProtocol(min_runs=0)
    with pytest.raises(ValueError, match="unknown stage 'detect'"):
        LatencyProtocol(stage="detect")


def test_a_stored_command_has_no_folders_of_the_user():
    command = ("convert", "/home/ann/runs/cnn-run", "--out=/tmp/x", "--calibrate-from", "../my faces", "runs/cnn-run")
    words = ("convert", "cnn-run", "--out=x", "--calibrate-from", "my faces", "runs/cnn-run")
    assert command_without_folders(command) == words
