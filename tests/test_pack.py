import json
import re
import shutil

import numpy as np
import pytest

from fer_edge.artifacts.run_folder import read_run
from fer_edge.train import pack
from fer_edge.train.evaluate_model import evaluate_model
from fer_edge.train.pack import pack_runs, unpack_runs
from fer_edge.train.synthetic import synthetic_faces


def test_a_packed_run_comes_back_whole_with_its_weights_rounded(run_folder, faces, tmp_path):
    parts = pack_runs([run_folder], tmp_path / "parts", part_bytes=400_000)
    assert len(parts) > 2
    assert max(part.stat().st_size for part in parts) == 400_000
    (folder,) = unpack_runs(tmp_path / "parts", faces, tmp_path / "home")
    assert folder.name == run_folder.name
    before, after = read_run(run_folder), read_run(folder)  # checks the digest and all files
    assert after.facts["plan"] == before.facts["plan"]
    assert after.facts["split"] == before.facts["split"]
    assert np.array_equal(after.calibration.targets, before.calibration.targets)
    mine, theirs = (evaluate_model(path, faces).probabilities for path in (folder, run_folder))
    assert 0 < np.abs(mine - theirs).max() < 0.01
    with pytest.raises(FileExistsError, match="is there already"):
        unpack_runs(tmp_path / "parts", faces, tmp_path / "home")
    with pytest.raises(ValueError, match="was trained on other data"):
        unpack_runs(tmp_path / "parts", synthetic_faces(10), tmp_path / "other")
    facts = json.loads((run_folder / "run.json").read_text())
    mapped = tmp_path / "mapped"
    shutil.copytree(run_folder, mapped)
    facts["data"] |= {"fingerprint": "another", "map": ["contempt=neutral"]}
    (mapped / "run.json").write_text(json.dumps(facts))
    pack_runs([mapped], tmp_path / "mapped_parts")
    with pytest.raises(ValueError, match="and its map: --map contempt=neutral"):
        unpack_runs(tmp_path / "mapped_parts", faces, tmp_path / "other")
    with pytest.raises(FileNotFoundError, match=r"no runs\.tar\.00"):
        unpack_runs(tmp_path, faces, tmp_path / "other")


def test_a_run_that_cannot_be_unpacked_to_its_end_leaves_nothing(monkeypatch, run_folder, faces, tmp_path):
    def fail(folder, *rest):
        (folder / "calibration.npz").write_bytes(b"half")
        raise OSError("no space left on device")

    pack_runs([run_folder], tmp_path / "parts")
    monkeypatch.setattr(pack, "finish_run", fail)
    with pytest.raises(OSError, match="no space left"):
        unpack_runs(tmp_path / "parts", faces, tmp_path / "home")
    assert list((tmp_path / "home").iterdir()) == []
    monkeypatch.undo()
    assert unpack_runs(tmp_path / "parts", faces, tmp_path / "home") == [tmp_path / "home" / run_folder.name]


def test_a_run_of_a_network_that_was_built_otherwise_is_not_unpacked(run_folder, faces, tmp_path):
    earlier = tmp_path / "earlier"
    shutil.copytree(run_folder, earlier)
    facts = json.loads((earlier / "run.json").read_text())
    (earlier / "run.json").write_text(json.dumps({**facts, "parameters": 5}))
    pack_runs([earlier], tmp_path / "parts")
    with pytest.raises(ValueError, match="earlier is a cnn of 5 parameters, here it has "):
        unpack_runs(tmp_path / "parts", faces, tmp_path / "home")


@pytest.mark.tensorflow
@pytest.mark.parametrize("words", ["unpack nowhere synthetic:10", "search cnn_nano nowhere.zip --out out"])
def test_dev_commands_report_a_missing_file_in_one_line(error_of, monkeypatch, words, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert re.search(r"^Error: no .*nowhere", error_of("dev", *words.split()), re.MULTILINE)


@pytest.mark.tensorflow
def test_an_unfinished_run_is_not_packed(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"run_version": 1, "finished": False}))
    with pytest.raises(FileNotFoundError, match="is not finished"):
        pack_runs([tmp_path], tmp_path / "parts")
