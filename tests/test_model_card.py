import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from records import evaluation, training

from fer_edge.artifacts.accuracy_records import read_accuracy_records
from fer_edge.artifacts.contract import read_contract
from fer_edge.artifacts.metrics import VoteMetrics
from fer_edge.artifacts.run_folder import LoadedWeights
from fer_edge.benchmarks.experiment_log import latest_evaluations
from fer_edge.benchmarks.model_card import ancestors, model_card
from fer_edge.commands import convert, train
from fer_edge.edge_runtime.find_model import bundled_models

SHIPPED = Path(__file__).resolve().parents[1] / "models"
LOG = SHIPPED.parent / "benchmarks" / "results" / "accuracy.jsonl"
MODEL = bundled_models()["cnn_nano_fer2013"]
CONTRACT = read_contract(MODEL)


def own_training(**changes):
    record = training("official", 0.7, network="cnn_nano", data="fer2013", digest=CONTRACT.source_digest)
    return replace(record, **changes)


def own_evaluation(**changes):
    keys = {"digest": CONTRACT.source_digest, "precision": CONTRACT.precision, "data": "fer2013", "protocol": "official"}
    return evaluation(0.6, **{**keys, **changes})


def child_of(record, **changes):
    """A run that starts from the model of another one."""
    plan = replace(record.plan, parent_digests=(record.results.model_digest,))
    made = replace(record, plan=plan, command=("fer-edge", "train", "again"), **changes)
    return replace(made, results=replace(record.results, model_digest=f"{record.results.model_digest} child"))


def test_a_card_shows_the_recorded_commands_of_all_trainings_and_of_the_conversion():
    first = training("official", 0.5, digest="first")
    second = child_of(first)
    own = replace(child_of(second), results=own_training().results)
    card = model_card(MODEL, [own, second, first], [own_evaluation()])
    commands = [line.strip() for line in card.splitlines() if line.startswith("    ")]
    assert commands == ["fer-edge train cnn", *["fer-edge train again"] * 2, shlex.join(CONTRACT.command)]
    assert "first of 3 trainings" in card


def test_a_card_needs_a_record_of_the_training_and_an_evaluation():
    with pytest.raises(ValueError, match="no record of its training"):
        model_card(MODEL, [], [own_evaluation()])
    with pytest.raises(ValueError, match="no record of its accuracy"):
        model_card(MODEL, [own_training()], [own_evaluation(precision="float32")])


def test_teachers_are_named_with_the_digest_of_their_model():
    record = own_training()
    plan = replace(record.plan, teachers=("cnn", "vgg16"), parent_digests=(None, "0123456789", None))
    card = model_card(MODEL, [replace(record, plan=plan)], [own_evaluation()])
    assert "cnn (01234567), vgg16" in card


def test_trainings_that_name_each_other_as_parents_do_not_loop():
    one, other = (
        training("paper", 0.9, digest="one", parents=("other",)),
        training("paper", 0.9, digest="other", parents=("one",)),
    )
    assert ancestors(one, [one, other]) == [other, one]


def test_the_recall_in_keras_is_shown_only_for_the_faces_of_the_contract():
    elsewhere = own_evaluation(data="elsewhere", split="validation")
    card = model_card(MODEL, [own_training()], [elsewhere])
    assert "Per class, elsewhere official validation:" in card
    assert "recall in Keras" not in card
    both = model_card(MODEL, [own_training()], [elsewhere, own_evaluation()])
    assert "Per class, fer2013 official test; the last column" in both
    assert f"{CONTRACT.metrics.before.recall['happy']:.4f} |" in both


def test_a_card_shows_how_often_annotators_chose_the_predicted_label():
    votes = VoteMetrics(count=3553, agreement=0.7123, ece=0.0211)
    card = model_card(MODEL, [own_training()], [replace(own_evaluation(), data="ferplus", votes=votes)])
    assert "agreement with the majority of ten annotators" in card
    (row,) = [line for line in card.splitlines() if "0.7123" in line]
    assert [cell.strip() for cell in row.strip("|").split("|")] == ["ferplus", "official test", "3553", "0.7123", "0.0211"]
    assert "annotators" not in model_card(MODEL, [own_training()], [own_evaluation()])
    same_split = model_card(MODEL, [own_training()], [replace(own_evaluation(), votes=votes)])
    assert "recall in Keras" not in same_split  # that is of all faces, not of those with a majority


@pytest.mark.parametrize("card", sorted(SHIPPED.glob("*.md")), ids=lambda card: card.stem)
def test_the_cards_in_models_follow_from_the_records(card):
    trainings, evaluations = read_accuracy_records(LOG)
    assert card.read_text() == model_card(card.with_suffix(".tflite"), trainings, latest_evaluations(evaluations))


@pytest.mark.parametrize("card", sorted(SHIPPED.glob("*.md")), ids=lambda card: card.stem)
def test_the_commands_in_the_cards_are_valid(card):
    contract = read_contract(card.with_suffix(".tflite"))
    *trainings, conversion = [shlex.split(line) for line in card.read_text().splitlines() if line.startswith("    fer-edge")]
    for words in trainings:
        assert train.command.make_context("train", words[2:]).params["networks"] == (contract.architecture,)
    options = convert.command.make_context("convert", conversion[2:]).params
    assert options["precisions"] == ("int8",)


def test_validation_faces_that_were_trained_on_are_stated(monkeypatch):
    contract = read_contract(MODEL)
    whole = replace(contract, split=replace(contract.split, validation_in_training=True))
    monkeypatch.setattr("fer_edge.benchmarks.model_card.read_contract", lambda path: whole)
    record = own_training()
    text = model_card(MODEL, [replace(record, plan=replace(record.plan, validated_by="89abcdef01"))], [own_evaluation()])
    count = f"{contract.split.counts.validation:,}"
    assert f"no validation: {count} of the training faces chose epochs, temperature and threshold" in text
    assert "in an earlier run (89abcdef)" in text


def test_what_teachers_classified_and_the_license_of_their_initial_weights_are_stated():
    record = own_training()
    plan = replace(record.plan, teachers=("t",), parent_digests=(None, "feed"), teacher_views="same")
    weights = LoadedWeights("faces.npz", license="Apache-2.0")
    teacher = replace(record, results=replace(record.results, model_digest="feed", weights=weights))
    text = model_card(MODEL, [replace(record, plan=plan), teacher], [own_evaluation()])
    assert "t (feed); they classified the augmented faces that the network saw" in text
    assert "initial weights of a teacher: faces.npz (Apache-2.0)" in text
