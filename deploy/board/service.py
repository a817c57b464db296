"""The systemd service on the board: install it, wait for its first labeled frame, and go back if there is none."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

from fer_edge.deploy.board.releases import FOLDER, BoardError

UNIT = "fer-edge.service"
UNIT_FILE = Path("/etc/systemd/system") / UNIT
PROPERTIES = ("ActiveState", "SubState", "Result", "NRestarts", "InvocationID", "ExecMainStatus", "StatusText")
COMMAND_TIMEOUT_S = 90
POLL_S = 0.3
SHOWN_LINES = 12
WRITE = 'umask 022; cat > "$1.new" && mv -f "$1.new" "$1"'
RESULTS = {
    "start-limit-hit": "it ended again and again",
    "watchdog": "it hung",
    "timeout": "it did not get ready",
    "oom-kill": "it needed more memory than the unit allows",
    "exec-condition": "a condition of the unit is not met",
    "resources": "systemd could not start it",
}


def installed() -> bool:
    """Return whether the unit is installed and runs a release of this user."""
    return f"={Path.home() / FOLDER}/" in (_installed_text() or "")


def start(text: str, first_frame: str, within_s: float) -> dict[str, Any]:
    """Install the unit and wait for the first labeled frame. If there is none, restore the unit and the service before.

    Args:
        text: The unit.
        first_frame: The text of the journal that says that a frame was labeled.
        within_s: Time to wait, seconds.

    Returns:
        ``seconds`` until the first labeled frame, and the last ``lines`` of the journal.

    Raises:
        BoardError: If the service does not start or labels no frame. The message has the reason.
    """
    before = _installed_text()
    old = _show()
    was_active = before is not None and old["ActiveState"] in ("active", "activating", "reloading")
    try:
        _as_root(["sh", "-c", WRITE, "sh", str(UNIT_FILE)], text)
        _as_root(["systemctl", "daemon-reload"])
        _as_root(["systemctl", "reset-failed", UNIT], check=False)
        _as_root(["systemctl", "enable", "--quiet", UNIT])
        # Without waiting for the unit to be ready: the journal says more than the error of systemctl.
        _as_root(["systemctl", "restart", "--no-block", UNIT])
        return _await_first_frame(old["InvocationID"], first_frame, within_s)
    except BaseException:
        _restore(before, was_active)
        raise


def stop_and_remove() -> None:
    """Stop the service of this user and remove its unit. Does nothing if it is not installed."""
    if installed():
        _restore(None, False)


def _installed_text() -> str | None:
    return UNIT_FILE.read_text() if UNIT_FILE.exists() else None


def _restore(before: str | None, was_active: bool) -> None:
    if before is None:
        _as_root(["systemctl", "disable", "--now", "--quiet", UNIT], check=False)
        _as_root(["rm", "-f", str(UNIT_FILE)])
        _as_root(["systemctl", "daemon-reload"])
        _as_root(["systemctl", "reset-failed", UNIT], check=False)
        return
    _as_root(["sh", "-c", WRITE, "sh", str(UNIT_FILE)], before)
    _as_root(["systemctl", "daemon-reload"])
    _as_root(["systemctl", "restart" if was_active else "stop", "--no-block", UNIT], check=False)


def _await_first_frame(old_invocation: str, first_frame: str, within_s: float) -> dict[str, Any]:
    """Wait for the text in the journal of the processes that started after the old one, which may still be ending."""
    start_s = time.monotonic()
    invocations: list[str] = []
    while True:
        state = _show()
        if state["InvocationID"] not in ("", old_invocation, *invocations):
            invocations.append(state["InvocationID"])
        lines = [line for invocation in invocations for line in _journal(invocation)]
        elapsed_s = time.monotonic() - start_s
        if any(first_frame in line for line in lines) and state["ActiveState"] == "active":
            return {"seconds": round(elapsed_s, 1), "lines": lines[-SHOWN_LINES:]}
        if (state["ActiveState"] == "failed" and invocations) or elapsed_s > within_s:
            raise BoardError(_reason(state, lines, within_s))
        time.sleep(POLL_S)


def _reason(state: dict[str, str], lines: list[str], within_s: float) -> str:
    if state["ActiveState"] == "failed":
        cause = RESULTS.get(state["Result"], f"it ended with exit status {state['ExecMainStatus']} ({state['Result']})")
        problem = f"the service does not run: {cause}"
    else:
        restarts = int(state["NRestarts"] or 0)
        again = f", and ended {restarts} time{'s' * (restarts > 1)}" if restarts else ""
        problem = f"the service labeled no frame within {within_s:.0f} s{again}"
    text = "\n".join(f"  {line}" for line in lines[-SHOWN_LINES:]) or "  (nothing)"
    return f"{problem}. The previous state of the board is restored. The journal of the service says:\n{text}"


def _show() -> dict[str, str]:
    output = _as_root(["systemctl", "show", UNIT, f"--property={','.join(PROPERTIES)}"])
    values = dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
    return {name: values.get(name, "") for name in PROPERTIES}


def _journal(invocation: str) -> list[str]:
    output = _as_root(["journalctl", "--no-pager", "-q", "-o", "cat", f"_SYSTEMD_INVOCATION_ID={invocation}"], check=False)
    return output.splitlines()


def _as_root(command: list[str], text: str = "", check: bool = True) -> str:
    """Run a program as root and return its standard output."""
    full = command if os.getuid() == 0 else ["sudo", "-n", *command]
    try:
        done = subprocess.run(full, input=text.encode(), capture_output=True, timeout=COMMAND_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BoardError(f"'{' '.join(command[:2])}' fails on the board: {error}") from error
    if check and done.returncode:
        message = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise BoardError(f"'{' '.join(command[:2])}' fails on the board: {message or f'exit status {done.returncode}'}")
    return done.stdout.decode(errors="replace")
