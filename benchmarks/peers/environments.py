"""One environment per package, so that no package changes the libraries of another."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from fer_edge.artifacts.atomic_write import atomic_write
from fer_edge.artifacts.typed_json import read_json_lines, to_data
from fer_edge.benchmarks.peers.catalog import Peer
from fer_edge.benchmarks.peers.peer_records import Installation

DONE = "installed.jsonl"  # in the folder of a complete environment
INSTALL_SECONDS = 3600
PROJECT = Path(__file__).resolve().parents[2]  # fer-edge, for its own rows


class PeerError(RuntimeError):
    """A package that cannot be installed or does not run, with the reason for its row."""


def install(peer: Peer, folder: Path, uv: str) -> Installation:
    """Install a package into a folder, unless it is there already with the same requirements.

    Args:
        peer: The package.
        folder: Folder of its environment. An incomplete one is deleted first.
        uv: The command uv.

    Raises:
        PeerError: If the package cannot be installed, or npm or uv is not there.
    """
    complete = read_json_lines(Installation, folder / DONE)
    if complete and complete[-1].requirements == peer.requirements:
        return complete[-1]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if peer.registry == "npm":
        npm = shutil.which("npm")
        if not npm or not shutil.which("node"):
            raise PeerError("Node.js and npm are not installed")
        _run([npm, "install", "--prefix", ".", "--ignore-scripts", "--no-audit", "--no-fund", *peer.requirements], folder)
        before = 0
    else:
        _run([sys.executable, "-m", "venv", "."], folder)
        before = _bytes(folder)
        pip = [uv, "pip", "install", "--quiet", "--python", str(folder / "bin" / "python")]
        requirements = [text.replace("fer-edge[edge]", f"fer-edge[edge] @ {PROJECT.as_uri()}") for text in peer.requirements]
        _run([*pip, *requirements], folder)
    return mark_complete(peer, folder, before)


def mark_complete(peer: Peer, folder: Path, bytes_before: int) -> Installation:
    """Write into an environment that it is complete.

    Args:
        peer: The package.
        folder: Folder of its environment.
        bytes_before: Size of the empty environment, bytes.
    """
    installation = Installation(peer.requirements, _bytes(folder) - bytes_before)
    atomic_write(folder / DONE, json.dumps(to_data(installation)) + "\n")
    return installation


def command(peer: Peer, folder: Path, job: Path) -> list[str]:
    """Return the command that runs a job in the environment of a package.

    Args:
        peer: The package.
        folder: Folder of its environment.
        job: The file of the job, see worker.py.
    """
    here = Path(__file__).parent
    if peer.registry == "npm":
        return ["node", str(here / "worker.mjs"), str(job)]
    return [str(folder / "bin" / "python"), str(here / "worker.py"), str(job)]


def _run(words: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    except FileNotFoundError as error:
        raise PeerError(f"the command {words[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise PeerError(f"the installation took more than {INSTALL_SECONDS} s") from error
    if done.returncode:
        lines = [line.strip(" \N{MULTIPLICATION SIGN}") for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if re.search("error|fail|no ", line, re.IGNORECASE)]  # the last line can be a hint
        raise PeerError(f"the installation failed: {(errors or lines or [f'exit status {done.returncode}'])[0]}")


def _bytes(folder: Path) -> int:
    """Return the size of all files of an environment, bytes, without compiled bytecode and the interpreter outside it."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files if path.parent.name != "__pycache__")
