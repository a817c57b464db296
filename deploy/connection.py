"""Talk to a program on the board through the user's own ssh client."""

import json
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from fer_edge.deploy.board.agent import GREETING

BOARD = "fer_edge.deploy.board"
# Sent to the board, each after those that it imports.
MODULES = (
    *("fer_edge.edge_runtime.board", "fer_edge.edge_runtime.cameras.devices", "fer_edge.edge_runtime.board_facts"),
    *(f"{BOARD}.{name}" for name in ("releases", "facts", "service", "agent")),
)
# A password prompt would wait for ever. The other options end a connection whose network is gone after half a minute.
OPTIONS = ("BatchMode=yes", "ConnectTimeout=20", "ServerAliveInterval=10", "ServerAliveCountMax=3")
HOST = re.compile(r"(?:[^\s@/-][^\s@/]*@)?[^\s@/-][^\s@/]*")
CALL_TIMEOUT_S = 120.0
CHUNK_BYTES = 1 << 16
# Any login shell understands the command. The program that it starts reads the modules from standard input and runs the last.
COMMAND = "python3 -u -c 'import sys; r = sys.stdin.buffer; exec(r.read(int(r.readline())).decode())'"
PROGRAM = """
import sys, types
sources = {sources!r}
for name, source in sources.items():
    parts = name.split(".")
    for end in range(1, len(parts)):
        sys.modules.setdefault(".".join(parts[:end]), types.ModuleType(".".join(parts[:end])))
    module = sys.modules[name] = types.ModuleType(name)
    exec(compile(source, name, "exec"), module.__dict__)
    setattr(sys.modules[".".join(parts[:-1])], parts[-1], module)
module.main()
"""

Sent = Callable[[int], None]


class ConnectionLostError(OSError):
    """The connection to the board broke, or could not be made. The message names the remedy."""


class BoardConnection:
    """A program on the board that answers requests, over one ssh connection.

    Args:
        host: ``[USER@]HOST`` or a name of the user's ssh configuration.

    Raises:
        ValueError: If ``host`` cannot be a host.
        FileNotFoundError: If there is no ssh client.
        ConnectionLostError: If the host cannot be reached, rejects the user or has no python3.
    """

    def __init__(self, host: str) -> None:
        command = ssh_command(host, COMMAND)
        self._host = host
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the connection
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        program = PROGRAM.format(sources={name: _source(name) for name in MODULES}).encode()
        with self._deadline(CALL_TIMEOUT_S):
            self._send(f"{len(program)}\n".encode() + program)
            for line in self._lines():
                if line.startswith(b'{"' + GREETING.encode()):
                    return
        raise self._lost()

    def __enter__(self) -> "BoardConnection":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with suppress(OSError):
            self._pipe(self._process.stdin).close()  # the program on the board ends with its input
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._pipe(self._process.stdout).close()
        self._errors.close()

    def call(self, command: str, *, timeout_s: float = CALL_TIMEOUT_S, **arguments: Any) -> Any:
        """Send a request and return its result.

        Args:
            command: Name of the request.
            timeout_s: The connection counts as lost if there is no answer for so long, seconds.
            **arguments: JSON-compatible arguments.

        Raises:
            RuntimeError: If the step fails on the board.
            ConnectionLostError: If the connection breaks.
        """
        with self._deadline(timeout_s):
            self._send(json.dumps({"do": command, **arguments}).encode() + b"\n")
            return self._answer()

    def send_file(self, command: str, content: IO[bytes], size: int, on_sent: Sent | None = None, **arguments: Any) -> None:
        """Send a request that is followed by the content of a file.

        Args:
            command: Name of the request.
            content: The file, at the first byte to send.
            size: Number of bytes to send.
            on_sent: Called with the number of bytes of each part that was sent.
            **arguments: JSON-compatible arguments.

        Raises:
            RuntimeError: If the step fails on the board.
            ConnectionLostError: If the connection breaks.
        """
        with self._deadline(CALL_TIMEOUT_S):
            self._send(json.dumps({"do": command, "size": size, **arguments}).encode() + b"\n")
        for chunk in iter(lambda: content.read(CHUNK_BYTES), b""):
            with self._deadline(CALL_TIMEOUT_S):
                if not self._send(chunk):
                    break  # the board has ended the transfer; its answer says why
            if on_sent:
                on_sent(len(chunk))
        with self._deadline(CALL_TIMEOUT_S):
            self._answer()

    def _answer(self) -> Any:
        for line in self._lines():
            with suppress(ValueError):
                answer = json.loads(line)
                if "error" in answer:
                    raise BoardStepError(f"{self._host}: {answer['error']}")
                return answer["result"]
        raise self._lost()

    def _send(self, data: bytes) -> bool:
        """Send bytes. Returns False if the other side has closed the connection: its last words can still be read."""
        try:
            pipe = self._pipe(self._process.stdin)
            pipe.write(data)
            pipe.flush()
        except OSError:
            return False
        return True

    def _lines(self) -> Iterator[bytes]:
        yield from iter(self._pipe(self._process.stdout).readline, b"")

    def _deadline(self, seconds: float) -> "_Deadline":
        return _Deadline(self._process, seconds)

    def _lost(self) -> ConnectionLostError:
        code = self._process.wait()
        self._errors.seek(0)
        text = self._errors.read().decode(errors="replace").strip()
        return ConnectionLostError(explain(self._host, code, text))

    @staticmethod
    def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
        if pipe is None:
            raise RuntimeError("the ssh client was started without pipes")
        return pipe


class BoardStepError(RuntimeError):
    """A step failed on the board. The message has the reason."""


class _Deadline:
    """Ends the ssh client if a block takes too long. The reader then sees the end of the connection."""

    def __init__(self, process: "subprocess.Popen[bytes]", seconds: float) -> None:
        self._timer = threading.Timer(seconds, process.kill)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._timer.cancel()


CAUSES: tuple[tuple[str, str], ...] = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "the host key of {host} has changed. If you installed its system again, remove the old key with 'ssh-keygen -R {name}' "
        "and log in once with 'ssh {host}'. If not, another machine answers in its place: do not log in",
    ),
    (
        "Host key verification failed",
        "the host key of {host} is not known here. Log in once with 'ssh {host}', compare the fingerprint and accept it",
    ),
    (
        "Permission denied",
        "{host} does not accept a key of yours, and a deployment does not ask for passwords. Copy your key with "
        "'ssh-copy-id {host}'; unlock a key that has a passphrase with 'ssh-add'",
    ),
    ("Could not resolve hostname", "no address is known for {host}. Check the name, or use the IP address of the board"),
    ("Connection refused", "{host} runs no ssh server. Enable SSH on the board: sudo raspi-config nonint do_ssh 0"),
    ("timed out", "{host} does not answer. Check that the board is on and in the same network"),
    ("No route to host", "{host} does not answer. Check that the board is on and in the same network"),
    ("Network is unreachable", "{host} does not answer. Check that this machine has a network"),
)


def ssh_command(host: str, command: str) -> list[str]:
    """Return the arguments with which ssh runs a command on a board. ssh never asks for a password.

    Args:
        host: ``[USER@]HOST`` or a name of the user's ssh configuration.
        command: The command, for the login shell there.

    Raises:
        ValueError: If ``host`` cannot be a host.
        FileNotFoundError: If there is no ssh client.
    """
    if not HOST.fullmatch(host):
        raise ValueError(f"a board is [USER@]HOST, for example pi@raspberrypi.local. Received: '{host}'")
    ssh = shutil.which("ssh")
    if ssh is None:
        raise FileNotFoundError("no ssh client found. Install OpenSSH: sudo apt install openssh-client")
    return [ssh, *(word for option in OPTIONS for word in ("-o", option)), "-T", "--", host, command]


def known_cause(host: str, text: str) -> str | None:
    """Return why ssh cannot connect, and the remedy; None if the cause is unknown.

    Args:
        host: The host, as the user gave it.
        text: What ssh printed to standard error.
    """
    for part, message in CAUSES:
        if part in text:
            return message.format(host=host, name=host.rpartition("@")[2])
    return None


def explain(host: str, code: int, text: str) -> str:
    """Return what a failed ssh connection means and what to do.

    Args:
        host: The host, as the user gave it.
        code: Exit status of ssh, negative if a signal ended it.
        text: What ssh printed to standard error.
    """
    cause = known_cause(host, text)
    if cause:
        return cause
    last = text.splitlines()[-1] if text else f"exit status {code}"
    if "python3" in text and "not found" in text:
        return f"{host} has no python3. Install it on the board: sudo apt install python3"
    if "SyntaxError" in text:
        return f"the python3 of {host} is too old for fer-edge, which needs 3.10 to 3.13. Use a current Raspberry Pi OS"
    if code == 255 or code < 0:
        return f"the connection to {host} was lost ({last}). Deploy again: what has arrived is not sent again"
    return f"the program on {host} ended: {last}"


def _source(module: str) -> str:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"the installation of fer-edge lacks the module {module}. Install fer-edge again")
    return Path(spec.origin).read_text(encoding="utf-8")
