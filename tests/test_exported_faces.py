import numpy as np
import pytest

from fer_edge.artifacts.exported_faces import SPLITS, read_exported_faces, write_exported_faces
from fer_edge.edge_runtime.images import write_image
from fer_edge.train.export_faces import export_faces
from fer_edge.train.splits import make_split


def test_the_file_restores_every_field(faces, tmp_path):
    exported = export_faces(faces, "subject", folds=2)
    write_exported_faces(tmp_path / "faces.npz", exported)
    restored = read_exported_faces(tmp_path / "faces.npz")
    for name, value in vars(exported).items():
        if isinstance(value, np.ndarray):
            assert getattr(restored, name).dtype == value.dtype
            assert np.array_equal(getattr(restored, name), value)
        else:
            assert getattr(restored, name) == value


def test_the_divisions_are_those_of_training(faces):
    exported = export_faces(faces, "paper", seeds=(0, 3))
    split = make_split(faces, "paper", seed=3)
    assert exported.runs == ("seed 0", "seed 3")
    for name in SPLITS[1:]:
        assert exported.in_split(1, name).tolist() == getattr(split, name).tolist()
    assert len(exported.in_split(1, "train", "validation")) == len(split.train) + len(split.validation)


def test_only_a_division_that_shares_people_is_leaky(faces):
    assert export_faces(faces, "paper").leaky
    assert not export_faces(faces, "subject", folds=2).leaky


def test_all_faces_are_test_faces_without_a_division(faces):
    exported = export_faces(faces, "all", image_size=20)
    assert (exported.protocol, exported.runs) == ("all", ("all",))
    assert exported.in_split(0, "test").tolist() == list(range(len(faces)))
    assert exported.images.shape == (len(faces), 20, 20)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"not a zip"])
def test_another_file_is_rejected_with_the_remedy(tmp_path, content):
    (tmp_path / "faces.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"has no exported faces .*fer-edge dev export-faces"):
        read_exported_faces(tmp_path / "faces.npz")


def test_an_npz_of_something_else_is_rejected(tmp_path):
    np.savez(tmp_path / "faces.npz", images=np.zeros(3))
    with pytest.raises(ValueError, match="has no exported faces"):
        read_exported_faces(tmp_path / "faces.npz")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere.zip", "faces.npz"), "no dataset at 'nowhere.zip'"),
        (("faces", "faces.csv", "--protocol", "all"), "an .npz file. Received: 'faces.csv'"),
        (("faces", "faces.npz", "--protocol", "random"), "unknown protocol 'random'"),
        (("faces", "faces.npz", "--protocol", "paper", "--folds", "3"), "folds need the protocol 'subject'"),
        (("faces", "faces.npz", "--ferplus", "votes.csv"), "no FER+ table 'votes.csv'"),
    ],
)
def test_wrong_arguments_are_named_and_nothing_is_written(invoke, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    for label in ("happy", "sad"):
        write_image(tmp_path / "faces" / label / "1.png", np.zeros((48, 48, 3), np.uint8))
    result = invoke("dev", "export-faces", *arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["faces"]
