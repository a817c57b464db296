from dataclasses import replace

import pytest
from conftest import make_faces, write_class_folders

from fer_edge.artifacts.reporter import Reporter
from fer_edge.artifacts.training_data import check_labels
from fer_edge.train import evaluate_model
from fer_edge.train.class_names import assign_labels, ordered_labels, parse_label_map, with_model_labels
from fer_edge.train.class_report import check_trainable, report_classes
from fer_edge.train.dataset import DataError
from fer_edge.train.read_dataset import load_faces
from fer_edge.train.read_options import ReadOptions


class Messages(Reporter):
    def __init__(self):
        self.notes, self.warnings = [], []

    def note(self, text):
        self.notes.append(text)

    def warn(self, text):
        self.warnings.append(text)


def labels_of(names, pairs=(), stored=()):
    return assign_labels(names, parse_label_map(pairs, stored), "data")


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["Surprise", "anger", "joy"], ("angry", "happy", "surprise")),  # all known: canonical names and order
        (["bored", "confused", "engaged"], ("bored", "confused", "engaged")),
        (["anger", "Bored", "very happy"], ("Bored", "anger", "very happy")),  # one unknown: all names stay as they are
        (["怒り", "喜び", "cafe\u0301"], ("caf\u00e9", "喜び", "怒り")),  # from a Mac: the composed form
        (["خو\u200cش", "शांत"], ("خو\u200cش", "शांत")),  # a joiner inside a word
    ],
)
def test_class_names_are_canonical_or_the_users(tmp_path, names, labels):
    faces = load_faces(str(write_class_folders(tmp_path / "d", names)))
    assert faces.labels == labels
    assert len(faces) == 3 * len(names)


def test_a_map_may_name_any_label_and_decides_whether_all_are_known():
    assert labels_of(["anger", "bored"], ["bored=neutral"]) == {"anger": "angry", "bored": "neutral"}
    assert labels_of(["anger", "bored"], ["Bored=-"]) == {"anger": "angry", "bored": None}
    assert labels_of(["anger", "joy"], ["angry=Furious"]) == {"anger": "Furious", "joy": "joy"}
    assert ordered_labels(["joy", "Furious"]) == ("Furious", "joy")


def test_a_stored_map_applies_where_the_class_exists_and_is_not_given():
    stored = ["contempt=neutral", "bored=-"]
    assert labels_of(["contempt", "happy"], stored=stored) == {"contempt": "neutral", "happy": "happy"}
    assert labels_of(["contempt", "happy"], ["contempt=sad"], stored) == {"contempt": "sad", "happy": "happy"}


@pytest.mark.parametrize(
    ("names", "pairs", "message"),
    [
        (["happy", "sad"], ["contemt=-"], "data has no class 'contemt' to map; it has: happy, sad"),
        (["happy"], ["happy=-"], "leaves out every class"),
        ([f"c{number:02d}" for number in range(51)], [], "data has 51 classes, more than 50: c00, .* and 39 more"),
        (["Bored", "bored"], [], "'Bored' and 'bored' of data differ only in case.*--map 'Bored=bored'"),
        (["bored", "x" * 65], [], r"1 to 64 characters\. Received: 65"),
        (["bored", "a\x1b[31mb"], [], r"no control characters.*'a\\x1b\[31mb'"),
        (["bored", "a\u202eb"], [], r"'a\\u202eb'"),  # would reverse the text after it
        (["bored", "\udcff"], [], r"'\\udcff'"),  # a folder name that is not UTF-8
        (["bored", "happy "], [], "start or end with a space"),
        (["bored", "Unsure"], [], "'unsure' cannot be a class"),
    ],
)
def test_unusable_classes_are_rejected(names, pairs, message):
    with pytest.raises(DataError, match=message):
        labels_of(names, pairs)


def test_fifty_classes_are_accepted(tmp_path):
    names = [f"class {number:02d}" for number in range(50)]
    assert load_faces(str(write_class_folders(tmp_path / "d", names, count=1))).labels == tuple(names)


@pytest.mark.parametrize("pair", ["happy", "=sad", "happy="])
def test_a_pair_without_class_or_label_is_rejected(pair):
    with pytest.raises(ValueError, match=f"CLASS=LABEL.*Received: '{pair}'"):
        parse_label_map([pair])


def test_a_class_is_mapped_once():
    with pytest.raises(ValueError, match="'A' is mapped twice, to 'x' and to 'y'"):
        parse_label_map(["a=x", "A=y"])


def test_labels_must_be_distinct():
    with pytest.raises(ValueError, match="Received twice: sad"):
        check_labels(["sad", "happy", "sad"])


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"happy": 5}, "at least 2 classes. Received: happy"),
        ({"happy": 5, "odd one": 1}, "'odd one' has 1 image; .*--map 'odd one=-'"),
    ],
)
def test_classes_that_cannot_be_learned_are_rejected_before_an_image_is_decoded(tmp_path, counts, message):
    for name, count in counts.items():
        (tmp_path / name).mkdir()
        for number in range(count):
            (tmp_path / name / f"{number}.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=message):
        load_faces(str(tmp_path), ReadOptions(check_counts=check_trainable))


def test_folders_at_several_levels_are_rejected_unless_all_classes_are_known(tmp_path):
    write_class_folders(tmp_path / "bored", ["person 1", "person 2"])
    write_class_folders(tmp_path / "engaged", ["person 1"])
    with pytest.raises(DataError, match=r"'person 1' is in 'bored', which is not a split"):
        load_faces(str(tmp_path))


def test_custom_classes_inside_split_folders_are_read(tmp_path):
    for split in ("train", "test"):
        write_class_folders(tmp_path / "outer" / split, ["bored", "engaged"], count=2)
    faces = load_faces(str(tmp_path))
    assert faces.labels == ("bored", "engaged")
    assert faces.official_split.count("test") == 4


def test_images_directly_in_a_split_folder_are_not_a_class(tmp_path):
    write_class_folders(tmp_path, ["train", "test"])
    with pytest.raises(DataError, match=r"images outside class folders, for example 'test/0\.png'"):
        load_faces(str(tmp_path))


def test_few_unequal_and_small_classes_are_reported_with_their_counts():
    messages = Messages()
    report_classes(make_faces(["bored", "happpy", "ok"], [0] * 50 + [1] * 12 + [2] * 4), messages)
    names, few, unequal = messages.notes
    assert names == (
        "3 classes with the names of the data; not a known expression: bored, "
        "happpy (did you mean happy? --map 'happpy=happy'), ok"
    )
    assert few.startswith("only 3 classes: a guess is right in 33% of the cases, and always 'bored' in 76%")
    assert "ok 4, happpy 12, bored 50" in unequal
    assert messages.warnings[0].startswith("classes of fewer than 10 faces: ok 4.")


def test_equal_classes_of_known_expressions_need_no_report():
    messages = Messages()
    report_classes(make_faces(["angry", "fear", "happy", "neutral", "sad"], [0, 1, 2, 3, 4] * 10), messages)
    assert messages.notes == messages.warnings == []


def test_a_synonym_or_another_case_counts_as_the_label_of_the_model():
    faces = make_faces(["Bored", "anger", "joy", "other"], [0, 1, 2, 3])
    kept = with_model_labels(faces, ("angry", "bored", "happy"))
    assert kept.ids == ("face0", "face1", "face2")
    assert kept.targets.tolist() == [1, 0, 2]


def test_evaluate_applies_the_class_map_of_a_models_training(tmp_path, int8_model, monkeypatch):
    loaded = evaluate_model.load_model(int8_model)
    monkeypatch.setattr(evaluate_model, "load_model", lambda path, views: replace(loaded, label_map=("bored=neutral",)))
    write_class_folders(tmp_path, ["happy", "bored", "sad"], side=48)
    (result,) = evaluate_model.evaluate(int8_model, tmp_path)
    assert result.record.metrics.per_class["neutral"].support == 3
    (result,) = evaluate_model.evaluate(int8_model, tmp_path, label_map=["bored=-"])
    assert result.record.metrics.per_class["neutral"].support == 0
