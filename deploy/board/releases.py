"""The releases on the board: one folder for each, and a link ``current`` that is switched after everything else.

~/fer-edge-deploy/
current -> releases/20261127-031500-1a2b3c4d
releases/20261127-031500-1a2b3c4d/   env, model.tflite, release.json, ...
wheels/                              of the kept releases, so that the next deployment sends new ones only
lock                                 held by a running deployment
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, BinaryIO

FOLDER = "fer-edge-deploy"
MANIFEST = "release.json"
CHUNK_BYTES = 1 << 18
PIP_TIMEOUT_S = 1500
RUN_TIMEOUT_S = 300


class BoardError(Exception):
    """A step on the board failed. The message names the problem and the remedy."""


class Releases:
    """The releases in one folder.

    Args:
        folder: The folder; None for ``fer-edge-deploy`` in the home folder.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or Path.home() / FOLDER
        self._wheels = self.folder / "wheels"
        self._current = self.folder / "current"
        self._lock: IO[str] | None = None

    def path(self, release: str) -> Path:
        """Return the folder of a release.

        Raises:
            BoardError: If the name would lead elsewhere.
        """
        if not release or "/" in release or release.startswith("."):
            raise BoardError(f"'{release}' is not the name of a release")
        return self.folder / "releases" / release

    def lock(self, owner: str) -> None:
        """Keep other deployments away until this process ends.

        Args:
            owner: Who deploys, for the error of another deployment.

        Raises:
            BoardError: If another deployment is running.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = (self.folder / "lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            holder = lock.read(200).strip() or "unknown"
            lock.close()
            raise BoardError(
                f"another deployment to this board is running ({holder}). Wait until it ends, then deploy again"
            ) from error
        lock.truncate(0)
        lock.write(owner)
        lock.flush()
        self._lock = lock
        for name in self._names():
            if self.manifest(name) is None:  # of a deployment that was interrupted
                self.discard(name)

    def state(self) -> dict[str, Any]:
        """Return the current release and the manifests of all complete ones, the oldest first."""
        manifests = [self.manifest(name) for name in self._names()]
        return {"current": self.current(), "releases": [manifest for manifest in manifests if manifest is not None]}

    def current(self) -> str | None:
        """Return the name of the current release, None if there is none."""
        try:
            return Path(os.readlink(str(self._current))).name  # noqa: PTH115 - Path.readlink() needs Python 3.9
        except OSError:
            return None

    def manifest(self, release: str) -> dict[str, Any] | None:
        """Return the manifest of a release, None if it is not complete."""
        try:
            manifest: dict[str, Any] = json.loads((self.path(release) / MANIFEST).read_text())
        except (OSError, ValueError):
            return None
        return manifest

    def wheel_bytes(self, wheels: dict[str, str]) -> dict[str, int]:
        """Return how many bytes of each wheel have arrived. A damaged wheel has none.

        Args:
            wheels: The sha256 of each file, by name.
        """
        return {name: self._arrived(name, digest) for name, digest in wheels.items()}

    def put_wheel(self, name: str, sha256: str, offset: int, size: int, source: BinaryIO) -> None:
        """Store a wheel. A part that has arrived stays if the connection is lost.

        Args:
            name: Name of the file.
            sha256: Its digest.
            offset: Number of bytes that have arrived before.
            size: Number of bytes that follow.
            source: Delivers them.

        Raises:
            BoardError: If the digest is wrong.
            EOFError: If the connection is lost.
            OSError: If the disk is full.
        """
        self._wheels.mkdir(parents=True, exist_ok=True)
        partial = self._wheels / f"{_plain(name)}.part"
        try:
            with partial.open("r+b" if offset else "wb") as file:
                file.truncate(offset)
                file.seek(offset)
                _copy(source, file, size)
                os.fsync(file.fileno())
        except OSError:  # the disk is full
            partial.unlink()
            raise
        if _sha256(partial) != sha256:
            partial.unlink()
            raise BoardError(f"'{name}' arrived damaged. Deploy again; if it happens again, check the disk of the board")
        partial.replace(self._wheels / name)

    def put_file(self, release: str, name: str, size: int, mode: int, source: BinaryIO) -> None:
        """Store a small file of a release.

        Args:
            release: Name of the release.
            name: Path in its folder.
            size: Number of bytes that follow.
            mode: Permissions.
            source: Delivers the bytes.
        """
        target = self.path(release) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(str(target), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as file:
            _copy(source, file, size)

    def keep_files(self, release: str, folder: str) -> list[str]:
        """Copy the files of a folder of the current release that the new release lacks.

        Args:
            release: Name of the new release.
            folder: Name of the folder, such as ``credentials``.

        Returns:
            The names of all files in the folder of the new release, sorted.
        """
        target = self.path(release) / folder
        current = self.current()
        source = self.path(current) / folder if current else target
        if source.is_dir() and source != target:
            target.mkdir(mode=0o700, exist_ok=True)
            for path in source.iterdir():
                if not (target / path.name).exists():
                    shutil.copy2(str(path), str(target))  # with its permissions
        return sorted(path.name for path in target.iterdir()) if target.is_dir() else []

    def install(self, release: str, wheels: dict[str, str], system_packages: bool) -> None:
        """Create the environment of a release from wheels that have arrived, without the network.

        Args:
            release: Name of the release.
            wheels: The sha256 of each wheel, by name. The wheel of pip installs the others.
            system_packages: Whether the environment sees the packages of the system, such as picamera2.

        Raises:
            BoardError: If pip fails.
        """
        import venv  # here: a board without this module must still be examined

        folder = self.path(release)
        environment = folder / "env"
        # Without pip: it would add 10 MB, and Debian has the module for it in a package of its own.
        venv.EnvBuilder(system_site_packages=system_packages, with_pip=False, symlinks=True).create(str(environment))
        pip = next(name for name in wheels if name.startswith("pip-"))
        lines = [f"{self._wheels / name} --hash=sha256:{digest}" for name, digest in wheels.items() if name != pip]
        requirements = folder / "requirements.txt"
        requirements.write_text("\n".join(lines) + "\n")
        options = ["--isolated", "--no-index", "--no-deps", "--ignore-installed", "--no-compile", "--require-hashes"]
        quiet = ["--quiet", "--no-input", "--disable-pip-version-check", "--no-cache-dir", "--no-warn-script-location"]
        command = [str(environment / "bin/python"), f"{self._wheels / pip}/pip", "install", *options, *quiet]
        _run([*command, "-r", str(requirements)], PIP_TIMEOUT_S, "pip cannot install the wheels")

    def self_test(self, release: str, arguments: list[str], modules: list[str]) -> dict[str, Any]:
        """Run a release on the known image.

        Args:
            release: Name of the release.
            arguments: Arguments of ``fer-edge run``. A path is relative to the folder of the release.
            modules: Modules that must be importable.

        Returns:
            ``model_sha256``, and the ``faces`` that the release found.

        Raises:
            BoardError: If the release does not run.
        """
        folder = self.path(release)
        python = str(folder / "env/bin/python")
        if modules:
            _run([python, "-c", f"import {', '.join(modules)}"], RUN_TIMEOUT_S, "a package cannot be imported", folder)
        program = str(folder / "env/bin/fer-edge")
        output = _run([program, "run", *arguments], RUN_TIMEOUT_S, "the self-test fails", folder)
        return {"model_sha256": _sha256(folder / "model.tflite"), "faces": json.loads(output)["faces"]}

    def complete(self, release: str, manifest: dict[str, Any]) -> None:
        """Mark a release as complete.

        Args:
            release: Name of the release.
            manifest: Its data.
        """
        target = self.path(release) / MANIFEST
        temporary = target.with_suffix(".new")
        with temporary.open("w") as file:
            json.dump(manifest, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        os.sync()

    def switch(self, release: str) -> None:
        """Make a complete release the current one, and remove all but it and the one before.

        Args:
            release: Name of the release.
        """
        before = self.current()
        temporary = self.folder / "current.new"
        if temporary.is_symlink():
            temporary.unlink()
        temporary.symlink_to(Path("releases", release))
        temporary.replace(self._current)
        others = [name for name in self._names() if name != release]
        kept = [before] if before in others else others[-1:]
        for name in others:
            if name not in kept:
                self.discard(name)
        self._remove_old_wheels()

    def discard(self, release: str) -> None:
        """Remove a release that is not the current one."""
        if release != self.current():
            shutil.rmtree(str(self.path(release)), ignore_errors=True)

    def remove_all(self) -> None:
        """Remove everything that deployments have created in the folder."""
        for path in (self._current, self.folder / "lock"):
            if path.is_symlink() or path.exists():
                path.unlink()
        for name in ("releases", "wheels"):
            shutil.rmtree(str(self.folder / name), ignore_errors=True)
        with suppress(OSError):  # the user keeps files there
            self.folder.rmdir()

    def _names(self) -> list[str]:
        folder = self.folder / "releases"
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def _arrived(self, name: str, digest: str) -> int:
        path = self._wheels / _plain(name)
        if path.is_file():
            if _sha256(path) == digest:
                return path.stat().st_size
            path.unlink()
        partial = path.with_name(f"{name}.part")
        return partial.stat().st_size if partial.is_file() else 0

    def _remove_old_wheels(self) -> None:
        needed = {name for manifest in self.state()["releases"] for name in manifest["wheels"]}
        for path in self._wheels.iterdir() if self._wheels.is_dir() else []:
            if path.name not in needed:
                path.unlink()


def _plain(name: str) -> str:
    if "/" in name or name.startswith("."):
        raise BoardError(f"'{name}' is not the name of a wheel")
    return name


def _copy(source: BinaryIO, target: BinaryIO, size: int) -> None:
    while size:
        chunk = source.read(min(size, CHUNK_BYTES))
        if not chunk:
            raise EOFError("the connection was lost")
        target.write(chunk)
        size -= len(chunk)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(CHUNK_BYTES), b""):
            digest.update(chunk)
    return digest.hexdigest()


def _run(command: list[str], timeout_s: float, problem: str, folder: Path | None = None) -> str:
    """Run a program and return its standard output."""
    # The user's own settings must not decide whether a deployment works.
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PIP_", "FER_EDGE"))}
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            cwd=None if folder is None else str(folder),
            env=environment,
        )
    except subprocess.TimeoutExpired as error:
        raise BoardError(f"{problem}: no result after {timeout_s:.0f} s") from error
    if done.returncode:
        text = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise BoardError(f"{problem}: {text[-2000:] or f'exit status {done.returncode}'}")
    return done.stdout.decode(errors="replace")
