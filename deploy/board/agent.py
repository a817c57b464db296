"""The program on the board: it takes requests from standard input and answers on standard output, one line of JSON each.

It ends with its input, so a lost connection releases the lock of the deployment.
"""

from __future__ import annotations

import errno
import json
import signal
import sys
from typing import Any

from fer_edge.deploy.board import service
from fer_edge.deploy.board.facts import facts
from fer_edge.deploy.board.releases import BoardError, Releases

GREETING = "fer-edge-agent"  # starts the first line; a shell's startup files may print before it
# A deployment that holds the lock and is silent for so long has lost its connection.
MAX_SILENCE_S = 120


def main() -> None:
    """Answer requests until the input ends."""
    source = sys.stdin.buffer
    agent = _Agent()
    _answer({GREETING: 1})
    while True:
        signal.alarm(MAX_SILENCE_S if agent.locked else 0)  # its default action ends the program
        line = source.readline()
        if not line:
            return
        request = json.loads(line)
        signal.alarm(0)
        command = request.pop("do")
        try:
            result = agent.handle(command, request)
        except EOFError:  # nobody waits for an answer
            return
        except (BoardError, OSError) as error:
            _answer({"error": _message(error)})
            if command.startswith("put_"):
                return  # the rest of the payload is not a request
        else:
            _answer({"result": result})


def _message(error: Exception) -> str:
    if not isinstance(error, OSError):
        return str(error)
    if error.errno == errno.ENOSPC:
        return "the disk of the board is full. Free some space, then deploy again"
    name = f" '{error.filename}'" if error.filename else ""
    return f"{error.strerror or error}{name}"


def _answer(data: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(data) + "\n")
    sys.stdout.flush()


class _Agent:
    def __init__(self) -> None:
        self._releases = Releases()
        self.locked = False

    def handle(self, command: str, arguments: dict[str, Any]) -> Any:
        releases = self._releases
        if command == "facts":
            return {**facts(), **releases.state(), "service": service.installed()}
        if command == "lock":
            releases.lock(**arguments)
            self.locked = True
            return None
        if command in ("put_wheel", "put_file"):
            signal.alarm(MAX_SILENCE_S)
            try:
                return getattr(releases, command)(**arguments, source=_Payload())
            finally:
                signal.alarm(0)
        if command == "start_service":
            return service.start(**arguments)
        if command == "remove_service":
            return service.stop_and_remove()
        return getattr(releases, command)(**arguments)


class _Payload:
    """The bytes that follow a request. Each part that arrives postpones the end of the program."""

    def read(self, size: int) -> bytes:
        signal.alarm(MAX_SILENCE_S)
        reader: Any = sys.stdin.buffer  # it may have read ahead
        part: bytes = reader.read1(size)
        return part
