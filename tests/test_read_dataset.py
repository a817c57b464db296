import zipfile

import numpy as np
import pytest
from conftest import write_class_folders

from fer_edge.artifacts.reporter import Reporter
from fer_edge.edge_runtime.images import write_image
from fer_edge.train.dataset import DataError
from fer_edge.train.read_dataset import load_faces, read_faces
from fer_edge.train.read_options import ReadOptions
from fer_edge.train.synthetic import synthetic_faces, synthetic_image


def zip_of(folder, path):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.png")):
            archive.write(file, file.relative_to(folder))
    return path


def test_labels_come_in_canonical_order_whatever_the_folders_are_called(tmp_path):
    faces = load_faces(str(write_class_folders(tmp_path / "d", ["surprise", "anger", "sadness"])))
    assert faces.labels == ("angry", "sad", "surprise")
    assert [faces.labels[t] for t in faces.targets] == [
        {"ang": "angry", "sad": "sad", "sur": "surprise"}[i[:3]] for i in faces.ids
    ]


def test_a_folder_and_a_zip_of_it_have_one_fingerprint(tmp_path):
    folder = write_class_folders(tmp_path / "d", ["happy", "sad"])
    packed = zip_of(folder, tmp_path / "other.zip")
    unpacked, zipped = load_faces(str(folder)), load_faces(str(packed))
    assert unpacked.fingerprint == zipped.fingerprint
    assert unpacked.ids == zipped.ids


def test_outer_folders_are_not_in_the_ids(tmp_path):
    write_class_folders(tmp_path / "outer" / "CK+48", ["happy", "sad"])
    assert load_faces(str(tmp_path)).ids == load_faces(str(tmp_path / "outer" / "CK+48")).ids
    assert load_faces(str(tmp_path)).ids[0] == "happy/0.png"


def test_gray_images_keep_one_channel_and_color_images_three(tmp_path):
    write_image(tmp_path / "happy" / "gray.png", np.full((6, 6), 7, np.uint8))
    write_image(tmp_path / "happy" / "rgb.png", np.dstack([np.full((6, 6), value, np.uint8) for value in (200, 10, 30)]))
    gray, rgb = load_faces(str(tmp_path)).images
    assert gray.shape == (6, 6)
    assert rgb[0, 0].tolist() == [200, 10, 30]


def test_official_splits_and_subjects_are_read_from_the_path(tmp_path):
    image = np.zeros((4, 4), np.uint8)
    write_image(tmp_path / "train" / "happy" / "Training_1.png", image)
    write_image(tmp_path / "test" / "happy" / "PublicTest_2.png", image)
    write_image(tmp_path / "test" / "happy" / "PrivateTest_3.png", image)
    write_image(tmp_path / "happy" / "S010_002_00000014.png", image)
    faces = load_faces(str(tmp_path))
    found = {
        name.split("/")[-1]: (split, subject)
        for name, split, subject in zip(faces.ids, faces.official_split, faces.subjects, strict=True)
    }
    assert found == {
        "Training_1.png": ("train", None),
        "PublicTest_2.png": ("test", None),
        "PrivateTest_3.png": ("private_test", None),
        "S010_002_00000014.png": (None, "S010"),
    }


def test_fer2013_csv_gives_pixels_labels_and_official_splits(tmp_path):
    path = tmp_path / "fer.csv"
    rows = [(0, 5, "Training"), (6, 9, "PublicTest"), (3, 1, "PrivateTest")]
    lines = [f"{code},{' '.join([str(value)] * 2304)},{usage}" for code, value, usage in rows]
    path.write_text("\n".join(["emotion,pixels,Usage", *lines]))
    faces = load_faces(str(path))
    assert faces.labels == ("angry", "happy", "neutral")
    assert load_faces(str(path), ReadOptions(("neutral=sad",))).label_map == ("neutral=sad",)
    with pytest.raises(DataError, match=r"no class 'contemt' to map; it has: angry, happy, neutral"):
        load_faces(str(path), ReadOptions(("neutral=sad", "contemt=-")))
    assert [faces.labels[t] for t in faces.targets] == ["angry", "neutral", "happy"]
    assert faces.official_split == ("train", "test", "private_test")
    assert [int(image[47, 47]) for image in faces.images] == [5, 9, 1]


def test_csv_rows_with_an_impossible_code_are_rejected_and_a_byte_order_mark_is_not(tmp_path):
    pixels = " ".join(["1"] * 2304)
    (tmp_path / "mark.csv").write_text(f"emotion,pixels,Usage\n3,{pixels},Training\n", encoding="utf-8-sig")
    assert load_faces(str(tmp_path / "mark.csv")).labels == ("happy",)
    (tmp_path / "bad.csv").write_text(f"emotion,pixels,Usage\n-1,{pixels},Training\n")
    with pytest.raises(DataError, match=r"cannot read row 0 of bad\.csv"):
        load_faces(str(tmp_path / "bad.csv"))


def test_a_damaged_member_of_a_zip_is_a_damaged_image(tmp_path):
    path = tmp_path / "d.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("happy/a.png", bytes(range(256)) * 40)
    content = bytearray(path.read_bytes())
    content[60:80] = b"\xff" * 20
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"cannot read 'happy/a.png'"):
        load_faces(str(path))


def test_original_ckplus_gives_the_last_three_frames_of_labeled_sequences(tmp_path):
    frames = tmp_path / "cohn-kanade-images" / "S005" / "001"
    image = synthetic_image("happy", seed=1)
    for number in range(1, 6):
        write_image(frames / f"S005_001_0000000{number}.png", image)
    write_image(tmp_path / "cohn-kanade-images" / "S006" / "001" / "S006_001_00000001.png", image)
    label = tmp_path / "Emotion" / "S005" / "001" / "S005_001_00000005_emotion.txt"
    label.parent.mkdir(parents=True)
    label.write_text("   5.0000000e+00\n")
    faces = load_faces(str(tmp_path))
    assert [name[-5] for name in faces.ids] == ["3", "4", "5"]
    assert faces.labels == ("happy",)
    assert set(faces.subjects) == {"S005"}
    assert {image.shape for image in faces.images} == {(48, 48)}


def test_synthetic_faces_are_the_same_every_time_and_all_different():
    first, second = synthetic_faces(10), synthetic_faces(10)
    assert first.fingerprint == second.fingerprint
    assert len(set(first.digests)) == len(first) == 160
    assert np.bincount(first.targets).tolist() == [20] * 8


def test_a_map_renames_and_drops_classes(tmp_path):
    folder = write_class_folders(tmp_path / "d", ["contempt", "fear", "happy"])
    faces = load_faces(str(folder), ReadOptions(("contempt=neutral", "fear=-")))
    assert faces.labels == ("happy", "neutral")


def test_one_bad_image_in_many_is_skipped_and_named(tmp_path):
    folder = write_class_folders(tmp_path / "d", ["happy", "sad"], count=60)
    (folder / "sad" / "bad.png").write_bytes(b"not an image")
    faces = load_faces(str(folder))
    assert len(faces) == 120
    assert len(faces.skipped) == 1
    assert "sad/bad.png" in faces.skipped[0]


def test_read_faces_warns_of_skipped_images(tmp_path):
    class Warnings(Reporter):
        texts = ()

        def warn(self, text):
            self.texts += (text,)

    folder = write_class_folders(tmp_path / "d", ["happy", "sad"], count=60)
    reporter = Warnings()
    read_faces(folder, reporter=reporter)
    assert reporter.texts == ()
    (folder / "sad" / "bad.png").write_bytes(b"no picture")
    read_faces(folder, reporter=reporter)
    (text,) = reporter.texts
    assert text.startswith("1 of 121 images skipped:\n  cannot decode the image 'sad/bad.png'")


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda d: (d / "happy" / "bad.png").write_bytes(b"x"), "1 of 7 images"),
        (lambda d: (d / "fear").mkdir(), "class folder 'fear'"),
        (lambda d: write_image(d / "loose.png", np.zeros((4, 4), np.uint8)), "outside class folders"),
    ],
)
def test_bad_class_folders_are_rejected(tmp_path, prepare, message):
    folder = write_class_folders(tmp_path / "d", ["happy", "sad"])
    prepare(folder)
    with pytest.raises(DataError, match=message):
        load_faces(str(folder))


def test_missing_empty_and_truncated_sources_are_rejected(tmp_path):
    with pytest.raises(FileNotFoundError, match="no dataset at"):
        load_faces(str(tmp_path / "nothing"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no images"):
        load_faces(str(tmp_path / "empty"))
    packed = zip_of(write_class_folders(tmp_path / "d", ["happy"]), tmp_path / "d.zip")
    packed.write_bytes(packed.read_bytes()[:-30])
    with pytest.raises(DataError, match="truncated"):
        load_faces(str(packed))
    (tmp_path / "photo.jpg").write_bytes(b"no zip")
    with pytest.raises(DataError, match=r"photo\.jpg is neither a folder nor a zip nor a \.csv file"):
        load_faces(str(tmp_path / "photo.jpg"))
    (tmp_path / "a.csv").write_text("a,b\n")
    with pytest.raises(DataError, match="lacks the columns emotion, pixels; it has: a, b"):
        load_faces(str(tmp_path / "a.csv"))
    (tmp_path / "a.csv").write_text("emotion,pixels,Usage\n")
    with pytest.raises(DataError, match="has no usable images"):
        load_faces(str(tmp_path / "a.csv"))
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="lacks the columns emotion, pixels"):
        load_faces(str(tmp_path / "a.csv"))
