import ast
import fcntl
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from fer_edge.deploy.connection import MODULES, _source
from fer_edge.edge_runtime import board, board_facts
from fer_edge.edge_runtime.board_facts import BoardFacts
from fer_edge.edge_runtime.cameras import devices

# Recorded on boards: github.com/raspberrypi/documentation (get_throttled, measure_*), and pmic_read_adc of a Pi 5.
RECORDED = {
    "get_throttled": ("throttled=0x50005", "throttled", 0x50005),
    "measure_clock": ("frequency(48)=1500345728", "clock_hz", 1500345728),
    "measure_volts": ("volt=0.8563V", "core_volts", 0.8563),
    "pmic_read_adc": ("     EXT5V_V volt(24)=5.05716000V", "supply_volts", 5.05716),
}


@pytest.fixture
def vcgencmd(tmp_path, monkeypatch):
    """Puts a vcgencmd with the given answers first on the PATH."""

    def write(**answers):
        cases = "\n".join(f"{name}) echo '{answer}';;" for name, answer in answers.items())
        program = tmp_path / "vcgencmd"
        unknown = """*) echo 'error=1 error_msg="Command not registered"';;"""
        program.write_text(f'#!/bin/sh\ncase "$1" in\n{cases}\n{unknown}\nesac\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    return write


def test_the_recorded_answers_of_the_firmware_are_read(vcgencmd):
    vcgencmd(**{name: answer for name, (answer, _, _) in RECORDED.items()})
    facts = board_facts.board_facts()
    for _, field, value in RECORDED.values():
        assert getattr(facts, field) == value
    assert board.number_in("temp=48.3'C", float) == 48.3


def test_an_unknown_command_of_the_firmware_gives_no_value(vcgencmd):
    vcgencmd()
    assert board.throttle_bits() is None
    assert board_facts.board_facts().supply_volts is None


def test_the_facts_of_this_board_fit_into_json():
    facts = board_facts.board_facts()
    assert BoardFacts(**json.loads(json.dumps(asdict(facts)))) == facts
    assert (facts.python_bits, facts.cores, facts.python_path) == (64, os.cpu_count(), sys.executable)
    assert facts.free_bytes > 0


@pytest.mark.parametrize("module", [board, board_facts, devices], ids=lambda module: module.__name__.rpartition(".")[2])
def test_the_program_for_boards_runs_in_python_3_9_with_the_standard_library(module):
    tree = ast.parse(Path(module.__file__).read_text(), feature_version=(3, 9))
    names = {
        node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
    }
    others = {name for name in names if name.partition(".")[0] not in sys.stdlib_module_names}
    assert others <= {"fer_edge.edge_runtime", "fer_edge.edge_runtime.board", "fer_edge.edge_runtime.cameras"}


LOCK = """
import fcntl, sys
file = open(sys.argv[1], "w")
fcntl.lockf(file, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""


def test_the_process_that_locked_the_camera_is_named(tmp_path):
    media, other = tmp_path / "media0", tmp_path / "media1"
    media.touch()
    other.touch()
    with subprocess.Popen([sys.executable, "-c", LOCK, media], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        name = Path(f"/proc/{holder.pid}/comm").read_text().strip()
        assert devices.lock_holders([media, tmp_path / "gone"]) == [f"{holder.pid} ({name})"]
        assert devices.lock_holders([other]) == []
        holder.communicate()
    with media.open("w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        assert devices.lock_holders([media]) == []  # the camera that this process uses


def picamera2_package(folder, body):
    (folder / "picamera2.py").write_text(body)


def test_picamera2_is_judged_by_importing_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "numpy.py").write_text("__version__ = '1.24.2'")
    picamera2_package(
        tmp_path,
        "class Picamera2:\n    @staticmethod\n    def global_camera_info():\n        print('a log line')\n"
        "        return [{'Model': 'imx219', 'Id': object()}]",
    )
    error, numpy_version, cameras = board_facts._picamera2()
    assert (error, numpy_version, cameras[0]["Model"]) == (None, "1.24.2", "imx219")
    picamera2_package(tmp_path, "raise ValueError('numpy.dtype size changed')")
    assert board_facts._picamera2() == ("ValueError: numpy.dtype size changed", None, [])
    picamera2_package(tmp_path, "import os; os._exit(7)")
    assert board_facts._picamera2()[0] == "it ends with status 7"
    picamera2_package(tmp_path, "import time; time.sleep(20)")
    monkeypatch.setattr(board_facts, "PICAMERA2_TIMEOUT_S", 0.2)
    assert board_facts._picamera2()[0] == "it does not answer within 0.2 s"


def test_picamera2_that_the_environment_does_not_see_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(board_facts, "find_spec", lambda name: None)
    monkeypatch.setattr(board_facts, "SYSTEM_PACKAGES", tmp_path)
    assert board_facts._picamera2()[0] is None
    (tmp_path / "picamera2").mkdir()
    assert "does not see it" in board_facts._picamera2()[0]


@pytest.mark.parametrize("module", MODULES)
def test_a_module_that_is_sent_to_the_board_needs_only_an_old_python(module):
    tree = ast.parse(_source(module), feature_version=(3, 9))
    imported = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imported += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    known = {*MODULES, "fer_edge.edge_runtime", "fer_edge.edge_runtime.cameras", "fer_edge.deploy.board"}
    assert [name for name in imported if name not in known and name.split(".")[0] not in sys.stdlib_module_names] == []
