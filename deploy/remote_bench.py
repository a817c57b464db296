"""Run ``fer-edge bench`` on boards over ssh, several at once, and read their records."""

import io
import shlex
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fer_edge.artifacts.latency_records import LatencyRecord, read_latency_records
from fer_edge.artifacts.reporter import SILENT, Reporter
from fer_edge.deploy.board.releases import FOLDER
from fer_edge.deploy.connection import known_cause, ssh_command

# Exit statuses of ssh and of SCRIPT; those of fer-edge are 1 and 2.
LOST, NOT_DEPLOYED = 255, 93
# Unpacks the models into a new folder, measures them with the deployed release, and prints the records. The folder is removed
# even if the connection breaks: ssh then ends the shell with SIGHUP.
SCRIPT = """\
set -eu
program=$HOME/{folder}/current/env/bin/fer-edge
[ -x "$program" ] || exit {not_deployed}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
cd "$work"
tar -xf -
"$program" bench {arguments} --record records.jsonl 1>&2
cat records.jsonl
"""


def bench_on_boards(
    hosts: Sequence[str], models: Sequence[Path], arguments: Sequence[str] = (), reporter: Reporter = SILENT
) -> dict[str, list[LatencyRecord]]:
    """Measure the same files on several boards at the same time.

    Args:
        hosts: ``[USER@]HOST`` or names of the user's ssh configuration, all different. fer-edge is deployed there.
        models: The files, with different names.
        arguments: Further arguments of ``fer-edge bench``.
        reporter: Receives what the boards print, each line with the name of its board.

    Returns:
        The records by host.

    Raises:
        ValueError: If a host cannot be one or is named twice, or two files have the same name.
        FileNotFoundError: If there is no ssh client.
        OSError: If a board cannot be reached.
        RuntimeError: If the measurement fails there. The records of other boards are lost too.
    """
    for what, names in (("board", list(hosts)), ("file name", [model.name for model in models])):
        repeated = [name for name in names if names.count(name) > 1]
        if repeated:
            raise ValueError(f"each {what} can be measured only once. Received twice: '{repeated[0]}'")
    words = shlex.join([*(f"./{model.name}" for model in models), *arguments])
    script = SCRIPT.format(folder=FOLDER, not_deployed=NOT_DEPLOYED, arguments=words)
    commands = [ssh_command(host, script) for host in hosts]
    archive = _pack(models)
    with ThreadPoolExecutor(max_workers=len(hosts)) as pool:
        records = pool.map(lambda host, command: _bench_on(host, command, archive, reporter), hosts, commands)
        return dict(zip(hosts, records, strict=True))


def _pack(models: Sequence[Path]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", dereference=True) as archive:
        for model in models:
            archive.add(model, model.name, filter=_without_owner)
    return content.getvalue()


def _without_owner(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def _bench_on(host: str, command: Sequence[str], archive: bytes, reporter: Reporter) -> list[LatencyRecord]:
    with tempfile.TemporaryDirectory() as text:
        records = Path(text) / f"{host.rpartition('@')[2]}.jsonl"
        with records.open("wb") as output:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.PIPE)
            lines = _exchange(process, archive, host, reporter)
        if process.returncode:
            raise _failure(host, process.returncode, lines)
        return read_latency_records(records)


def _exchange(process: "subprocess.Popen[bytes]", archive: bytes, host: str, reporter: Reporter) -> list[str]:
    """Send the files, pass on what the board prints, and wait for its end. Returns the printed lines."""

    def send() -> None:
        try:
            process.stdin.write(archive)  # type: ignore[union-attr]
            process.stdin.close()  # type: ignore[union-attr]
        except OSError:  # the board has ended before; its exit status says why
            pass

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    lines = []
    for line in process.stderr or ():
        lines.append(line.decode(errors="replace").rstrip())
        reporter.note(f"{host}: {lines[-1]}")
    process.wait()
    sender.join()
    return lines


def _failure(host: str, status: int, lines: Sequence[str]) -> Exception:
    cause = known_cause(host, "\n".join(lines)) if status == LOST else None
    if cause:
        return ConnectionError(cause)
    if status == NOT_DEPLOYED:
        return RuntimeError(f"fer-edge is not deployed on {host}. Deploy it first: fer-edge deploy {host}")
    last = lines[-1] if lines else f"exit status {status}"
    if status == LOST or status < 0:
        return ConnectionError(f"the connection to {host} was lost ({last}). Measure again")
    return RuntimeError(f"bench on {host} failed: {last}. If its fer-edge is older, deploy this one: fer-edge deploy {host}")
