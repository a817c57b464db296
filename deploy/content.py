"""What a release consists of."""

import hashlib
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fer_edge.artifacts.file_digest import file_digest
from fer_edge.deploy.check_board import Board
from fer_edge.deploy.known_image import DetectorFile

NETWORK_OPTIONS = ("--serve", "--mqtt", "--metrics")  # each needs the extra of its name
RESERVED_OPTIONS = ("--model", "--detector")
RUN_SCRIPT = """#!/bin/sh
# Runs this release with the arguments of its deployment, and those that follow.
exec {command} "$@"
"""


@dataclass(frozen=True)
class ReleaseContent:
    """What a release consists of.

    Attributes:
        board: The board.
        model: The model file.
        detector: The detector and its file.
        run: Arguments of ``fer-edge run`` without those for model and detector.
        wheels: The wheels, fer-edge's own first.
        known_image: The image of the self-test.
        version: Version of fer-edge.
    """

    board: Board
    model: Path
    detector: DetectorFile
    run: tuple[str, ...]
    wheels: tuple[Path, ...]
    known_image: Path
    version: str

    @cached_property
    def wheel_digests(self) -> dict[str, str]:
        """Return the sha256 of each wheel, by name."""
        return {path.name: file_digest(path) for path in self.wheels}

    @cached_property
    def model_sha256(self) -> str:
        """Return the sha256 of the model file."""
        return file_digest(self.model)

    @cached_property
    def digest(self) -> str:
        """Return a digest of everything that makes one release differ from another."""
        file = self.detector.file
        parts = [self.wheel_digests, self.model_sha256, self.detector.name, file_digest(file) if file else None, self.run]
        text = json.dumps([*parts, self.board.python, self.board.system_packages])
        return hashlib.sha256(text.encode()).hexdigest()

    def run_arguments(self, folder: str) -> list[str]:
        """Return the arguments of ``fer-edge run`` for a release in a folder; an empty text is the current folder."""
        detector = f"{folder}{self.detector.name}" if self.detector.is_path else self.detector.name
        return [*self.run, "--model", f"{folder}model.tflite", "--detector", detector]

    def run_script(self, folder: str) -> str:
        """Return a shell script that runs the release in a folder, an absolute path. Other paths are the caller's."""
        words = [f"{folder}/env/bin/fer-edge", "run", *self.run_arguments(f"{folder}/")]
        return RUN_SCRIPT.format(command=" ".join(map(shlex.quote, words)))


def check_arguments(arguments: Sequence[str]) -> None:
    """Check that arguments of ``fer-edge run`` contain no option that deploy sets.

    Raises:
        ValueError: If they do.
    """
    for word in arguments:
        option = word.split("=")[0]
        if option in RESERVED_OPTIONS:
            raise ValueError(f"pass {option} to deploy itself, not inside --run: fer-edge deploy HOST {option} ...")


def extras_of(arguments: Sequence[str]) -> tuple[str, ...]:
    """Return the extras of fer-edge that arguments of ``fer-edge run`` need."""
    options = {word.split("=")[0] for word in arguments}
    return ("edge", *(option[2:] for option in NETWORK_OPTIONS if option in options))


def uses_network(arguments: Sequence[str]) -> bool:
    """Return whether arguments of ``fer-edge run`` name a preview page, a broker or a stream."""
    return len(extras_of(arguments)) > 1 or any("://" in word for word in arguments)
