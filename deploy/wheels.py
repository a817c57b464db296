"""The wheels for a board: fer-edge, packed from this installation, and the packages it needs, downloaded for the board."""

import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.parser import HeaderParser
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

from fer_edge.artifacts.atomic_write import atomic_write
from fer_edge.artifacts.file_digest import file_digest
from fer_edge.artifacts.user_folders import user_cache_folder

PACKAGES = ("artifacts", "train", "convert", "edge_runtime", "benchmarks", "deploy", "models", "web")
DATA_SUFFIXES = (".py", ".html", ".typed", ".tflite", ".json", ".js", ".css", ".svg", ".png", ".txt", ".wasm", ".webmanifest")
WEB_DATA = ("__init__.py", "page")  # a source checkout has the tools and tests of the page too
MAX_MODEL_BYTES = 3_000_000  # the models in the package; a source checkout has large ones too
ZIP_TIME = (2020, 1, 1, 0, 0, 0)  # the same wheel each time, so that it is sent once
PIP = "pip>=24"
MAX_CACHE_AGE_S = 7 * 86400
DOWNLOAD_TIMEOUT_S = 1800
MIN_GLIBC_MINOR = {"aarch64": 17, "x86_64": 5}  # the oldest tag of each machine
MODULE_OF_EXTRA = {"serve": "aiohttp", "mqtt": "paho.mqtt.client", "metrics": "prometheus_client"}


@dataclass(frozen=True)
class Target:
    """What wheels must fit.

    Attributes:
        python: Major and minor version of the board's Python.
        machine: aarch64 or x86_64.
        glibc: Major and minor version of its C library.
        extras: Extras of fer-edge to install, ``edge`` first.
        numpy_1: Whether the board's picamera2 needs numpy below 2.
    """

    python: tuple[int, int]
    machine: str
    glibc: tuple[int, int]
    extras: tuple[str, ...] = ("edge",)
    numpy_1: bool = False

    def markers(self) -> dict[str, str]:
        """Return the environment markers of the board."""
        version = f"{self.python[0]}.{self.python[1]}"
        return {
            "python_version": version,
            "python_full_version": f"{version}.0",
            "implementation_name": "cpython",
            "implementation_version": f"{version}.0",
            "platform_python_implementation": "CPython",
            "platform_machine": self.machine,
            "platform_system": "Linux",
            "platform_release": "",
            "platform_version": "",
            "sys_platform": "linux",
            "os_name": "posix",
        }

    def pip_options(self) -> list[str]:
        """Return the options with which ``pip download`` chooses wheels for the board."""
        digits = f"{self.python[0]}{self.python[1]}"
        oldest = MIN_GLIBC_MINOR[self.machine]
        platforms = [f"manylinux_{self.glibc[0]}_{minor}_{self.machine}" for minor in range(self.glibc[1], oldest - 1, -1)]
        old = ["manylinux2014", *(["manylinux2010", "manylinux1"] if self.machine == "x86_64" else [])]
        platforms += [f"{name}_{self.machine}" for name in old]
        options = ["--only-binary=:all:", "--python-version", f"{self.python[0]}.{self.python[1]}", "--implementation", "cp"]
        options += [word for abi in (f"cp{digits}", "abi3", "none") for word in ("--abi", abi)]
        return options + [word for platform in platforms for word in ("--platform", platform)]


def pack_fer_edge(folder: Path) -> Path:
    """Write the wheel of fer-edge as it is installed here. The same code gives the same bytes.

    Args:
        folder: Folder for the wheel.

    Raises:
        OSError: If the metadata of the installation is missing.
    """
    try:
        installed = distribution("fer-edge")
    except PackageNotFoundError as error:
        raise OSError(
            "fer-edge is not installed here: pip install 'fer-edge[edge]', or pip install -e . in a checkout"
        ) from error
    name = f"fer_edge-{installed.version}"
    info = f"{name}.dist-info"
    entries = dict(_package_files())
    entries[f"{info}/METADATA"] = (installed.read_text("METADATA") or installed.read_text("PKG-INFO") or "").encode()
    entries[f"{info}/entry_points.txt"] = (installed.read_text("entry_points.txt") or "").encode()
    entries[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: fer-edge\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = "".join(f"{path},sha256={_record_digest(data)},{len(data)}\n" for path, data in entries.items())
    entries[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, data in entries.items():
            wheel.writestr(zipfile.ZipInfo(path, ZIP_TIME), data, zipfile.ZIP_DEFLATED)
    wheel_path = folder / f"{name}-py3-none-any.whl"
    atomic_write(wheel_path, content.getvalue())
    return wheel_path


def _package_files() -> Iterator[tuple[str, bytes]]:
    """Yield the path in the wheel and the content of each file of the package."""
    for name in ("", *PACKAGES):
        package = f"fer_edge.{name}" if name else "fer_edge"
        spec = find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise FileNotFoundError(
                f"the installation of fer-edge lacks the package {package}. Install fer-edge again: pip install '.[edge]', or "
                "pip install -e . in a checkout"
            )
        folder = Path(spec.submodule_search_locations[0])
        for path in sorted(folder.rglob("*")):
            inside = path.relative_to(folder)
            # Below the root package, the other packages follow on their own.
            skipped = "__pycache__" in inside.parts or (not name and inside.parts[0] in PACKAGES)
            skipped |= name == "web" and inside.parts[0] not in WEB_DATA
            if skipped or path.suffix not in DATA_SUFFIXES or not path.is_file():
                continue
            if path.suffix != ".tflite" or path.stat().st_size <= MAX_MODEL_BYTES:
                yield str(Path("fer_edge", name, inside)), path.read_bytes()


def _record_digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def find_wheels(target: Target, own: Path, folder: Path | None = None) -> tuple[list[Path], str | None]:
    """Return the wheels that a board needs, fer-edge's own first.

    Args:
        target: The board.
        own: The wheel of fer-edge.
        folder: A folder that has the wheels; None downloads them with pip into the user's cache, or takes them from there.

    Returns:
        The wheels, and a warning if the cache is old and could not be renewed.

    Raises:
        FileNotFoundError: If ``folder`` lacks a package.
        OSError: If pip cannot download the wheels.
    """
    if folder is not None:
        return [own, *_from_folder(target, own, folder)], None
    key = json.dumps([target.python, target.machine, target.glibc, target.extras, target.numpy_1, _requires(own)])
    cache = user_cache_folder() / "wheels" / hashlib.sha256(key.encode()).hexdigest()[:16]
    listing = cache / "wheels.json"
    if listing.is_file() and time.time() - listing.stat().st_mtime < MAX_CACHE_AGE_S and (wheels := _cached(listing)):
        return [own, *wheels], None
    try:
        return [own, *_download(target, own, cache)], None
    except OSError as error:
        if listing.is_file() and (wheels := _cached(listing)):
            return [own, *wheels], f"the wheels for the board are older than a week and cannot be renewed: {error}"
        raise


def _cached(listing: Path) -> list[Path]:
    """Return the wheels of a cache, nothing if one is missing or damaged."""
    try:
        digests = json.loads(listing.read_text())
        wheels = [listing.parent / name for name in digests]
        return wheels if all(file_digest(wheel) == digests[wheel.name] for wheel in wheels) else []
    except (OSError, ValueError):
        return []


def _download(target: Target, own: Path, cache: Path) -> list[Path]:
    cache.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=cache.parent) as text:
        temporary = Path(text)
        wanted = [f"{own}[{','.join(target.extras)}]", PIP]
        # pip evaluates markers for this machine's Python. What the board needs in addition is asked for by name.
        wheels: list[Path] = []
        missing = wanted
        while missing:
            _run_pip(target, wanted, temporary)
            wheels, missing = _closure(target, own, temporary)
            if set(missing) & set(wanted):
                raise OSError(f"pip does not download {', '.join(missing)} for the board")
            wanted += missing
        wheels += sorted(temporary.glob("pip-*.whl"))[-1:]
        atomic_write(temporary / "wheels.json", json.dumps({path.name: file_digest(path) for path in sorted(wheels)}, indent=1))
        for path in temporary.glob("*.whl"):  # fer-edge's own, and what only this machine's Python needs
            if path not in wheels:
                path.unlink()
        if cache.exists():
            shutil.rmtree(cache)
        temporary.rename(cache)
        temporary.mkdir()  # removed by the context manager
    return sorted(cache / path.name for path in wheels)


def _run_pip(target: Target, wanted: Sequence[str], folder: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
        "-d",
        str(folder),
    ]
    constraint = ["numpy<2"] if target.numpy_1 else []
    try:
        done = subprocess.run(
            [*command, *target.pip_options(), *wanted, *constraint], capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise OSError(f"pip has not downloaded the wheels within {DOWNLOAD_TIMEOUT_S} s") from error
    if done.returncode:
        reason = done.stderr.strip().splitlines()
        raise OSError(
            f"pip cannot download the wheels for the board ({reason[-1] if reason else done.returncode}). Without internet "
            "access, download them elsewhere and pass --wheels FOLDER"
        )


def _requires(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = HeaderParser().parsestr(archive.read(name).decode(errors="replace"))
    return metadata.get_all("Requires-Dist") or []


def _closure(target: Target, own: Path, folder: Path) -> tuple[list[Path], list[str]]:
    """Follow the requirements from fer-edge on. Returns the wheels that are needed, and the requirements that are missing."""
    # pip carries its own copy of packaging; fer-edge does not depend on the package.
    from pip._vendor.packaging.requirements import Requirement

    available = {_normal(path.name.split("-")[0]): path for path in sorted(folder.glob("*.whl")) if path.name != own.name}
    found: dict[Path, None] = {}
    missing: dict[str, None] = {}
    pending = [(own, frozenset(target.extras))]
    visited = set(pending)
    while pending:
        wheel, extras = pending.pop()
        for text in _requires(wheel):
            requirement = Requirement(text)
            markers = target.markers()
            if requirement.marker and not any(requirement.marker.evaluate({**markers, "extra": e}) for e in {"", *extras}):
                continue
            name = _normal(requirement.name)
            if name == "fer-edge":
                entry = (own, frozenset(requirement.extras))
            elif name in available:
                found[available[name]] = None
                entry = (available[name], frozenset(requirement.extras))
            else:
                missing[f"{requirement.name}{requirement.specifier}"] = None
                continue
            if entry not in visited:
                visited.add(entry)
                pending.append(entry)
    return list(found), list(missing)


def _from_folder(target: Target, own: Path, folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder '{folder}'. --wheels takes a folder of wheels for the board")
    wheels, missing = _closure(target, own, folder)
    pip = sorted(folder.glob("pip-*.whl"))
    missing += [] if pip else [PIP]
    if missing:
        words = " ".join([*target.pip_options(), *(f"'{requirement}'" for requirement in missing)])
        raise FileNotFoundError(
            f"'{folder}' has no wheel for {', '.join(missing)}. Download: pip download -d '{folder}' {words}"
        )
    return sorted([*wheels, pip[-1]])


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
