"""Trainings on a GPU machine without a network: the bundle that travels there, and the results."""

import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

from fer_edge.artifacts.reporter import SILENT, Reporter
from fer_edge.gpu_plan import FACES_FILE, LIST_FILE, SCRIPT_FILE, prepare_bundle, run_plan
from fer_edge.gpu_trainings import LISTS, TEACHERS, WORK
from fer_edge.training_list import read_trainings


@pytest.fixture
def bundle(tmp_path):
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
        archive.writestr("train/happy/1.png", b"first")
        archive.writestr("test/sad/2.png", b"second")
    (tmp_path / "start.npz").write_bytes(b"weights")
    prepare_bundle(tmp_path / "mine.zip", "teachers", [tmp_path / "start.npz"], tmp_path / "bundle", False, SILENT)
    return tmp_path / "bundle"


def test_a_bundle_has_the_package_the_faces_and_the_list(bundle):
    with tarfile.open(bundle / FACES_FILE) as packed:
        assert sorted(packed.getnames()) == ["mine/test/sad/2.png", "mine/train/happy/1.png"]
        assert packed.extractfile("mine/train/happy/1.png").read() == b"first"
    assert (bundle / LIST_FILE).read_text() == TEACHERS
    assert (bundle / "extra" / "start.npz").read_bytes() == b"weights"
    program = "import fer_edge.gpu_plan, fer_edge.train.series as s; print(s.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": str(bundle)}, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == str(bundle / "fer_edge" / "train" / "series.py")
    subprocess.run(["bash", "-n", bundle / SCRIPT_FILE], check=True)
    assert not list(bundle.rglob("*.tflite"))


def test_a_bundle_that_cannot_be_made_is_rejected(bundle, tmp_path, error_of):
    prepare = ("dev", "gpu-plan", "prepare", tmp_path / "mine.zip")
    assert "exists already. Choose another folder" in error_of(*prepare, bundle)
    assert "no list of trainings 'student'" in error_of(*prepare, tmp_path / "new", "--list", "student")
    assert "no file 'none.npz'" in error_of(*prepare, tmp_path / "new", "--extra", "none.npz")
    assert "is not a zip of faces" in error_of(*prepare[:3], tmp_path / "start.npz", tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", LISTS)
def test_the_lists_are_trainings_that_fit_into_half_an_hour(name, tmp_path):
    (tmp_path / "list.txt").write_text(LISTS[name])
    trainings = read_trainings(tmp_path / "list.txt")
    minutes = [float(training.arguments[training.arguments.index("--minutes") + 1]) for training in trainings]
    assert len(minutes) == len(trainings) >= 5
    assert sum(minutes) <= 27
    for training in trainings:
        assert f"{WORK}/data/fer2013" in training.arguments


class Lines(Reporter):
    def __init__(self):
        self.lines = []

    def result(self, text):
        self.lines.append(text)

    def warn(self, text):
        self.lines.append(text)


def test_each_result_is_delivered_once_and_within_the_limit(run_folder, tmp_path, monkeypatch):
    work, out = tmp_path / "work", tmp_path / "out"
    for parent in ("teachers", "students"):
        shutil.copytree(run_folder, work / parent / "cnn-run")
    views = work / "students" / ".teacher_cache" / "views-0123.npz"
    views.parent.mkdir()
    views.write_bytes(b"outputs")
    (work / LIST_FILE).write_text("fer-edge train cnn --data d\n")
    monkeypatch.setattr("fer_edge.training_list.TRAIN", (sys.executable, "-c", "import sys; sys.exit(1)"))
    with pytest.raises(RuntimeError, match="1 of 1 trainings failed"):
        run_plan(work, out / "1", 100, SILENT)
    assert {path.name for path in (out / "1").iterdir()} == {"views-0123.npz", "runs.tar.00"}
    with tarfile.open(out / "1" / "runs.tar.00") as packed:
        assert sorted(packed.getnames()) == ["cnn-run/run.json", "cnn-run/weights.npz"]
    again = Lines()
    with pytest.raises(RuntimeError, match="time is up before line 1"):
        run_plan(work, out / "2", 0, again)
    assert not (out / "2").exists()
    (work / "delivered.json").unlink()
    with pytest.raises(RuntimeError):
        run_plan(work, out / "3", 0, again, max_bytes=100)
    assert {path.name for path in (out / "3").iterdir()} == {"views-0123.npz"}
    assert again.lines[-1] == "2 finished results did not fit into 0 MB. Call again to get them"
