import re
import shutil
import tarfile
from dataclasses import replace

import numpy as np
import pytest

from fer_edge.artifacts.run_folder import read_run, read_run_record, write_run_record
from fer_edge.train import pack
from fer_edge.train.evaluate_model import evaluate_model, load_model
from fer_edge.train.pack import pack_runs, unpack_runs
from fer_edge.train.synthetic import synthetic_faces


def test_a_packed_run_is_restored_with_rounded_weights(run_folder, faces, tmp_path):
    parts = pack_runs([run_folder], tmp_path / "parts", part_bytes=400_000)
    assert len(parts) > 2
    assert max(part.stat().st_size for part in parts) == 400_000
    (folder,) = unpack_runs(tmp_path / "parts", faces, tmp_path / "home")
    assert folder.name == run_folder.name
    before, after = read_run(run_folder), read_run(folder)  # checks the digest and all files
    assert after.record.plan == before.record.plan
    assert (after.record.split, after.record.ids) == (before.record.split, before.record.ids)
    assert after.results.weights_rounded_to == "float16"
    assert np.array_equal(after.calibration.targets, before.calibration.targets)
    mine, theirs = (evaluate_model(load_model(path), faces).probabilities for path in (folder, run_folder))
    assert 0 < np.abs(mine - theirs).max() < 0.01
    with pytest.raises(FileExistsError, match="exists already"):
        unpack_runs(tmp_path / "parts", faces, tmp_path / "home")
    with pytest.raises(ValueError, match="was trained on other data"):
        unpack_runs(tmp_path / "parts", synthetic_faces(10), tmp_path / "other")
    mapped = shutil.copytree(run_folder, tmp_path / "mapped")
    data = replace(before.record.data, fingerprint="another", label_map=("contempt=neutral",))
    write_run_record(mapped, replace(before.record, data=data))
    pack_runs([mapped], tmp_path / "mapped_parts")
    with pytest.raises(ValueError, match="and its map: --map contempt=neutral"):
        unpack_runs(tmp_path / "mapped_parts", faces, tmp_path / "other")
    with pytest.raises(FileNotFoundError, match=r"no runs\.tar\.00"):
        unpack_runs(tmp_path, faces, tmp_path / "other")


def test_an_interrupted_unpacking_leaves_nothing(monkeypatch, run_folder, faces, tmp_path):
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


def test_a_run_of_a_different_version_of_a_network_is_not_unpacked(run_folder, faces, tmp_path):
    earlier = shutil.copytree(run_folder, tmp_path / "earlier")
    record = read_run_record(earlier)
    write_run_record(earlier, replace(record, results=replace(record.results, parameters=5)))
    pack_runs([earlier], tmp_path / "parts")
    with pytest.raises(ValueError, match="earlier is a cnn with 5 parameters, but here it has "):
        unpack_runs(tmp_path / "parts", faces, tmp_path / "home")


@pytest.mark.tensorflow
@pytest.mark.parametrize("words", ["unpack nowhere synthetic:10", "search cnn_nano nowhere.zip --out out"])
def test_dev_commands_report_a_missing_file_in_one_line(error_of, monkeypatch, words, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert re.search(r"^Error: no .*nowhere", error_of("dev", *words.split()), re.MULTILINE)


def test_an_unfinished_run_is_not_packed(run_folder, tmp_path):
    write_run_record(tmp_path, replace(read_run_record(run_folder), results=None))
    with pytest.raises(FileNotFoundError, match="has not finished"):
        pack_runs([tmp_path], tmp_path / "parts")


@pytest.mark.parametrize("content", [b"", b"no tar file" * 100])
def test_damaged_parts_are_rejected(content, faces, tmp_path):
    (tmp_path / "runs.tar.00").write_bytes(content)
    with pytest.raises(ValueError, match="are damaged or incomplete"):
        unpack_runs(tmp_path, faces, tmp_path / "home")
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../run.json", tarfile.REGTYPE),
        ("./run.json", tarfile.REGTYPE),
        ("/run.json", tarfile.REGTYPE),
        ("a/b/run.json", tarfile.REGTYPE),
        ("..\\x/run.json", tarfile.REGTYPE),
        ("\x1b[2J/run.json", tarfile.REGTYPE),
        ("run/run.json", tarfile.SYMTYPE),
        ("run/run.json", tarfile.FIFOTYPE),
    ],
)
def test_packed_files_outside_a_run_folder_are_rejected(name, kind, faces, tmp_path):
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, "/etc/hostname"
    with tarfile.open(tmp_path / "runs.tar.00", "w") as archive:
        archive.addfile(entry)
    with pytest.raises(ValueError, match="are damaged or incomplete"):
        unpack_runs(tmp_path, faces, tmp_path / "home" / "runs")
    assert not (tmp_path / "home").exists()


def test_a_missing_part_is_reported(run_folder, faces, tmp_path):
    first, *_ = pack_runs([run_folder], tmp_path / "parts", part_bytes=400_000)
    first.unlink()
    with pytest.raises(ValueError, match="are damaged or incomplete"):
        unpack_runs(tmp_path / "parts", faces, tmp_path / "home")


def test_two_run_folders_of_one_name_are_not_packed(run_folder, tmp_path):
    with pytest.raises(ValueError, match="need different names"):
        pack_runs([run_folder, run_folder], tmp_path / "parts")
