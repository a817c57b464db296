import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from fake_board import FakeBoard

from fer_edge.deploy.board import service
from fer_edge.deploy.board.releases import BoardError
from fer_edge.deploy.check_board import check_service
from fer_edge.deploy.unit import MAX_FILES, MAX_STARTS, RESTART_S, STARTS_WITHIN_S, WATCHDOG_S, unit_text
from fer_edge.edge_runtime.live.service_manager import FIRST_FRAME

FOLDER = "/home/pi/fer-edge-deploy/releases/20261127-031500-1a2b3c4d"
STARTED = f"note: {FIRST_FRAME} 1.2 s after the start"
# A systemctl and a journalctl whose answers are in state.json. ``start`` changes it to the next state.
PROGRAM = f"""#!{sys.executable}
import json, pathlib, sys
file = pathlib.Path(__file__).with_name("state.json")
state = json.loads(file.read_text())
name, words = pathlib.Path(__file__).name, sys.argv[1:]
with pathlib.Path(__file__).with_name("calls.txt").open("a") as calls:
    calls.write(" ".join([name, *words]) + "\\n")
if name == "journalctl":
    print("\\n".join(state["journal"]))
elif words[0] == "show":
    started = any("restart" in line for line in file.with_name("calls.txt").read_text().splitlines())
    state["show"]["InvocationID"] = state["invocations"][started]
    print("\\n".join(f"{{key}}={{value}}" for key, value in state["show"].items()))
"""


def unit(**options):
    return unit_text(FOLDER, "pi", ["--fps", "10"], **{"network": False, **options})


@pytest.fixture
def manager(tmp_path, monkeypatch):
    """A fake systemd. Root is not needed."""
    for name in ("systemctl", "journalctl"):
        FakeBoard.write_program(tmp_path / name, PROGRAM)
    FakeBoard.write_program(tmp_path / "sudo", '#!/bin/sh\nshift\nexec "$@"\n')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(service, "UNIT_FILE", tmp_path / "fer-edge.service")
    monkeypatch.setattr(service, "POLL_S", 0.01)

    def set_state(journal=(), invocations=("1", "2"), **show):
        values = {"ActiveState": "active", "NRestarts": "0", "Result": "success", "ExecMainStatus": "0"}
        state = {"show": {**values, **show}, "journal": list(journal), "invocations": invocations}
        (tmp_path / "state.json").write_text(json.dumps(state))
        (tmp_path / "calls.txt").unlink(missing_ok=True)

    set_state.calls = lambda: [" ".join(line.split()[:2]) for line in (tmp_path / "calls.txt").read_text().splitlines()]
    set_state([STARTED])
    return set_state


def test_the_service_is_started_after_its_unit_is_written(manager, tmp_path):
    started = service.start("[Unit]\n", FIRST_FRAME, 5)
    assert started["lines"] == [STARTED]
    assert (tmp_path / "fer-edge.service").read_text() == "[Unit]\n"
    assert [call for call in manager.calls() if " show" not in call and call.startswith("systemctl")] == [
        f"systemctl {verb}" for verb in ("daemon-reload", "reset-failed", "enable", "restart")
    ]


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({"ActiveState": "failed", "Result": "exit-code", "ExecMainStatus": "1"}, "it ended with exit status 1 (exit-code)"),
        ({"ActiveState": "failed", "Result": "start-limit-hit"}, "the service does not run: it ended again and again"),
        ({"ActiveState": "failed", "Result": "watchdog"}, "the service does not run: it hung"),
        ({"ActiveState": "failed", "Result": "oom-kill"}, "it needed more memory than the unit allows"),
        ({"ActiveState": "activating", "NRestarts": "3"}, "the service labeled no frame within 0 s, and ended 3 times"),
        ({}, "the service labeled no frame within 0 s. The previous state"),
    ],
    ids=["exits", "keeps dying", "hangs", "memory", "dies", "waits"],
)
def test_a_service_without_a_labeled_frame_is_taken_back_with_the_reason(manager, tmp_path, state, reason):
    manager(["warning: waiting for a camera: no camera found"], **state)
    with pytest.raises(BoardError) as caught:
        service.start("[Unit]\n", FIRST_FRAME, 0.05)
    assert reason in str(caught.value)
    assert "  warning: waiting for a camera: no camera found" in str(caught.value)
    assert not (tmp_path / "fer-edge.service").exists()
    assert "systemctl disable" in manager.calls()


def test_a_frame_that_the_service_before_has_labeled_does_not_count(manager, tmp_path):
    (tmp_path / "fer-edge.service").write_text("before\n")
    manager([STARTED], invocations=("1", "1"))  # it is still ending
    with pytest.raises(BoardError, match="labeled no frame"):
        service.start("[Unit]\n", FIRST_FRAME, 0.05)


def test_the_service_before_is_restored_and_runs_again(manager, tmp_path):
    (tmp_path / "fer-edge.service").write_text("before\n")
    manager([], ActiveState="active")
    with pytest.raises(BoardError):
        service.start("[Unit]\n", FIRST_FRAME, 0.05)
    assert (tmp_path / "fer-edge.service").read_text() == "before\n"
    assert manager.calls()[-2:] == ["systemctl daemon-reload", "systemctl restart"]


def test_removing_stops_the_service_of_this_user(manager, tmp_path, monkeypatch):
    (tmp_path / "fer-edge.service").write_text("ExecStart=/home/somebody/fer-edge-deploy/releases/x/env/bin/fer-edge\n")
    service.stop_and_remove()
    assert (tmp_path / "fer-edge.service").exists()  # of another user
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "fer-edge.service").write_text(f"ExecStart={tmp_path}/fer-edge-deploy/releases/x\n")
    service.stop_and_remove()
    assert not (tmp_path / "fer-edge.service").exists()
    assert manager.calls()[0] == "systemctl disable"
    service.stop_and_remove()


@pytest.mark.parametrize("network", [False, True])
@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_the_exposure_of_the_unit_is_at_most_2(tmp_path, network):
    path = tmp_path / "fer-edge.service"
    path.write_text(unit(network=network, credentials=["token", "mqtt-password"]))
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    exposure = float(re.search(r"Overall exposure level for fer-edge.service: ([\d.]+)", done.stdout)[1])
    assert exposure <= 2.0


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_systemd_understands_every_line_of_the_unit(tmp_path):
    path = tmp_path / "fer-edge.service"
    program = "/bin/sh"  # verify wants a program that exists
    path.write_text(unit(network=True).replace(f"{FOLDER}/env/bin/fer-edge", program).replace("User=pi", "User=root"))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(path)], capture_output=True, text=True, check=False)
    assert [line for line in done.stderr.splitlines() if str(path) in line or "fer-edge.service" in line] == []


def test_the_unit_restarts_a_program_that_dies_but_not_without_end():
    lines = unit().splitlines()
    assert {"Type=notify", f"WatchdogSec={WATCHDOG_S}", "Restart=on-failure", f"RestartSec={RESTART_S}"} <= set(lines)
    assert {f"StartLimitBurst={MAX_STARTS}", f"StartLimitIntervalSec={STARTS_WITHIN_S}", f"LimitNOFILE={MAX_FILES}"} <= set(
        lines
    )
    assert MAX_STARTS * RESTART_S < STARTS_WITHIN_S  # otherwise the limit is never reached
    assert f"ExecStartPre=/usr/bin/sha256sum --check --quiet {FOLDER}/model.sha256" in lines


def test_without_an_option_for_it_the_service_has_no_network():
    assert "IPAddressDeny=any" in unit()
    assert "RestrictAddressFamilies=AF_UNIX AF_NETLINK\n" in unit()
    assert "IPAddressDeny" not in unit(network=True)


@pytest.mark.parametrize(
    ("word", "quoted"),
    [
        ("--json", "--json"),
        ("rtsp://a/b?x=1%20y", '"rtsp://a/b?x=1%%20y"'),
        ("$HOME", '"$$HOME"'),
        ('a "b" \\', '"a \\"b\\" \\\\"'),
    ],
)
def test_systemd_passes_every_argument_on_as_it_is(word, quoted):
    text = unit_text(FOLDER, "pi", [word], network=True)
    assert f"ExecStart={FOLDER}/env/bin/fer-edge run {quoted}\n" in text


SERVICE_FACTS = {"systemd": True, "uid": 1000, "root": True, "home": "/home/pi", "user": "pi"}


@pytest.mark.parametrize(
    ("fact", "message"),
    [
        ({"systemd": False}, "does not run systemd"),
        ({"uid": 0}, "does not run as root"),
        ({"root": False}, "needs sudo without a password on pi@board. Allow it: ssh -t pi@board"),
        ({"home": "/home/my pi"}, "Received: '/home/my pi'"),
    ],
)
def test_a_board_that_cannot_run_the_service_is_rejected(fact, message):
    check_service("pi@board", SERVICE_FACTS)
    with pytest.raises(RuntimeError) as caught:
        check_service("pi@board", {**SERVICE_FACTS, **fact})
    assert message in str(caught.value)
