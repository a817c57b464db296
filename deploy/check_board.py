"""Decide whether fer-edge can be installed on a board, from its facts."""

import re
from dataclasses import dataclass
from typing import Any

from fer_edge.deploy.wheels import MIN_GLIBC_MINOR, Target

PYTHONS = ((3, 10), (3, 13))
PLAIN_PATH = re.compile(r"[A-Za-z0-9/._-]+")


@dataclass(frozen=True)
class Board:
    """The facts of a board that a deployment uses, see deploy/board/facts.py.

    Attributes:
        name: Its model, or the name of its host.
        user: The user of the ssh connection.
        home: The user's home folder.
        python: Major and minor version of its Python.
        machine: aarch64 or x86_64.
        glibc: Major and minor version of its C library.
        free_bytes: Free space in the home folder.
        system_packages: Whether the environment must see the system's packages, because picamera2 works there.
        numpy_1: Whether picamera2 works there with numpy 1.
        camera_group: Whether it has the group ``video``.
        service: Whether the service is installed.
    """

    name: str
    user: str
    home: str
    python: tuple[int, int]
    machine: str
    glibc: tuple[int, int]
    free_bytes: int
    system_packages: bool
    numpy_1: bool
    camera_group: bool
    service: bool

    def target(self, extras: tuple[str, ...]) -> Target:
        """Return what wheels must fit.

        Args:
            extras: Extras of fer-edge to install.
        """
        return Target(self.python, self.machine, self.glibc, extras, self.numpy_1)


def check_board(host: str, facts: dict[str, Any]) -> Board:
    """Check the facts of a board.

    Args:
        host: The host, as the user gave it.
        facts: The result of deploy.board.facts.facts(), and ``service``.

    Raises:
        RuntimeError: If fer-edge cannot be installed. The message has all reasons and their remedies.
    """
    major, minor = facts["python"].split(".")[:2]
    python = (int(major), int(minor))
    problems = []
    if facts["python_bits"] != 64:
        problems.append(
            "it runs a 32-bit system, for which there is no LiteRT. Install the 64-bit Raspberry Pi OS: the Pi 3, 4, 5 and "
            "Zero 2 W run it"
        )
    if not PYTHONS[0] <= python <= PYTHONS[1]:
        problems.append(f"it has Python {facts['python']}; fer-edge needs 3.10 to 3.13. Use Raspberry Pi OS Bookworm or later")
    if facts["machine"] not in MIN_GLIBC_MINOR:
        problems.append(f"its processor is {facts['machine']}; there are wheels for {' and '.join(MIN_GLIBC_MINOR)} only")
    if facts["glibc"] is None:
        problems.append("its C library is not glibc, for which the wheels are built. Use a Debian system")
    if not facts["venv"]:
        problems.append("its Python has no module venv. Install it: sudo apt install python3-venv")
    if facts["home_problem"]:
        problems.append(_home_remedy(facts))
    if problems:
        raise RuntimeError(f"fer-edge cannot be installed on {host}: {'; '.join(problems)}")
    glibc = facts["glibc"].split(".")
    numpy = facts["picamera2_numpy"]  # of the picamera2 that can be imported
    return Board(
        name=facts["board"] or f"{facts['os']} on {facts['machine']}",
        user=facts["user"],
        home=facts["home"],
        python=python,
        machine=facts["machine"],
        glibc=(int(glibc[0]), int(glibc[1])),
        free_bytes=facts["free_bytes"] or 0,
        system_packages=numpy is not None,
        numpy_1=(numpy or "").startswith("1."),
        camera_group=facts["camera_group"],
        service=facts["service"],
    )


def check_service(host: str, facts: dict[str, Any]) -> None:
    """Check whether the board can run the service.

    Args:
        host: The host, as the user gave it.
        facts: As in check_board.

    Raises:
        RuntimeError: If it cannot. The message has the remedy.
    """
    if not facts["systemd"]:
        raise RuntimeError(f"{host} does not run systemd, which --service needs. Deploy without --service")
    if facts["uid"] == 0:
        raise RuntimeError(
            "the service does not run as root. Name another user of the board: fer-edge deploy USER@HOST --service"
        )
    if not facts["root"]:
        raise RuntimeError(
            f"--service needs sudo without a password on {host}. Allow it: ssh -t {host} \"echo '{facts['user']} ALL=(ALL) "
            f"NOPASSWD: ALL' | sudo tee /etc/sudoers.d/010_{facts['user']}\""
        )
    if not PLAIN_PATH.fullmatch(facts["home"]):
        raise RuntimeError(f"the service needs a home folder of letters, digits and ._-/ only. Received: '{facts['home']}'")


def _home_remedy(facts: dict[str, Any]) -> str:
    text = f"nothing can be written to the home folder '{facts['home']}' ({facts['home_problem']}). "
    if "ead-only" in facts["home_problem"]:
        return text + "If the overlay file system is on: sudo raspi-config nonint disable_overlayfs, then restart the board"
    if "space" in facts["home_problem"]:
        return text + "Free some space"
    return text + "Check its owner and permissions"
