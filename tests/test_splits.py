from dataclasses import replace

import numpy as np
import pytest
from conftest import make_faces

from fer_edge.artifacts.training_data import Leakage
from fer_edge.train.dataset import DataError
from fer_edge.train.evaluation_set import TrainingProvenance, select_faces
from fer_edge.train.splits import leakage, make_split, make_splits

CKPLUS_COUNTS = {"angry": 135, "contempt": 54, "disgust": 177, "fear": 75, "happy": 207, "sad": 84, "surprise": 249}


def test_the_paper_split_gives_the_published_test_counts():
    targets = np.repeat(range(7), list(CKPLUS_COUNTS.values()))
    images = [np.frombuffer(np.int32(number).tobytes(), np.uint8).reshape(2, 2) for number in range(981)]
    split = make_split(make_faces(CKPLUS_COUNTS, targets, images=images), "paper")
    counts = dict(zip(CKPLUS_COUNTS, np.bincount(targets[split.test]).tolist(), strict=True))
    assert counts == {"angry": 27, "contempt": 11, "disgust": 36, "fear": 15, "happy": 42, "sad": 17, "surprise": 50}


@pytest.mark.parametrize("name", ["paper", "subject"])
def test_the_splits_divide_the_data_and_repeat_with_the_seed(faces, name):
    split, again, other = (make_split(faces, name, seed=seed) for seed in (3, 3, 4))
    everything = np.sort(np.concatenate([split.train, split.validation, split.test]))
    assert everything.tolist() == list(range(len(faces)))
    assert split.ids(faces) == again.ids(faces)
    assert split.ids(faces) != other.ids(faces)


def test_no_subject_is_in_two_splits_and_ten_folds_cover_everyone():
    targets = [number % 2 for number in range(80)]
    faces = make_faces(["happy", "sad"], targets, subjects=[f"P{number // 4}" for number in range(80)])
    tested = []
    for fold in range(10):
        split = make_split(faces, "subject", fold=fold, folds=10)
        people = [{faces.subjects[i] for i in indices} for indices in (split.train, split.validation, split.test)]
        assert not (people[0] & people[1] or people[0] & people[2] or people[1] & people[2])
        tested += split.test.tolist()
    assert sorted(tested) == list(range(80))


def test_the_official_protocol_trains_without_copies_of_test_images():
    shared = np.full((4, 4), 200, np.uint8)
    images = [np.full((4, 4), number, np.uint8) for number in range(40)]
    images[3] = images[39] = shared
    parts = ["train"] * 36 + ["test"] * 4
    faces = make_faces(["happy", "sad"], [number % 2 for number in range(40)], official_split=parts, images=images)
    split = make_split(faces, "official")
    assert 3 not in split.train
    assert 3 not in split.validation
    assert split.test.tolist() == [36, 37, 38, 39]
    assert leakage(faces, split).identical_images == 0


def test_leakage_counts_people_and_identical_images():
    images = [np.full((2, 2), max(number - 30, 0), np.uint8) for number in range(40)]
    faces = make_faces(["happy", "sad"], [0, 1] * 20, subjects=["A", "B"] * 20, images=images)
    split = make_split(faces, "paper")
    black = int((split.test <= 30).sum())
    assert 0 < black < 8
    assert leakage(faces, split) == Leakage(black, shared_subjects=2, test_images_of_shared_subjects=8, leaky=True)
    assert leakage(faces, split).warning().startswith("leaky split: 8 test images show 2 people")


def test_auto_prefers_official_then_subject_then_paper(faces):
    assert make_split(faces, "auto").protocol == "subject"
    targets = [0, 1] * 20
    assert make_split(make_faces(["happy", "sad"], targets), "auto").protocol == "paper"
    parts = ["train"] * 30 + ["test"] * 10
    assert make_split(make_faces(["happy", "sad"], targets, official_split=parts), "auto").protocol == "official"


def test_impossible_protocols_are_rejected(faces):
    nameless = make_faces(["happy", "sad"], [0, 1] * 10)
    with pytest.raises(ValueError, match="unknown protocol 'random'"):
        make_split(faces, "random")
    with pytest.raises(DataError, match="does not name its subjects"):
        make_split(nameless, "subject")
    with pytest.raises(DataError, match="no official train and test split"):
        make_split(nameless, "official")
    with pytest.raises(ValueError, match="fold must be from 0"):
        make_split(faces, "subject", fold=10, folds=10)


def test_a_dataset_too_small_for_three_splits_is_rejected():
    with pytest.raises(DataError, match="leave none for validation"):
        make_split(make_faces(["happy", "sad"], [0, 0, 1, 1]), "paper")


@pytest.mark.parametrize("name", ["paper", "official"])
def test_a_training_split_of_held_out_images_is_rejected(name):
    images = [np.full((4, 4), kind, np.uint8) for kind in (0, 1) for _ in range(6)]
    with pytest.raises(DataError, match="every training image of tiny is also a validation or test image"):
        make_split(make_faces(["happy", "sad"], [0] * 6 + [1] * 6, images=images, official_split=["train", "test"] * 6), name)


def test_a_class_absent_from_training_is_rejected():
    faces = make_faces(["happy", "sad"], [0] * 20 + [1] * 10, official_split=["train"] * 20 + ["test"] * 10)
    with pytest.raises(DataError, match="no training image of class sad"):
        make_split(faces, "official")


def trained_on(faces, split):
    return TrainingProvenance(faces.labels, faces.name, faces.fingerprint, split.summary(faces), split.ids(faces))


def test_a_model_is_measured_on_its_test_split_and_another_seed_is_warned_about(faces):
    split = make_split(faces, "subject", seed=5)
    own = select_faces(faces, trained_on(faces, split))
    assert own.faces.ids == split.ids(faces).test
    assert own.warning is None
    other = select_faces(faces, trained_on(faces, split), "subject", seed=6)
    assert "trained on another split" in other.warning


def test_validation_faces_are_warned_about(faces):
    split = make_split(faces, "paper", seed=1)
    trained = trained_on(faces, split)
    own, other = (select_faces(faces, trained, "paper", "validation", seed) for seed in (1, 2))
    assert "chose and calibrated" in own.warning
    assert "it has seen some of these faces" in other.warning


def test_the_ids_in_a_run_define_its_test_split(faces):
    split = make_split(faces, "subject", seed=5)
    stored = replace(split.ids(faces), test=split.ids(faces).test[:3])
    chosen = select_faces(faces, replace(trained_on(faces, split), ids=stored))
    assert chosen.faces.ids == split.ids(faces).test[:3]


def test_other_data_is_warned_about_only_if_its_name_is_that_of_the_training_data(faces):
    trained = TrainingProvenance(faces.labels, "elsewhere", "0" * 64, make_split(faces, "paper").summary(faces))
    chosen = select_faces(faces, trained, "paper")
    assert chosen.warning is None
    assert chosen.not_in_training is None
    namesake = TrainingProvenance(faces.labels, faces.name, "0" * 64, make_split(faces, "paper").summary(faces))
    assert "may have seen some of these faces" in select_faces(faces, namesake, "all").warning


def test_private_test_belongs_to_the_official_protocol():
    parts = ["train"] * 30 + ["test"] * 5 + ["private_test"] * 5
    faces = make_faces(["happy", "sad"], [0, 1] * 20, official_split=parts)
    trained = trained_on(faces, make_split(faces, "official"))
    assert select_faces(faces, trained, split="private_test").faces.ids == faces.ids[35:]
    with pytest.raises(DataError, match="belongs to the protocol 'official'"):
        select_faces(faces, trained, "paper", "private_test")


def test_faces_of_unknown_labels_are_dropped_and_counted(faces):
    small = faces.with_labels(("happy", "sad"))
    trained = TrainingProvenance(("sad", "happy"), "other", "0" * 64, make_split(small, "paper").summary(small))
    chosen = select_faces(faces, trained)
    assert chosen.dropped == len(faces) - len(small)
    assert {name.split("/")[0] for name, target in zip(chosen.faces.ids, chosen.faces.targets, strict=True) if target == 0} == {
        "sad"
    }


def test_test_images_with_a_copy_in_training_are_marked():
    images = [np.full((4, 4), number, np.uint8) for number in range(40)]
    images[39] = images[0]
    faces = make_faces(["happy", "sad"], [0, 1] * 20, official_split=["train"] * 36 + ["test"] * 4, images=images)
    chosen = select_faces(faces, trained_on(faces, make_split(faces, "official")))
    assert chosen.not_in_training.tolist() == [True, True, True, False]


def test_folds_without_a_fold_are_all_folds_of_every_seed():
    people = [f"S{number // 2}" for number in range(24)]
    faces = make_faces(["happy", "sad"], [0, 1] * 12, subjects=people)
    splits = make_splits(faces, "subject", [0, 7], 3, None)
    assert [(seed, split.fold) for seed, split in splits] == [(0, 0), (0, 1), (0, 2), (7, 0), (7, 1), (7, 2)]
    tested = np.sort(np.concatenate([split.test for seed, split in splits if seed == 0]))
    assert tested.tolist() == list(range(24))  # each face is tested once
    assert [split.fold for _, split in make_splits(faces, "subject", [0], 3, 1)] == [1]
    with pytest.raises(ValueError, match="each seed must occur once"):
        make_splits(faces, "paper", [1, 1], None, None)
    with pytest.raises(DataError, match=r"at least 2 classes; .* has only 'happy'"):
        make_splits(make_faces(["happy"], [0] * 24, subjects=people), "paper", [0], None, None)


@pytest.mark.parametrize(("people", "shown"), [(1, "1 person"), (2, "2 people")])
def test_fewer_people_are_divided_at_random_unless_they_must_not_be(people, shown):
    faces = make_faces(["happy", "sad"], [0, 1] * 20, [f"S{number // 2 % people}" for number in range(40)])
    split = make_split(faces, "auto")
    assert split.protocol == "paper"
    assert leakage(faces, split).warning() == f"leaky split: 8 test images show {shown} seen in training"
    with pytest.raises(DataError, match=rf"needs 3 people, one per split; tiny has {people}\. Use --protocol paper"):
        make_split(faces, "subject")


ALTERNATING = [0, 0, 0, 1, 1, 1] * 4  # each of three people in both classes


@pytest.mark.parametrize(
    ("folds", "targets", "message"),
    [
        (4, ALTERNATING, r"^3 people are too few for 4 folds\. Use fewer folds or add people$"),
        (2, ALTERNATING, r"^one of 2 folds has all people of tiny but one, who .*\. Use --folds 3 or add people$"),
        (3, [0, 0, 1] * 8, "^no training image of class sad under protocol 'subject' of tiny. Add images of other people, or"),
    ],
)
def test_folds_that_three_people_cannot_fill_are_rejected(folds, targets, message):
    people = [number % 3 for number in range(24)]
    faces = make_faces(["happy", "sad"], targets, [f"S{person}" for person in people])
    with pytest.raises(DataError, match=message):
        make_splits(faces, "subject", [0], folds, None)
