"""Every reader of a run folder rejects a replaced model, another version and names with a path."""

import json
import shutil

import pytest

from fer_edge.artifacts.run_folder import RUN_FILE, read_run, read_run_record
from fer_edge.train.distill import check_teachers
from fer_edge.train.evaluate_model import load_model
from fer_edge.train.fit import train_run
from fer_edge.train.pack import pack_runs
from fer_edge.train.splits import make_split
from fer_edge.train.weights import check_no_leakage

pytestmark = pytest.mark.tensorflow


@pytest.fixture
def run_copy(run_folder, tmp_path):
    return shutil.copytree(run_folder, tmp_path / "run")


def edit(folder, change):
    data = json.loads((folder / RUN_FILE).read_text())
    change(data)
    (folder / RUN_FILE).write_text(json.dumps(data))


@pytest.fixture(params=["evaluate", "weights", "teacher", "pack", "convert"])
def read(request, faces, tmp_path):
    """One of the functions that read a run folder."""
    split = make_split(faces, "subject", seed=1)
    return {
        "evaluate": load_model,
        "weights": lambda folder: check_no_leakage(str(folder), faces, split),
        "teacher": lambda folder: check_teachers([str(folder)], faces, split),
        "pack": lambda folder: pack_runs([folder], tmp_path / "packed"),
        "convert": read_run,
    }[request.param]


def test_a_replaced_model_is_rejected(read, run_copy):
    read(run_copy)
    with (run_copy / "model.keras").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match="is not the model that this run finished with"):
        read(run_copy)


def test_a_run_folder_of_another_version_is_rejected(read, run_copy):
    edit(run_copy, lambda data: data.update(run_version=1))
    with pytest.raises(ValueError, match="has version 1, this fer-edge reads 2"):
        read(run_copy)


def test_an_unfinished_run_is_rejected(read, run_copy):
    edit(run_copy, lambda data: data.update(results=None))
    with pytest.raises(FileNotFoundError, match="has not finished"):
        read(run_copy)


@pytest.mark.parametrize("command", ["evaluate", "convert"])
def test_a_network_with_a_path_in_its_name_is_rejected(error_of, run_copy, command):
    edit(run_copy, lambda data: data["plan"].update(network="../../escaped/x"))
    data = ("--data", "synthetic:12") if command == "evaluate" else ()
    assert "the network of a run may contain only a-z, 0-9, _ and -" in error_of(command, run_copy, *data)
    assert not list(run_copy.parent.parent.glob("escaped*"))


def test_a_finished_run_without_its_model_is_not_resumed(faces, run_copy):
    (run_copy / "model.keras").unlink()
    plan, split = read_run_record(run_copy).plan, make_split(faces, "subject", seed=1)
    with pytest.raises(FileNotFoundError, match=r"lacks model\.keras"):
        train_run(plan, faces, split, run_copy, resume=True)
