from dataclasses import replace

import numpy as np
import pytest
from conftest import make_faces

from fer_edge.train.ferplus import majority, soft_labels, vote_shares, with_votes
from fer_edge.train.soft_labels import label_distributions, vote_distributions

VOTES = "neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF\n"
BY_NAME, BY_ROW = "name," + VOTES, "Usage,Image name," + VOTES
NAMES = ("train/angry/Training_1.jpg", "train/happy/Training_2.jpg", "train/sad/Training_3.jpg", "test/sad/PublicTest_4.jpg")
ROWS = ("0,1,0,0,5,0,0,4,0,0", "0,9,0,0,1,0,0,0,0,0", "3,0,0,3,0,0,0,0,4,0", "0,0,0,6,0,0,0,0,0,4")


def faces_by_name():
    return replace(make_faces(["angry", "happy", "sad"], [0, 1, 2, 2], official_split=["train"] * 3 + ["test"]), ids=NAMES)


def table(path, header, starts, rows=ROWS):
    path.write_text(header + "".join(f"{start},{row}\n" for start, row in zip(starts, rows, strict=True)))
    return path


def test_votes_by_image_name_become_eight_classes_and_faces_without_an_expression_are_left_out(tmp_path):
    voted = with_votes(faces_by_name(), table(tmp_path / "by_name.csv", BY_NAME, NAMES))
    assert voted.name == "ferplus"
    assert voted.labels == ("angry", "contempt", "disgust", "fear", "happy", "neutral", "sad", "surprise")
    assert voted.ids == (NAMES[0], NAMES[1], NAMES[3])  # most annotators marked the third as unknown
    assert [voted.labels[target] for target in voted.targets] == ["angry", "happy", "sad"]
    assert voted.skipped == ("left out 1 of 4 faces: annotators mark them as unknown or as not a face",)
    assert voted.votes.sum(axis=1).tolist() == [10, 10, 10]


def test_single_votes_are_outliers_in_training_and_count_for_agreement_and_calibration(tmp_path):
    voted = with_votes(faces_by_name(), table(tmp_path / "by_name.csv", BY_NAME, NAMES))
    angry, happy = soft_labels(voted.votes)[:2]
    assert angry == pytest.approx([5 / 9, 4 / 9, 0, 0, 0, 0, 0, 0])
    assert happy == pytest.approx([0, 0, 0, 0, 1, 0, 0, 0])
    assert label_distributions(voted) == pytest.approx(soft_labels(voted.votes))
    assert vote_distributions(voted) == pytest.approx(vote_shares(voted.votes))
    assert vote_shares(voted.votes)[:, [0, 4, 6]] == pytest.approx(np.array([[0.5, 0.1, 0], [0.1, 0.9, 0], [0, 0, 0.6]]))
    assert majority(voted.votes).tolist() == [True, True, True]
    even = np.array([[4, 4, 0, 0, 0, 0, 0, 0, 2]], np.float32)
    assert majority(even).tolist() == [False]


def test_a_face_without_a_row_is_not_a_face(tmp_path):
    voted = with_votes(faces_by_name(), table(tmp_path / "by_name.csv", BY_NAME, NAMES[:2], ROWS[:2]))
    assert voted.ids == NAMES[:2]
    assert voted.skipped == ("left out 2 of 4 faces: annotators mark them as unknown or as not a face",)


def test_copies_of_an_image_in_two_classes_have_a_row_each(tmp_path):
    names = (NAMES[0], NAMES[1], "train/happy/Training_1.jpg", NAMES[3])
    faces = replace(faces_by_name(), ids=tuple(f"fer2013/{name}" for name in names))
    voted = with_votes(faces, table(tmp_path / "by_name.csv", BY_NAME, names, (*ROWS[:2], ROWS[1], ROWS[3])))
    assert [voted.labels[target] for target in voted.targets] == ["angry", "happy", "happy", "sad"]


def test_a_subset_and_another_label_order_keep_the_votes_of_each_face(tmp_path):
    voted = with_votes(faces_by_name(), table(tmp_path / "by_name.csv", BY_NAME, NAMES))
    two = voted.with_labels(("happy", "angry"))
    assert two.ids == NAMES[:2]
    assert two.votes.tolist() == [[1, 5, 4], [9, 1, 0]]


def test_votes_by_row_belong_to_the_rows_of_the_csv_not_to_its_image_names(tmp_path):
    ids = tuple(f"row_{number:05d}" for number in range(4))
    faces = replace(faces_by_name(), ids=ids)
    starts = ["Training,fer0000000.png", "Training,", "Training,fer0000001.png", "PublicTest,fer0000002.png"]
    path = table(tmp_path / "fer2013new.csv", BY_ROW, starts)
    voted = with_votes(faces, path)
    assert [voted.labels[target] for target in voted.targets] == ["angry", "happy", "sad"]
    with pytest.raises(ValueError, match=r"needs --data fer2013\.csv.*Received: face 'train/angry/Training_1.jpg'"):
        with_votes(faces_by_name(), path)
    shuffled = [starts[3], *starts[:3]]
    with pytest.raises(ValueError, match=r"row 1 of .* is 'PublicTest', tiny has it in split 'train'. Rows were filtered"):
        with_votes(faces, table(tmp_path / "shuffled.csv", BY_ROW, shuffled))
    with pytest.raises(ValueError, match=r"has 3 rows, tiny has 4. Rows were filtered or shuffled"):
        with_votes(faces, table(tmp_path / "short.csv", BY_ROW, starts[:3], ROWS[:3]))
    with pytest.raises(ValueError, match=r"has 4 rows, tiny has 3. Rows were filtered"):
        with_votes(faces.subset(np.arange(3)), path)


def test_the_table_of_other_faces_is_rejected(tmp_path):
    path = table(tmp_path / "shifted.csv", BY_NAME, NAMES, (ROWS[1], ROWS[3], ROWS[0], ROWS[0]))
    with pytest.raises(ValueError, match=r"agree with the labels of only 0% of the faces of tiny.*its original order"):
        with_votes(faces_by_name(), path)
    with pytest.raises(ValueError, match="has votes for none of the 4 faces of tiny"):
        with_votes(faces_by_name(), table(tmp_path / "others.csv", BY_NAME, ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n", "is not a FER\\+ table: it lacks NF, angry, contempt"),
        ("", "it has: no rows"),
        (VOTES + "0,1,0,0,5,0,0,4,0,0\n", "it lacks name or Usage"),
        (BY_NAME + "x.jpg,0,1,0,0,many,0,0,4,0,0\n", "row 1 of .* has votes that are not numbers"),
        (BY_NAME + "x.jpg,0,1,0,0,-3,0,0,4,0,0\n", "row 1 of .* has votes below 0 or infinite"),
        (BY_NAME + "x.jpg,0,1\n", "row 1 of .* lacks votes"),
        (BY_NAME + "x.jpg,0,1,0,0,5,0,0,4,0,0\n" * 2, "has two rows for 'x.jpg'"),
    ],
)
def test_a_table_that_cannot_be_used_is_rejected(tmp_path, content, message):
    path = tmp_path / "table.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        with_votes(faces_by_name(), path)
    with pytest.raises(FileNotFoundError, match="no FER\\+ table"):
        with_votes(faces_by_name(), tmp_path / "none.csv")
