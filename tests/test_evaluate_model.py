import numpy as np
import pytest

from fer_edge.artifacts.contract import read_contract
from fer_edge.train.evaluate_model import evaluate_ensemble, evaluate_model


def test_an_ensemble_is_the_mean_of_its_members_probabilities(models, faces):
    members = [evaluate_model(models[precision], faces) for precision in ("float32", "int8")]
    both = evaluate_ensemble(members)
    mean = (members[0].probabilities + members[1].probabilities) / 2
    assert both.probabilities == pytest.approx(mean)
    correct = mean.argmax(axis=1) == both.selection.faces.targets
    assert both.record.metrics.accuracy == correct.mean()
    assert both.record.title == "ensemble of 2"
    with pytest.raises(ValueError, match="different faces or labels"):
        evaluate_ensemble([members[0], evaluate_model(models["int8"], faces, split="validation")])
    with pytest.raises(ValueError, match="at least two"):
        evaluate_ensemble(members[:1])


def test_evaluations_name_the_protocol_as_records_do(models, faces):
    contract = read_contract(models["int8"])
    own, everything = (evaluate_model(models["int8"], faces, protocol).record for protocol in (None, "all"))
    assert own.protocol == contract.split.title
    assert (own.split_title, everything.split_title) == (f"{own.protocol} test", "all")


def test_with_shared_classes_only_the_classes_of_both_datasets_count(models, faces):
    few = faces.with_labels(("happy", "sad"))
    whole = evaluate_model(models["int8"], few, "all")
    shared = evaluate_model(models["int8"], few, "all", shared_classes=True)
    assert (whole.record.classes, shared.record.classes) == (faces.labels, ("happy", "sad"))
    columns = [faces.labels.index(label) for label in ("happy", "sad")]
    predicted = whole.probabilities[:, columns].argmax(axis=1)
    assert shared.record.metrics.accuracy == (predicted == few.targets).mean()
    assert shared.probabilities.sum(axis=1) == pytest.approx(np.ones(len(few)), abs=1e-5)
