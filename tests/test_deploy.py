import errno
import fcntl
import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fake_board import FakeBoard, sha256, write_wheel

from fer_edge.commands import deploy as deploy_command
from fer_edge.deploy import deploy as deploy_module
from fer_edge.deploy import installed
from fer_edge.deploy.connection import ConnectionLostError
from fer_edge.deploy.deploy import DeployOptions, deploy

FACE = {"box_px": [193, 128, 247, 247], "label": "happy", "probability": 0.875}
IMAGE = np.zeros((480, 640, 3), np.uint8)
# Installs a program that finds FACE, and keeps its arguments.
FAKE_PIP = f"""
import pathlib, sys
requirements = pathlib.Path(sys.argv[-1]).read_text().split()
assert "--require-hashes" in sys.argv and "--no-index" in sys.argv
assert all(word.startswith("--hash=sha256:") or pathlib.Path(word).is_file() for word in requirements), requirements
program = pathlib.Path(sys.executable).parent / "fer-edge"
program.write_text('''#!/bin/sh
echo "$@" >> arguments.txt
[ ! -f broken ] || {{ echo "Error: this release is broken" >&2; exit 1; }}
echo '{json.dumps({"faces": [FACE]})}'
''')
program.chmod(0o755)
"""


@pytest.fixture
def board(tmp_path, monkeypatch):
    return FakeBoard(tmp_path / "board", monkeypatch)


@pytest.fixture
def wheels(tmp_path):
    """A folder of small wheels, also of a package that is large for a test."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name in ("click", "numpy", "tabulate", "ai_edge_litert", "opencv_python_headless", "aiohttp", "paho_mqtt"):
        write_wheel(folder, name)
    write_wheel(folder, "numpy", files={"numpy/large.txt": "".join(map(str, range(100_000)))})
    write_wheel(folder, "pip", "99.0", files={"pip/__main__.py": FAKE_PIP})
    return folder


@pytest.fixture
def pc(monkeypatch, wheels, int8_model):
    """This machine: its version of fer-edge, its model, and the faces that it finds in the known image."""
    state = SimpleNamespace(version="0.1.0", faces=[FACE], options={"wheels": wheels, "model": str(int8_model)}, log=[])
    requires = ["click", "numpy", "tabulate", "ai-edge-litert; extra == 'edge'", "opencv-python-headless; extra == 'edge'"]
    requires += ["aiohttp; extra == 'serve'", "paho-mqtt; extra == 'mqtt'"]
    monkeypatch.setattr(
        deploy_module, "pack_fer_edge", lambda folder: write_wheel(folder, "fer_edge", state.version, requires=requires)
    )
    monkeypatch.setattr(deploy_module, "expected_faces", lambda *arguments: state.faces)
    for name in deploy_module.SECRETS:
        monkeypatch.delenv(name, raising=False)
    return state


class Log(deploy_module.Reporter):
    def __init__(self):
        self.lines, self.warnings = [], []

    def result(self, text):
        self.lines.append(text)

    def warn(self, text):
        self.warnings.append(text)


def run(pc, board, **options):
    return deploy(board.host, DeployOptions(**{"detector": "haar", **pc.options, **options}), IMAGE, Log())


def test_a_deployment_installs_tests_and_switches(board, pc, int8_model):
    log = Log()
    report = deploy(board.host, DeployOptions(**pc.options, detector="haar", run="/dev/video0 --json"), IMAGE, log)
    assert board.current == board.home / "fer-edge-deploy/releases" / report["release"]
    assert sha256(board.current / "model.tflite") == report["model_sha256"] == sha256(int8_model)
    assert (board.current / "arguments.txt").read_text() == "run known.png --json --model model.tflite --detector haar\n"
    assert report["self_test"] == [FACE]
    assert (report["previous"], report["unchanged"], report["service"], report["wheels"]) == (None, False, None, 7)
    assert [step["step"] for step in report["steps"]] == ["examine", "wheels", "copy", "install", "self-test", "switch"]
    assert report["seconds"] == report["steps"][-1]["seconds"] > 0
    assert log.lines[-2].endswith("self-test: happy 88% at 193,128,247,247, as on this machine")


def test_the_run_script_reads_and_writes_files_in_the_folder_of_its_user(board, pc, tmp_path):
    run(pc, board, run="--log 'my labels.csv'")
    output = subprocess.run(
        [board.current.parent.parent / "current/run", "face.png"], cwd=tmp_path, capture_output=True, text=True
    )
    assert json.loads(output.stdout)["faces"] == [FACE]
    words = f"run --log my labels.csv --model {board.current}/model.tflite --detector haar face.png\n"
    assert (tmp_path / "arguments.txt").read_text() == words  # the program writes it into its current folder


def test_the_same_deployment_again_sends_and_installs_nothing(board, pc):
    first = run(pc, board, run="--json")
    before = board.installed()
    again = run(pc, board)  # keeps the arguments of the current release
    assert (again["release"], again["unchanged"], again["sent_bytes"]) == (first["release"], True, 0)
    assert again["run"] == ["--json"]
    (arguments,) = [path for path in before if path.name == "arguments.txt"]
    assert {**board.installed(), arguments: b""} == {**before, arguments: b""}


def test_the_last_two_releases_stay_and_rollback_switches_between_them(board, pc):
    names = [run(pc, board, run=f"--fps {rate}")["release"] for rate in (10, 20, 30)]
    assert len({name[-8:] for name in names}) == 3
    assert board.releases == sorted(names[1:])
    assert board.current.name == names[2]
    report = installed.rollback(board.host)
    assert (report["release"], report["previous"]) == (names[1], names[2])
    assert board.current.name == names[1]
    assert installed.rollback(board.host)["release"] == names[2]


def test_a_rollback_tests_the_release_before_it_switches(board, pc):
    first, second = (run(pc, board, run=f"--fps {rate}")["release"] for rate in (10, 20))
    (board.current.parent / first / "broken").touch()
    with pytest.raises(RuntimeError, match="the self-test fails: Error: this release is broken"):
        installed.rollback(board.host)
    assert board.current.name == second


def test_without_a_previous_release_there_is_no_rollback(board, pc):
    with pytest.raises(RuntimeError, match=r"pi@board has no release, and a rollback needs two\."):
        installed.rollback(board.host)
    run(pc, board)
    with pytest.raises(RuntimeError, match="pi@board has one release, and a rollback needs two"):
        installed.rollback(board.host)


def test_uninstall_removes_what_deployments_created_and_keeps_other_files(board, pc):
    report = run(pc, board)
    (board.home / "fer-edge-deploy/notes.txt").write_text("mine")
    assert installed.uninstall(board.host)["removed"] == [report["release"]]
    assert [path.name for path in (board.home / "fer-edge-deploy").iterdir()] == ["notes.txt"]
    assert installed.uninstall(board.host)["removed"] == []


def test_a_dry_run_changes_nothing(board, pc):
    report = run(pc, board, dry_run=True)
    assert list(board.home.iterdir()) == []
    assert report["steps"][-1]["step"] == "dry run"
    assert (report["release"][-9], report["previous"]) == ("-", None)


def test_a_lost_connection_changes_nothing_and_the_same_command_resumes(board, pc):
    first = run(pc, board)
    before = board.installed()
    write_wheel(pc.options["wheels"], "numpy", "2.0", files={"numpy/large.txt": "".join(map(str, range(150_000)))})
    (pc.options["wheels"] / "numpy-1.0-py3-none-any.whl").unlink()
    board.change(cut_after_bytes=500_000)
    with pytest.raises(ConnectionLostError, match=r"the connection to pi@board was lost .*Deploy again"):
        run(pc, board)
    board.wait_for_end()
    assert board.installed() == before
    partial = board.home / "fer-edge-deploy/wheels/numpy-2.0-py3-none-any.whl.part"
    arrived = partial.stat().st_size
    assert arrived > 300_000
    board.change(cut_after_bytes=None)
    report = run(pc, board)
    assert report["release"] != first["release"]
    assert report["sent_bytes"] == (pc.options["wheels"] / "numpy-2.0-py3-none-any.whl").stat().st_size - arrived
    assert not partial.exists()


def test_a_wheel_that_arrives_damaged_is_reported_and_sent_again(board, pc):
    folder = board.home / "fer-edge-deploy/wheels"
    folder.mkdir(parents=True)
    (folder / "numpy-1.0-py3-none-any.whl.part").write_bytes(b"x" * 1000)
    with pytest.raises(RuntimeError, match=r"pi@board: 'numpy-1.0-py3-none-any.whl' arrived damaged"):
        run(pc, board)
    (folder / "click-1.0-py3-none-any.whl").write_bytes(b"damaged on the disk")
    assert run(pc, board)["wheels"] == 7


def test_two_deployments_at_the_same_time_are_rejected(board, pc):
    folder = board.home / "fer-edge-deploy"
    folder.mkdir()
    with (folder / "lock").open("w") as lock:
        lock.write("me@desk, since 10:00:00")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RuntimeError, match=r"another deployment to this board is running \(me@desk, since 10:00:00\)"):
            run(pc, board)
    assert run(pc, board)["release"]


def test_a_release_that_was_interrupted_is_removed_by_the_next_deployment(board, pc):
    broken = board.home / "fer-edge-deploy/releases/20200101-000000-00000000"
    broken.mkdir(parents=True)
    report = run(pc, board)
    assert board.releases == [report["release"]]


@pytest.mark.parametrize(("before", "after", "warns"), [("0.2.0", "0.1.0", True), ("0.1.0", "0.10.0", False)])
def test_an_older_version_replaces_a_newer_one_with_a_warning(board, pc, before, after, warns):
    pc.version = before
    run(pc, board)
    pc.version = after
    log = Log()
    report = deploy(board.host, DeployOptions(**pc.options, detector="haar"), IMAGE, log)
    assert report["version"] == after
    assert [f"{after} replaces {before}, which is newer" in text for text in log.warnings] == [True] * warns


def test_a_model_that_was_replaced_on_the_disk_is_noticed_and_installed_again(board, pc, int8_model):
    first = run(pc, board)
    model = board.current / "model.tflite"
    model.write_bytes(model.read_bytes()[:-1] + b"x")
    log = Log()
    second = deploy(board.host, DeployOptions(**pc.options, detector="haar"), IMAGE, log)
    assert second["previous"] == first["release"]
    assert sha256(board.current / "model.tflite") == sha256(int8_model)
    assert "it was replaced or damaged" in log.warnings[0]
    model = board.current.parent / first["release"] / "model.tflite"
    with pytest.raises(RuntimeError, match="it was replaced or damaged"):
        installed.rollback(board.host)
    assert board.current.name == second["release"]


@pytest.mark.parametrize(
    "change", [{"label": "sad"}, {"box_px": [193, 128, 247, 260]}, {"probability": 0.5}], ids=lambda change: next(iter(change))
)
def test_a_board_that_finds_another_face_is_not_switched(board, pc, change):
    pc.faces = [{**FACE, **change}]
    with pytest.raises(
        RuntimeError, match=r"this machine the known image shows .* on the board happy 0\.88 at 193,128,247,247"
    ):
        run(pc, board)
    assert (board.releases, board.current) == ([], None)


def test_a_release_that_does_not_run_is_not_switched(board, pc):
    write_wheel(pc.options["wheels"], "pip", "99.0", files={"pip/__main__.py": "raise SystemExit('no space for packages')"})
    with pytest.raises(RuntimeError, match="pip cannot install the wheels: no space for packages"):
        run(pc, board)
    assert (board.releases, board.current) == ([], None)


SSH_ERRORS = {
    "@@@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @@@\nHost key verification failed.": "ssh-keygen -R board",
    "Host key verification failed.": "Log in once with 'ssh pi@board', compare the fingerprint",
    "pi@board: Permission denied (publickey,password).": "ssh-copy-id pi@board",
    "ssh: Could not resolve hostname board: Name or service not known": "no address is known for pi@board",
    "ssh: connect to host board port 22: Connection refused": "raspi-config nonint do_ssh 0",
    "ssh: connect to host board port 22: Connection timed out": "pi@board does not answer",
    "sh: 1: python3: not found": "sudo apt install python3",
}


@pytest.mark.parametrize(("error", "remedy"), SSH_ERRORS.items(), ids=lambda text: text[:12])
def test_a_connection_that_fails_is_explained(board, pc, error, remedy):
    board.change(ssh_error=error)
    with pytest.raises(ConnectionLostError) as caught:
        run(pc, board)
    assert remedy in str(caught.value)


BOARD_FAULTS = {
    "import struct; old = struct.calcsize; struct.calcsize = lambda f: 4 if f == 'P' else old(f)": "64-bit Raspberry Pi OS",
    "import platform; platform.python_version = lambda: '3.9.2'": "it has Python 3.9.2; fer-edge needs 3.10 to 3.13",
    "import platform; platform.machine = lambda: 'riscv64'": "its processor is riscv64",
    "import os; os.confstr = lambda name: None": "its C library is not glibc",
    "import os, errno\ndef mkdir(*a, **k): raise OSError(errno.EROFS, os.strerror(errno.EROFS))\nos.mkdir = mkdir": (
        "(Read-only file system). If the overlay file system is on: sudo raspi-config nonint disable_overlayfs"
    ),
    "import os, errno\ndef mkdir(*a, **k): raise OSError(errno.EACCES, os.strerror(errno.EACCES))\nos.mkdir = mkdir": (
        "(Permission denied). Check its owner and permissions"
    ),
    "import importlib.util as u; old = u.find_spec; u.find_spec = lambda n, *a: None if n == 'venv' else old(n, *a)": (
        "sudo apt install python3-venv"
    ),
    "import shutil, types; shutil.disk_usage = lambda p: types.SimpleNamespace(free=90_000_000)": "has 90 MB of free space",
}


@pytest.mark.parametrize(("code", "message"), BOARD_FAULTS.items(), ids=lambda text: text.split("\n")[0][:40])
def test_a_board_that_cannot_be_used_is_rejected_with_a_remedy(board, pc, code, message):
    board.patch(code)
    with pytest.raises(RuntimeError) as caught:
        run(pc, board)
    assert message in str(caught.value)
    assert board.releases == []


def test_a_disk_that_fills_up_during_the_transfer_is_reported_and_nothing_stays(board, pc):
    run(pc, board)
    before = board.installed()
    board.patch(f"import os, errno\ndef fsync(*a): raise OSError({errno.ENOSPC}, 'No space left on device')\nos.fsync = fsync")
    pc.version = "0.2.0"
    with pytest.raises(RuntimeError, match=r"pi@board: the disk of the board is full. Free some space"):
        run(pc, board)
    assert board.installed() == before
    assert not list((board.home / "fer-edge-deploy/wheels").glob("*.part"))


def test_secrets_become_files_for_the_user_alone_and_stay_in_later_releases(board, pc, monkeypatch):
    monkeypatch.setenv("FER_EDGE_MQTT_PASSWORD", "a secret")
    first = run(pc, board, run="--fps 10")
    monkeypatch.delenv("FER_EDGE_MQTT_PASSWORD")
    second = run(pc, board, run="--fps 20")
    assert first["release"] != second["release"]
    secret = board.current / "credentials/mqtt-password"
    assert secret.read_text() == "a secret"
    assert secret.stat().st_mode & 0o077 == 0
    manifest = (board.current / "release.json").read_text()
    assert "a secret" not in manifest
    assert f"LoadCredential=mqtt-password:{secret}" in json.loads(manifest)["unit"]


def test_the_packages_of_the_options_are_installed(board, pc):
    assert run(pc, board, dry_run=True, run="--serve --mqtt broker")["wheels"] == 9


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-oProxyCommand=touch"], "No such option"),
        (["--", "-oProxyCommand=touch x"], "a board is [USER@]HOST, for example pi@raspberrypi.local. Received: '-oProxy"),
        (["a@b@c"], "a board is [USER@]HOST"),
        (["board", "--run", "--frmae-size 1x1"], "No such option '--frmae-size'"),
        (["board", "--run", "'"], "--run cannot be split into words"),
        (["board", "--run", "--help"], "give options of a run, not --help"),
        (["board", "--run", "--model x"], "pass --model to deploy itself, not inside --run"),
        (["board", "--model", "nothing.tflite"], "no model file 'nothing.tflite'"),
        (["board", "--detector", "harr"], "unknown detector 'harr'"),
        (["board", "--rollback", "--uninstall"], "choose one of --dry-run, --rollback, --uninstall"),
        (["board", "--rollback", "--model", "x"], "--rollback takes no other option. Received: --model"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_arguments_are_rejected_before_the_board_is_asked(invoke, board, words, message):
    result = invoke("deploy", *words)
    assert result.exit_code in (1, 2)
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_the_command_prints_steps_or_json(invoke, board, pc):
    options = ["--wheels", pc.options["wheels"], "--model", pc.options["model"], "--detector", "haar"]
    text = invoke("deploy", board.host, *options)
    assert text.exit_code == 0, text.output
    assert text.stdout.splitlines()[-1].endswith(
        f"s  current is {board.current.name}, fer-edge 0.1.0, {Path(pc.options['model']).name}"
    )
    result = invoke("deploy", board.host, *options, "--json")
    report = json.loads(result.stdout)
    assert (report["host"], report["unchanged"]) == (board.host, True)
    assert "self-test: happy" in result.stderr
    assert deploy_command.command.name == "command"


APT_PYTHON = """
import pathlib
is_file = pathlib.Path.is_file
pathlib.Path.is_file = lambda path: path.name == "EXTERNALLY-MANAGED" or is_file(path)
"""


def test_doctor_checks_a_board_and_its_release(invoke, board, pc):
    board.patch(APT_PYTHON)
    checks = {check["part"]: check for check in json.loads(invoke("doctor", "--host", board.host, "--json").stdout)}
    assert checks["release"]["remedy"] == "fer-edge deploy pi@board"
    assert checks["python"]["state"] == "ok"
    assert not {"environment", "venv"} & set(checks)  # pip on the board is not used
    release = run(pc, board)["release"]
    checks = {check["part"]: check for check in json.loads(invoke("doctor", "--host", board.host, "--json").stdout)}
    assert checks["release"]["details"].startswith(f"{release}: fer-edge 0.1.0, cnn_nano")
    assert checks["self-test"]["details"] == "happy 88% at 193,128,247,247"
    (board.current / "broken").touch()
    result = invoke("doctor", "--host", board.host)
    assert result.exit_code == 1
    assert "self-test: install the release again: fer-edge deploy pi@board" in result.stdout
    assert "Error: this release is broken" in result.stdout


def test_without_an_ssh_client_the_error_names_the_package(pc, board, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(FileNotFoundError, match="sudo apt install openssh-client"):
        run(pc, board)


def test_a_folder_without_a_wheel_names_it_and_the_command(board, pc):
    (pc.options["wheels"] / "tabulate-1.0-py3-none-any.whl").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no wheel for tabulate\. Download: pip download -d .*--platform"):
        run(pc, board)
