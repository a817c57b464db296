"""Environments of tools whose packages conflict with those of fer-edge: one folder per tool in the user's cache folder."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from fer_edge.artifacts.atomic_write import atomic_write
from fer_edge.artifacts.user_folders import user_cache_folder

COMPLETE = "installed.json"  # in the folder of a complete environment: the requirements it was made with
INSTALL_SECONDS = 3600
FAILURE = re.compile("error|fail|no ", re.IGNORECASE)  # the last line of an installer can be a hint


@dataclass(frozen=True)
class ToolEnvironment:
    """The packages of one tool.

    Attributes:
        name: Its name, for ``fer-edge doctor --install``.
        title: Full name.
        registry: ``PyPI`` or ``npm``.
        requirements: The packages, with pinned versions.
        no_dependencies: PyPI: further packages, installed without their dependencies.
        pythons: PyPI: the Python versions that the packages support; empty for any.
        install_mb: Size of the installation, megabytes.
        programs: Further programs that it needs, and how to install each.
    """

    name: str
    title: str
    registry: str
    requirements: tuple[str, ...]
    install_mb: int
    no_dependencies: tuple[str, ...] = ()
    pythons: tuple[str, ...] = ()
    programs: tuple[tuple[str, str], ...] = ()

    @property
    def folder(self) -> Path:
        """Return the folder of the environment, which may not exist.

        Raises:
            RuntimeError: If the user has no home folder.
        """
        return user_cache_folder() / "tools" / self.name

    @property
    def python(self) -> Path:
        """Return the Python of the environment, which may not exist."""
        return self.folder / "bin" / "python"

    def is_installed(self) -> bool:
        """Return whether the environment is complete and has these versions."""
        try:
            return bool(json.loads((self.folder / COMPLETE).read_text()) == self._contents())
        except (OSError, ValueError, RuntimeError):
            return False

    def install(self) -> Path:
        """Install the packages, unless they are there already. An incomplete environment is deleted first.

        Returns:
            The folder.

        Raises:
            RuntimeError: If a program is missing, or the installation fails.
        """
        if self.is_installed():
            return self.folder
        self.check_programs()
        shutil.rmtree(self.folder, ignore_errors=True)
        try:
            self._install_packages()
        except BaseException:  # also after Ctrl-C: some environments have gigabytes
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        return self.folder

    def check_programs(self) -> None:
        """Check that the programs are installed.

        Raises:
            RuntimeError: If one is not.
        """
        for name, remedy in self.programs:
            _program(name, remedy)

    def _install_packages(self) -> None:
        self.folder.mkdir(parents=True)
        if self.registry == "npm":
            npm = [_program("npm", "apt install npm"), "install", "--ignore-scripts", "--no-audit", "--no-fund"]
            self._run([*npm, *self.requirements])
        else:
            self._run([self._base_python(), "-m", "venv", "."])
            pip = [str(self.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            self._run([*pip, *self.requirements])
            if self.no_dependencies:
                self._run([*pip, "--no-deps", *self.no_dependencies])
        atomic_write(self.folder / COMPLETE, json.dumps(self._contents()))

    def _contents(self) -> list[str]:
        return [*self.requirements, *self.no_dependencies]

    def _base_python(self) -> str:
        """Return a Python that the packages support."""
        here = f"{sys.version_info.major}.{sys.version_info.minor}"
        if not self.pythons or here in self.pythons:
            return sys.executable
        found = next(filter(None, (shutil.which(f"python{version}") for version in self.pythons)), None)
        if found is None:
            raise RuntimeError(
                f"{self.name} needs Python {' or '.join(self.pythons)}; this is {here}, and no other is installed. Install "
                f"one, for example: apt install python{self.pythons[0]}-venv"
            )
        return found

    def _run(self, words: list[str]) -> None:
        try:
            done = subprocess.run(words, cwd=self.folder, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"the installation of {self.name} took more than {INSTALL_SECONDS} s") from error
        if done.returncode:
            lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
            errors = [line for line in lines if FAILURE.search(line) and "warn" not in line.lower()]
            reason = (errors or lines or [f"exit status {done.returncode}"])[0]
            raise RuntimeError(f"{self.name} cannot be installed: {reason}. It needs internet access and {self.install_mb} MB")


def _program(name: str, remedy: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise RuntimeError(f"the program {name} is not installed. Install it: {remedy}")
    return found
