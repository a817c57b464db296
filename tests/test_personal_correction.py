"""Fitting, evaluating and storing the correction of a person."""

import json
import stat
from dataclasses import replace

import numpy as np
import pytest

from fer_edge.edge_runtime.personal import people
from fer_edge.edge_runtime.personal.correction import (
    PRIOR_TAKES,
    TYPICAL_LEAD,
    Take,
    apply_offsets,
    fit_offsets,
    leave_one_out,
    log_probabilities,
)
from fer_edge.edge_runtime.personal.people import (
    PersonError,
    delete_person,
    make_person,
    people_folder,
    person_names,
    read_offsets,
    read_person,
    write_person,
)

LABELS = ("angry", "happy", "neutral", "sad")
SHIFT = np.array([1.0, -0.5, 0.5, -1.0])


def take(label, shift=0.0, lead=TYPICAL_LEAD):
    """A take whose label leads, plus a shift that is the same for all expressions of the person."""
    values = lead * np.array([label == other for other in LABELS]) + shift
    return Take(label, tuple(values.tolist()))


def shifted_takes(repeats=1):
    return [take(label, SHIFT) for label in LABELS] * repeats


@pytest.fixture(autouse=True)
def config_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


MODEL = ("model.tflite", "1" * 64, LABELS)


def make(takes=None, name="anna"):
    return make_person(name, shifted_takes() if takes is None else takes, *MODEL)


@pytest.mark.parametrize("repeats", [1, 5, 500])
def test_the_fit_recovers_a_shift_up_to_the_prior(repeats):
    count = 4 * repeats
    expected = -SHIFT * count / (count + PRIOR_TAKES)
    assert fit_offsets(shifted_takes(repeats), LABELS) == pytest.approx(expected.tolist())


def test_without_evidence_the_correction_is_the_identity():
    assert fit_offsets([], LABELS) == (0.0,) * 4
    assert fit_offsets([take(label) for label in LABELS], LABELS) == pytest.approx((0.0,) * 4)
    assert apply_offsets((0.1, 0.2, 0.3, 0.4), (0.0,) * 4) == pytest.approx((0.1, 0.2, 0.3, 0.4))


def test_a_label_that_was_not_shown_is_corrected_like_the_others():
    offsets = fit_offsets([take(label, SHIFT) for label in LABELS[:3]] * 1000, LABELS)
    assert offsets == pytest.approx((-SHIFT).tolist(), abs=0.01)


def test_many_takes_of_one_label_do_not_outweigh_the_others():
    uneven = [take("angry", SHIFT)] * 30 + [take("happy")]
    assert fit_offsets(uneven, LABELS) == pytest.approx((-SHIFT / 2 * 31 / (31 + PRIOR_TAKES)).tolist())


def test_corrected_probabilities_sum_to_1_and_a_zero_of_int8_can_rise():
    corrected = apply_offsets((1.0, 0.0, 0.0, 0.0), (-3.0, 5.0, 0.0, 0.0))
    assert sum(corrected) == pytest.approx(1)
    assert corrected.index(max(corrected)) == 1


def test_log_probabilities_are_finite():
    assert log_probabilities([0.0, 1.0]).tolist() == pytest.approx([np.log(1 / 512), 0.0])


def test_leave_one_out_measures_takes_that_the_fit_has_not_seen():
    # The shift makes every take look angry.
    shift = np.array([2.0, 0.0, 0.0, 0.0])
    takes = [take(label, shift) for label in LABELS] * 8
    evaluation = leave_one_out(takes, LABELS)
    assert evaluation.accuracy_before == pytest.approx(0.25)
    assert evaluation.accuracy_after == pytest.approx(1.0)
    assert evaluation.log_probability_after > evaluation.log_probability_before
    assert evaluation.is_useful


def test_every_shown_label_counts_the_same_in_leave_one_out():
    takes = [take("angry")] * 9 + [take("happy", np.array([3.0, 0.0, 0.0, 0.0]))]
    assert leave_one_out(takes, LABELS).accuracy_before == pytest.approx(0.5)


def test_a_correction_that_makes_labels_worse_is_rejected_with_its_numbers():
    # The angry takes teach that "sad" is too high. The only sad take leads by little, and a fit without it makes it wrong.
    takes = [take("angry", np.array([0.0, 0.0, 0.0, 0.9]))] * 6 + [take("sad", lead=0.2), take("happy", lead=-3)]
    evaluation = leave_one_out(takes, LABELS)
    assert (evaluation.accuracy_before, evaluation.accuracy_after) == pytest.approx((2 / 3, 1 / 3))
    assert not evaluation.is_useful
    with pytest.raises(PersonError, match=r"labels worse, so nothing was stored.* 8 images .* 66.7% -> 33.3% correct"):
        make(takes)
    assert person_names() == []


def test_nothing_is_stored_where_every_label_is_right_already():
    with pytest.raises(PersonError, match=r"nothing to correct, so nothing was stored: model.tflite labels all 4 images"):
        make([take(label) for label in LABELS])


@pytest.mark.parametrize("takes", [[], [take("happy")], [take("happy")] * 5])
def test_too_few_expressions_are_rejected(takes):
    with pytest.raises(PersonError, match=r"too few images: a correction needs at least 2 different expressions. Received: "):
        make(takes)


def test_a_person_survives_storing_and_only_the_user_can_read_the_file():
    person = make()
    path = write_person(person)
    assert path == people_folder() / "anna.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert read_person("anna") == person
    assert [file.name for file in path.parent.iterdir()] == ["anna.json"]
    assert person.takes == dict.fromkeys(LABELS, 1)


def test_the_file_contains_numbers_and_names_only():
    data = json.loads(write_person(make()).read_text())
    assert set(data) == {"name", "model", "model_sha256", "labels", "offsets", "takes", "evaluation", "version"}
    assert len(data["offsets"]) == len(data["labels"]) == 4


def test_a_person_is_replaced_and_deleted():
    write_person(make())
    write_person(replace(make(), offsets=(0.0, 0.0, 0.0, 0.5)))
    assert read_offsets("anna", *MODEL) == (0.0, 0.0, 0.0, 0.5)
    write_person(make(name="李 Ö"))
    assert person_names() == ["anna", "李 Ö"]
    delete_person("anna")
    assert person_names() == ["李 Ö"]
    with pytest.raises(FileNotFoundError, match=r"no personal file of 'anna'. Stored: 李 Ö"):
        delete_person("anna")


@pytest.mark.parametrize("name", ["", " ", "../x", "a/b", ".hidden", "a.json", "x" * 41, "anna ", "a\nb", "a\0"])
def test_names_that_are_no_file_names_are_rejected(name):
    with pytest.raises(PersonError, match=r"a person's name has 1 to 40 letters"):
        read_person(name)


@pytest.mark.parametrize(
    "other", [("model.tflite", "2" * 64, LABELS), ("model.tflite", "1" * 64, ("angry", "happy", "sad", "neutral"))]
)
def test_a_file_from_another_model_is_rejected(other):
    write_person(make())
    with pytest.raises(PersonError, match=r"of 'anna' is from another model, model.tflite with the labels angry"):
        read_offsets("anna", *other)


def test_an_unknown_person_is_reported_with_the_known_ones():
    with pytest.raises(FileNotFoundError, match=r"no personal file of 'bob'. None is stored"):
        read_offsets("bob", *MODEL)
    write_person(make())
    with pytest.raises(FileNotFoundError, match=r"no personal file of 'bob'. Stored: anna"):
        read_offsets("bob", *MODEL)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda text: text[: len(text) // 2], "damaged"),
        (lambda text: text.replace('"version": 1', '"version": 9'), "version must be 1. Received: 9"),
        (lambda text: text.replace('"offsets": [', '"offsets": [1, '), "one offset per label, 4. Received: 5"),
        (lambda text: text.replace('"offsets": [\n', '"offsets": [\n NaN, ').replace('"labels": [', '"labels": ["x",'), "nan"),
        (lambda text: "[]", "must be an object"),
    ],
)
def test_a_damaged_file_is_reported(change, problem):
    path = write_person(make())
    path.write_text(change(path.read_text()))
    with pytest.raises(PersonError, match=f"anna.json is damaged .*{problem}|{problem} .*Delete it"):
        read_person("anna")


def test_a_relative_config_folder_is_ignored(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", "here")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert people.people_folder() == tmp_path / ".config/fer-edge/people"
