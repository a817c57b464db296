"""Examine the board: what decides whether and how fer-edge can be installed, in addition to the facts of doctor."""

from __future__ import annotations

import dataclasses
import grp
import os
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fer_edge.edge_runtime.board_facts import board_facts

CAMERA_GROUP = "video"
SUDO_TIMEOUT_S = 20


def facts() -> dict[str, Any]:
    """Return the facts of this board as JSON-compatible data: those of BoardFacts, and those of a deployment."""
    return {
        **dataclasses.asdict(board_facts()),
        "uid": os.getuid(),
        "home_problem": _home_problem(Path.home()),
        "venv": find_spec("venv") is not None,  # without ensurepip, which Debian has in a package of its own
        "root": _becomes_root(),
        "camera_group": any(group.gr_name == CAMERA_GROUP for group in grp.getgrall()),
    }


def _home_problem(home: Path) -> str | None:
    """Return why nothing can be written to the home folder, None if it can. Root may write everywhere, so try it."""
    try:
        with tempfile.TemporaryDirectory(prefix=".fer-edge-", dir=str(home)):
            return None
    except OSError as error:
        return str(error.strerror or error)


def _becomes_root() -> bool:
    """Return whether commands can run as root without a password."""
    if os.getuid() == 0:
        return True
    try:
        done = subprocess.run(["sudo", "-n", "true"], stdin=subprocess.DEVNULL, capture_output=True, timeout=SUDO_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
