"""Datasets as people have them: splits, tables, archives and files that are not what their names say."""

import os
import tarfile
import zipfile
from collections import Counter
from pathlib import PurePosixPath

import numpy as np
import pytest
from conftest import make_faces, write_class_folders
from media import encode

from fer_edge.edge_runtime.images import write_image
from fer_edge.train.dataset import DataError
from fer_edge.train.dataset_files import MAX_IMAGE_BYTES, DatasetFiles
from fer_edge.train.evaluation_set import select_faces
from fer_edge.train.official_splits import resolve_splits, split_of_image, split_of_name
from fer_edge.train.read_dataset import load_faces
from fer_edge.train.splits import make_split

PIXELS = " ".join(["7"] * 2304)


def counts_of(faces):
    return dict(Counter(faces.official_split))


def write_splits(root, *names, classes=("happy", "sad")):
    for name in names:
        write_class_folders(root / name, classes, count=2)
    return root


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *(("Training", "train"), ("train_set", "train"), ("Testing", "test"), ("FER2013Test", "test"), ("dev", "validation")),
        *(("PublicTest", "test"), ("PRIVATETEST", "private_test"), ("Private Test", "private_test"), ("valid", "validation")),
        *(("testdata", "test"), ("Validset", "validation"), ("trainval", "train"), ("fer2013_tests", "test")),
        *(("eval", "evaluation"), ("train_test", None), ("happy", None), ("contest", None), ("2024", None)),
    ],
)
def test_a_name_means_a_split_in_any_wording(name, split):
    assert split_of_name(name) == split


@pytest.mark.parametrize(
    ("folders", "file_name", "split"),
    [
        (("test", "train"), "PublicTest_1.jpg", "train"),  # the folder next to the class
        (("val",), "Training_1.jpg", "validation"),
        (("test",), "PrivateTest_1.jpg", "private_test"),  # FER2013 has both sets in one folder
        (("a",), "Training_1.jpg", "train"),
        ((), "test-7.jpg", "test"),
        ((), "train12.png", "train"),
        ((), "happy_7_train.jpg", "train"),
        ((), "my_test.jpg", None),
        ((), "evaluation of a smile.jpg", None),
    ],
)
def test_folders_take_precedence_over_file_names(folders, file_name, split):
    assert split_of_image(folders, file_name) == split


def test_eval_is_the_test_split_unless_there_is_another():
    assert resolve_splits(["train", "evaluation", "validation"]).splits == ("train", "test", "validation")
    assert resolve_splits(["train", "evaluation", "test"]).splits == ("train", "validation", "test")
    assert resolve_splits(["train", "private_test"]).splits == ("train", "test")


def test_a_validation_split_alone_serves_as_test_with_a_note():
    official = resolve_splits(["train", "validation"])
    assert official.splits == ("train", "test")
    assert official.notes[0].startswith("the data has no test split: its validation split serves as test")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("Training", "Testing"), {"train": 4, "test": 4}),
        (("x/images/train", "x/images/validation"), {"train": 4, "test": 4}),
        (("FER2013Train", "FER2013Valid", "FER2013Test"), {"train": 4, "validation": 4, "test": 4}),
    ],
)
def test_split_folders_are_recognized(tmp_path, names, expected):
    assert counts_of(load_faces(str(write_splits(tmp_path, *names)))) == expected


def test_split_folders_inside_class_folders_are_recognized(tmp_path):
    for name in ("bored", "engaged"):
        write_class_folders(tmp_path / name, ["train", "test"], count=2)
    faces = load_faces(str(tmp_path))
    assert faces.labels == ("bored", "engaged")
    assert counts_of(faces) == {"train": 4, "test": 4}


def test_splits_that_are_not_understood_stop_training_and_evaluation(tmp_path):
    faces = load_faces(str(write_splits(tmp_path, "part one", "part two")))
    with pytest.raises(DataError, match=r"part one, part two may name splits but cannot be understood.*--protocol paper"):
        make_split(faces, "auto")
    assert make_split(faces, "paper").protocol == "paper"
    trained = type("Trained", (), {"fingerprint": "another", "labels": faces.labels, "data": "another"})
    with pytest.raises(DataError, match="--protocol all"):
        select_faces(faces, trained)
    assert len(select_faces(faces, trained, "all").faces) == 8


def test_images_outside_the_splits_stop_training(tmp_path):
    write_splits(tmp_path, "train", "test")
    write_class_folders(tmp_path, ["happy"], count=2)
    with pytest.raises(DataError, match="2 of 10 images are in no split"):
        make_split(load_faces(str(tmp_path)), "auto")


def test_a_missing_training_split_stops_training():
    faces = make_faces(["happy", "sad"], [0, 1, 0, 1], official_split=["test", "test", "validation", "validation"])
    with pytest.raises(DataError, match="has the splits test, validation, so train or test is missing"):
        make_split(faces, "auto")


def test_few_people_leave_every_class_in_training():
    people = np.repeat(np.arange(14), 3)  # three frames each
    faces = make_faces(list("abcdefg"), people % 7, [f"S{person}" for person in people])
    split = make_split(faces, "subject")
    assert set(faces.targets[split.train]) == set(range(7))
    assert len(split.validation) > 0


@pytest.mark.parametrize("people", [3, 4])
def test_three_people_are_enough_for_three_splits(people):
    subjects = np.repeat(np.arange(people), 4)
    faces = make_faces(["happy", "sad"], np.arange(len(subjects)) % 2, [f"S{person}" for person in subjects])
    split = make_split(faces, "auto")
    assert split.protocol == "subject"
    parts = [{faces.subjects[i] for i in part} for part in (split.train, split.validation, split.test)]
    assert [len(part) for part in parts] == [people - 2, 1, 1]
    assert len(set.union(*parts)) == people


def table(rows, header="emotion,pixels,Usage"):
    return "\n".join([header, *rows]) + "\n"


ROWS = [f"3,{PIXELS},Training", f"4,{PIXELS},PublicTest"]


@pytest.mark.parametrize(
    "content",
    [
        table(ROWS).encode(),
        table(ROWS, "Emotion, Pixels, usage").encode(),
        table([row.replace("3,", "3.0,", 1).replace("4,", "4.0,", 1) for row in ROWS]).encode(),
        table([row.replace("3,", "Happy,", 1).replace("4,", "sadness,", 1) for row in ROWS]).encode(),
        table([row.replace(",", ";") for row in ROWS], "emotion;pixels;Usage").encode("utf-16"),
        table([row.replace(PIXELS, f'"[{PIXELS.replace(" ", ", ")}]"') for row in ROWS]).encode("utf-8-sig"),
        table([row.replace(",", "\t") for row in ROWS], "label\tpixels\tsplit").encode(),
        table([row.replace(",", "|") for row in ROWS], "emotion|pixels|Usage").encode("utf-16-le"),
        b"sep=;\r\n" + table([row.replace(",", ";").replace(";", ",0;", 1) for row in ROWS], "emotion;pixels;Usage").encode(),
        table(ROWS, "emotion,pixels,purpose").encode("utf-16-be"),
    ],
    ids=["fer2013", "capitals", "floats", "words", "utf-16 and semicolons", "brackets", "tabs", "bars", "Excel", "any title"],
)
def test_a_table_is_read_in_any_common_form(tmp_path, content):
    (tmp_path / "faces.csv").write_bytes(content)
    faces = load_faces(str(tmp_path / "faces.csv"))
    assert faces.labels == ("happy", "sad")
    assert faces.official_split == ("train", "test")
    assert faces.ids == ("row_00000", "row_00001")
    assert faces.images[0].shape == (48, 48)
    assert faces.images[0][0, 0] == 7


def test_code_7_is_contempt(tmp_path):
    (tmp_path / "a.csv").write_text(table([*ROWS, f"7,{PIXELS},Training"]))
    assert load_faces(str(tmp_path / "a.csv")).labels == ("contempt", "happy", "sad")


def test_several_tables_are_read_together_with_splits_from_their_names(tmp_path):
    for name in ("train", "val", "test"):
        (tmp_path / f"{name}.csv").write_text(table([f"3,{PIXELS}", f"4,{PIXELS}"], "emotion,pixels"))
    faces = load_faces(str(tmp_path))
    assert counts_of(faces) == {"train": 2, "validation": 2, "test": 2}
    assert faces.ids[0] == "test/row_00000"
    (tmp_path / "more.csv").write_text(table([f"3,{PIXELS}"], "emotion,pixels"))
    with pytest.raises(DataError, match=r"more\.csv may name splits"):
        make_split(load_faces(str(tmp_path)), "auto")


def test_the_folder_of_a_table_names_its_split(tmp_path):
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "faces.csv").write_text(table([f"3,{PIXELS}", f"4,{PIXELS}"], "emotion,pixels"))
    assert counts_of(load_faces(str(tmp_path))) == {"train": 2, "test": 2}


def test_a_column_is_the_split_only_if_all_its_values_name_one(tmp_path):
    (tmp_path / "a.csv").write_text(table([*ROWS, f"4,{PIXELS},mine"], "emotion,pixels,source"))
    assert set(load_faces(str(tmp_path / "a.csv")).official_split) == {None}


def test_kaggles_zip_is_read_as_downloaded(tmp_path):
    with zipfile.ZipFile(tmp_path / "challenge.zip", "w") as archive:
        archive.writestr("icml_face_data.csv", table(ROWS))
        archive.writestr("train.csv", table([f"3,{PIXELS}"], "emotion,pixels"))
        archive.writestr("test.csv", table([PIXELS], "pixels"))
        archive.writestr("example_submission.csv", "id,emotion\n0,0\n")
        archive.writestr("fer2013.tar.gz", b"\x1f\x8b")
    faces = load_faces(str(tmp_path / "challenge.zip"))
    assert counts_of(faces) == {"train": 1, "test": 1}
    assert faces.notes == ("read icml_face_data.csv; left out example_submission.csv, test.csv, train.csv",)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["9,1 2 3,Training"], r"no emotion code 0\.\.7: '9'"),
        (["3,1 2 3,Training"], "it has 3 pixels, not those of a square"),
        ([f"3,{PIXELS[:-1]}999,Training"], r"not whole numbers 0\.\.255"),
        ([f"3,{'x' * 9000},Training"], r"its pixels are not numbers: .{0,40}\)$"),
        ([f",{PIXELS},Training"], "it has no class"),
    ],
)
def test_unreadable_rows_are_reported_briefly(tmp_path, rows, message):
    (tmp_path / "a.csv").write_text(table(rows))
    with pytest.raises(DataError, match=message) as raised:
        load_faces(str(tmp_path / "a.csv"))
    assert len(str(raised.value)) < 400


def test_archives_under_other_names_are_named(tmp_path):
    with tarfile.open(tmp_path / "fer2013.csv", "w") as archive:
        archive.add(write_class_folders(tmp_path / "d", ["happy"]), "d")
    with pytest.raises(DataError, match=r"fer2013\.csv is a tar archive, not a csv\. Unpack it"):
        load_faces(str(tmp_path / "fer2013.csv"))
    (tmp_path / "fer2013.tar.gz").write_bytes(b"\x1f\x8b" + bytes(500))
    with pytest.raises(DataError, match=r"is a gzip archive\. Unpack it"):
        load_faces(str(tmp_path / "fer2013.tar.gz"))
    (tmp_path / "zipped.csv").write_bytes(b"PK\x03\x04" + bytes(500))
    with pytest.raises(DataError, match=r"zipped\.csv is a zip archive, not a csv\. Unpack it"):
        load_faces(str(tmp_path / "zipped.csv"))
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "ck.tar.gz").write_bytes(b"\x1f\x8b" + bytes(500))
    with pytest.raises(DataError, match=r"it has: 1 gzip archive \(ck\.tar\.gz\)\. Unpack it"):
        load_faces(str(tmp_path / "only"))
    (tmp_path / "binary.csv").write_bytes(bytes(600))
    with pytest.raises(DataError, match=r"binary\.csv is not a text file"):
        load_faces(str(tmp_path / "binary.csv"))


def pack(path, folder, rename=lambda name: name, encode=None):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.png")):
            info = zipfile.ZipInfo(rename(file.relative_to(folder).as_posix()))
            archive.writestr(info, file.read_bytes())
    return path


def test_a_zip_with_backslashes_is_the_same_data(tmp_path):
    folder = write_class_folders(tmp_path / "d", ["happy", "sad"])
    packed = pack(tmp_path / "old.zip", folder, lambda name: "CK\\" + name.replace("/", "\\"))
    assert load_faces(str(packed)).ids == load_faces(str(folder)).ids


def test_class_names_of_a_zip_from_a_mac_are_utf_8(tmp_path):
    folder = write_class_folders(tmp_path / "d", ["müde", "wach"], count=2)
    packed = pack(tmp_path / "mac.zip", folder)
    content = bytearray(packed.read_bytes())
    for mark in (b"PK\x03\x04", b"PK\x01\x02"):  # clear the flag for UTF-8 in both headers
        position = content.find(mark)
        while position >= 0:
            content[position + (7 if mark[2] == 3 else 9)] &= ~0x08
            position = content.find(mark, position + 1)
    packed.write_bytes(content)
    assert not any(member.flag_bits & 0x800 for member in zipfile.ZipFile(packed).infolist())
    assert load_faces(str(packed)).labels == ("müde", "wach")


def test_zips_in_a_folder_are_read_if_it_has_nothing_else(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for name in ("train", "test"):
        pack(data / f"{name}.zip", write_class_folders(tmp_path / name, ["happy", "sad"], count=2))
    assert counts_of(load_faces(str(data))) == {"train": 4, "test": 4}
    write_class_folders(data, ["happy"], count=1)  # the unpacked data next to its zip
    faces = load_faces(str(data))
    assert len(faces) == 1
    assert faces.notes == (f"left out of {data}: 2 zip archive (test.zip, train.zip)",)


@pytest.mark.parametrize(
    ("archives", "expected"),
    [
        ({"happy.zip": "happy", "sad.zip": "sad"}, {None: 4}),  # one per class
        ({"faces-001.zip": "faces/happy", "faces-002.zip": "faces/sad"}, {None: 4}),  # one download in parts
        ({"happy_train.zip": "happy", "happy_test.zip": "happy"}, {"train": 2, "test": 2}),
    ],
)
def test_a_folder_that_the_name_of_a_zip_repeats_is_not_added_twice(tmp_path, archives, expected):
    data = tmp_path / "data"
    data.mkdir()
    for number, (name, folder) in enumerate(archives.items()):
        source = tmp_path / str(number)
        write_class_folders(source / PurePosixPath(folder).parent, [PurePosixPath(folder).name], count=2)
        pack(data / name, source)
    faces = load_faces(str(data))
    assert counts_of(faces) == expected
    assert set(faces.labels) == {PurePosixPath(folder).name for folder in archives.values()}
    assert faces.split_problem is None


def test_links_are_followed_once(tmp_path):
    data = write_splits(tmp_path / "data", "train")
    write_class_folders(tmp_path / "elsewhere", ["happy", "sad"], count=2)
    (data / "test").symlink_to(tmp_path / "elsewhere")
    (data / "train" / "loop").symlink_to(data)
    assert counts_of(load_faces(str(data))) == {"train": 4, "test": 4}


def test_folders_of_thumbnails_are_left_out_with_a_note(tmp_path):
    folder = write_class_folders(tmp_path / "d", ["happy", "sad"])
    write_class_folders(folder / "happy", ["@eaDir"])
    write_class_folders(folder, ["#recycle", ".hidden"])
    (folder / "sad" / "film.gif").write_bytes(b"GIF89a")
    (folder / "sad" / "notes.txt").write_text("x")
    faces = load_faces(str(folder))
    assert len(faces) == 6
    assert "1 GIF (film.gif)" in faces.notes[0]
    assert "notes.txt" not in faces.notes[0]


def test_10_bit_images_and_other_suffixes_have_the_brightness_of_the_others(tmp_path):
    gray = np.full((48, 48), 100, np.uint8)
    gray[0] = 255
    for name in ("happy", "sad"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "deep.png").write_bytes(encode(".png", gray.astype(np.uint16) * 4))
        (tmp_path / name / "photo.jfif").write_bytes(encode(".jpg", gray))
        (tmp_path / name / "plain.png").write_bytes(encode(".png", gray))
    faces = load_faces(str(tmp_path))
    assert len(faces) == 6
    assert [round(float(image[24:].mean())) for image in faces.images] == [100] * 6


def test_an_image_is_recognized_by_its_content(tmp_path):
    folder = write_class_folders(tmp_path / "d", ["happy", "sad"])
    (folder / "sad" / "0.png").rename(folder / "sad" / "0.data")
    assert len(load_faces(str(folder))) == 6


@pytest.mark.parametrize("name", ["pipe.csv", "pipe"])
def test_a_pipe_is_not_read(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match=r"not a regular file|is a pipe, a socket or a device"):
        load_faces(str(tmp_path / name))


def test_pipes_and_devices_in_a_folder_are_left_out(tmp_path):
    folder = write_class_folders(tmp_path / "d", ["happy", "sad"])
    os.mkfifo(folder / "happy" / "pipe.png")
    (folder / "sad" / "zero.png").symlink_to("/dev/zero")
    faces = load_faces(str(folder))
    assert len(faces) == 6
    assert "2 pipe, socket or device" in faces.notes[0]


def test_a_large_file_is_not_read(tmp_path):
    folder = write_class_folders(tmp_path / "d", ["happy"], count=1)
    with (folder / "happy" / "large.png").open("wb") as file:
        file.truncate(MAX_IMAGE_BYTES + 1)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("happy/large.png", bytes(MAX_IMAGE_BYTES + 1))
    for path in (folder, tmp_path / "bomb.zip"):
        with pytest.raises(ValueError, match=r"'happy/large\.png' has 64 MB, more than 64 MB"):
            DatasetFiles(path).read("happy/large.png")


def test_a_folder_in_a_split_without_images_is_named(tmp_path):
    write_splits(tmp_path, "train", "test")
    (tmp_path / "train" / "fear").mkdir()
    with pytest.raises(DataError, match="the class folder 'train/fear'"):
        load_faces(str(tmp_path))
    write_image(tmp_path / "train" / "fear" / "0.png", np.zeros((8, 8), np.uint8))
    assert load_faces(str(tmp_path)).labels == ("fear", "happy", "sad")
