import json
import os
import subprocess
import time
import zipfile
from importlib.metadata import distribution
from importlib.util import find_spec
from itertools import pairwise

import pytest
from fake_board import sha256, write_wheel

from fer_edge.deploy import wheels as wheels_module
from fer_edge.deploy.wheels import Target, find_wheels, pack_fer_edge

BOOKWORM = Target((3, 11), "aarch64", (2, 36))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/fer-edge/wheels"


@pytest.fixture
def own(tmp_path):
    (tmp_path / "own").mkdir()
    return write_wheel(tmp_path / "own", "fer_edge", requires=["numpy>=1", "ai-edge-litert; extra == 'edge'"])


@pytest.fixture
def pip(monkeypatch):
    """A pip that downloads small wheels. ``dropped`` are the packages whose marker is false on this machine."""
    calls = []
    requires = {"ai_edge_litert": ["strenum; python_version < '3.13'", "winonly; sys_platform == 'win32'"]}

    def run(command, **options):
        calls.append(command)
        if run.error:
            return subprocess.CompletedProcess(command, 1, "", f"WARNING: x\nERROR: {run.error}\n")
        folder = wheels_module.Path(command[command.index("-d") + 1])
        names = ["numpy", "ai_edge_litert", "pip", "only_here", *(["strenum"] if any("strenum" in c for c in command) else [])]
        for name in names:
            write_wheel(folder, name, requires=requires.get(name, ()))
        return subprocess.CompletedProcess(command, 0, "", "")

    run.error = None
    run.calls = calls
    monkeypatch.setattr(wheels_module.subprocess, "run", run)
    return run


def test_pip_is_asked_for_wheels_of_the_board_from_its_glibc_down():
    options = BOOKWORM.pip_options()
    platforms = [value for name, value in pairwise(options) if name == "--platform"]
    assert platforms[0] == "manylinux_2_36_aarch64"
    assert platforms[-2:] == ["manylinux_2_17_aarch64", "manylinux2014_aarch64"]
    assert len(platforms) == 21
    assert "--only-binary=:all:" in options
    assert [value for name, value in pairwise(options) if name == "--abi"] == ["cp311", "abi3", "none"]


def test_packages_that_only_the_board_needs_are_downloaded_and_others_left_out(own, cache, pip):
    wheels, warning = find_wheels(BOOKWORM, own)
    assert [path.name.split("-")[0] for path in wheels] == ["fer_edge", "ai_edge_litert", "numpy", "pip", "strenum"]
    assert warning is None
    assert len(pip.calls) == 2
    wheels, _ = find_wheels(Target((3, 13), "aarch64", (2, 41)), own)
    assert [path.name.split("-")[0] for path in wheels] == ["fer_edge", "ai_edge_litert", "numpy", "pip"]
    assert "numpy<2" not in pip.calls[-1]


def test_numpy_1_is_chosen_where_picamera2_needs_it(own, cache, pip):
    find_wheels(Target((3, 11), "aarch64", (2, 36), numpy_1=True), own)
    assert "numpy<2" in pip.calls[0]


def test_wheels_are_taken_from_the_cache_with_their_digests(own, cache, pip):
    first, _ = find_wheels(BOOKWORM, own)
    again, _ = find_wheels(BOOKWORM, own)
    assert (first, len(pip.calls)) == (again, 2)
    (listing,) = cache.glob("*/wheels.json")
    assert json.loads(listing.read_text()) == {path.name: sha256(path) for path in first[1:]}
    first[1].write_bytes(b"damaged")
    find_wheels(BOOKWORM, own)
    assert len(pip.calls) == 4
    assert sha256(first[1]) == json.loads(listing.read_text())[first[1].name]


def test_an_old_cache_is_used_with_a_warning_if_it_cannot_be_renewed(own, cache, pip):
    wheels, _ = find_wheels(BOOKWORM, own)
    (listing,) = cache.glob("*/wheels.json")
    week_ago = time.time() - wheels_module.MAX_CACHE_AGE_S - 60
    os.utime(listing, (week_ago, week_ago))
    pip.error = "no network"
    again, warning = find_wheels(BOOKWORM, own)
    assert again == wheels
    assert warning.startswith("the wheels for the board are older than a week and cannot be renewed: pip cannot download")


def test_a_failed_download_names_the_reason_and_leaves_no_files(own, cache, pip):
    pip.error = "No matching distribution found for numpy"
    with pytest.raises(OSError, match=r"\(ERROR: No matching distribution found for numpy\)\. Without internet access"):
        find_wheels(BOOKWORM, own)
    assert list(cache.glob("*")) == []


def test_the_wheel_of_fer_edge_is_complete_and_the_same_each_time(tmp_path):
    wheel = pack_fer_edge(tmp_path / "a")
    assert sha256(wheel) == sha256(pack_fer_edge(tmp_path / "b"))
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        scripts = archive.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    expected = {"__init__.py", "commands/run.py", "deploy/board/agent.py", "edge_runtime/outputs/preview.html", "py.typed"}
    expected |= {"edge_runtime/probe.tflite", "models/cnn_nano_fer2013_int8.tflite", "artifacts/contract.py"}
    assert {f"fer_edge/{name}" for name in expected} <= names
    assert "fer-edge = fer_edge.main:main" in scripts
    assert wheel.name == f"fer_edge-{distribution('fer-edge').version}-py3-none-any.whl"
    assert wheel.stat().st_size < 8_000_000


def test_a_package_that_the_installation_lacks_is_named_and_the_current_folder_is_not_packed(tmp_path, monkeypatch):
    (tmp_path / "page").mkdir()
    (tmp_path / "page/private.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(wheels_module, "find_spec", lambda name: None if name == "fer_edge.web" else find_spec(name))
    with pytest.raises(FileNotFoundError, match=r"lacks the package fer_edge\.web\. Install fer-edge again"):
        pack_fer_edge(tmp_path / "wheel")
    assert not (tmp_path / "wheel").exists()
