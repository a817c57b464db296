from dataclasses import replace

import numpy as np
import pytest

from fer_edge.artifacts.contract import CANONICAL_LABELS, read_contract
from fer_edge.benchmarks.experiment_log import latest_evaluations
from fer_edge.train.evaluate_model import evaluate_ensemble, evaluate_model, load_model


def test_an_ensemble_is_the_mean_of_its_members_probabilities(models, faces):
    members = [evaluate_model(load_model(models[precision]), faces) for precision in ("float32", "int8")]
    both = evaluate_ensemble(members)
    mean = (members[0].probabilities + members[1].probabilities) / 2
    assert both.probabilities == pytest.approx(mean)
    correct = mean.argmax(axis=1) == both.selection.faces.targets
    assert both.record.metrics.accuracy == correct.mean()
    assert both.record.title == "ensemble of 2"
    with pytest.raises(ValueError, match="different faces or labels"):
        evaluate_ensemble([members[0], evaluate_model(load_model(models["int8"]), faces, split="validation")])
    with pytest.raises(ValueError, match="at least two"):
        evaluate_ensemble(members[:1])


def test_two_views_of_a_face_are_averaged_and_recorded(models, run_folder, faces):
    for path, title in ((models["int8"], "cnn int8, 2 views"), (run_folder, "cnn keras, 2 views")):
        plain, other = (evaluate_model(load_model(path), data, "all").probabilities for data in (faces, faces.mirrored()))
        both = evaluate_model(load_model(path, views=2), faces, "all")
        assert both.probabilities == pytest.approx((plain + other) / 2, abs=1e-5)
        assert (both.record.views, both.record.title) == (2, title)
        assert latest_evaluations([both.record]) == []  # never in a headline figure


def test_evaluations_name_the_protocol_as_records_do(models, faces):
    contract = read_contract(models["int8"])
    own, everything = (evaluate_model(load_model(models["int8"]), faces, protocol).record for protocol in (None, "all"))
    assert own.protocol == contract.split.title
    assert (own.split_title, everything.split_title) == (f"{own.protocol} test", "all")


def test_with_shared_classes_only_the_classes_of_both_datasets_count(models, faces):
    few = faces.with_labels(("happy", "sad"))
    whole = evaluate_model(load_model(models["int8"]), few, "all")
    shared = evaluate_model(load_model(models["int8"]), few, "all", shared_classes=True)
    assert (whole.record.classes, shared.record.classes) == (faces.labels, ("happy", "sad"))
    columns = [faces.labels.index(label) for label in ("happy", "sad")]
    predicted = whole.probabilities[:, columns].argmax(axis=1)
    assert shared.record.metrics.accuracy == (predicted == few.targets).mean()
    assert shared.probabilities.sum(axis=1) == pytest.approx(np.ones(len(few)), abs=1e-5)


def test_votes_are_measured_over_their_eight_classes_whatever_the_model_knows(models, faces):
    count, labels = len(faces), faces.labels
    assert labels == CANONICAL_LABELS
    votes = np.zeros((count, len(labels) + 1), np.float32)
    votes[np.arange(count), faces.targets] = 6
    votes[:, -1] = 4  # chose no class
    votes[:10, -1] = 6  # no majority
    voted = replace(faces, votes=votes)
    result = evaluate_model(load_model(models["int8"]), voted, "all")
    correct = evaluate_model(load_model(models["int8"]), faces, "all").probabilities.argmax(axis=1) == faces.targets
    assert result.record.metrics.count == count - 10
    assert result.record.metrics.accuracy == pytest.approx(correct[10:].mean())
    assert result.record.votes.count == count
    assert result.record.votes.agreement == pytest.approx(np.where(np.arange(count) < 10, 0.5, 0.6) @ correct / count)
    seven = evaluate_model(load_model("cnn_nano_fer2013"), voted, "all")
    assert seven.record.classes == labels
    assert seven.probabilities[:, labels.index("contempt")].max() == 0
    assert seven.probabilities.sum(axis=1) == pytest.approx(np.ones(count), abs=0.02)
    with pytest.raises(ValueError, match="the model has labels that FER\\+ lacks: angry"):
        evaluate_model(load_model(models["int8"]), replace(voted, labels=("bored", *labels[1:])), "all")
