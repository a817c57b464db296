"""A list of trainings, run one after the other: one ``fer-edge train`` command per line of a file."""

import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from fer_edge.artifacts.reporter import Reporter
from fer_edge.commands.train import command as train_command

TRAIN = (sys.executable, "-c", "from fer_edge.main import main; main()", "train")


@dataclass(frozen=True)
class Training:
    """One training of a list.

    Attributes:
        line: Number of its line, from 1.
        arguments: Its arguments after ``fer-edge train``.
    """

    line: int
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        return f"line {self.line}: fer-edge train {shlex.join(self.arguments)}"


def read_trainings(path: Path) -> list[Training]:
    """Read a list and check the options of each training.

    Args:
        path: Text file: a command per line; empty lines and what follows ``#`` are ignored, a backslash at the end continues a
            line.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it has no training, or a line is something else or has wrong options.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no list of trainings '{path}'. Write one fer-edge train command per line")
    trainings, text = [], ""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        text += line
        if text.endswith("\\"):
            text = text[:-1]
            continue
        words = _words(text, f"line {number} of {path}")
        text = ""
        if words:
            trainings.append(Training(number, words))
    if not trainings:
        raise ValueError(f"{path} has no training. Write one fer-edge train command per line")
    return trainings


def _words(text: str, where: str) -> tuple[str, ...]:
    try:
        words = shlex.split(text, comments=True)
        if not words:
            return ()
        if words[:2] != ["fer-edge", "train"]:
            raise ValueError("it does not start with 'fer-edge train'")
        context = train_command.make_context("train", words[2:])
    except (ValueError, click.UsageError) as error:
        reason = error.format_message() if isinstance(error, click.UsageError) else str(error)
        raise ValueError(f"{where} is not a training: {reason}. Received: {text.strip()[:200]!a}") from error
    context.close()
    return tuple(words[2:])


def run_trainings(trainings: Sequence[Training], stop_after: float | None, reporter: Reporter) -> None:
    """Run trainings one after the other, each in a process. Finished runs are skipped, stopped ones continue.

    A training that fails does not prevent the next ones.

    Args:
        trainings: The list.
        stop_after: Seconds after which the trainings stop with a checkpoint; None for no limit.
        reporter: Receives a line per training.

    Raises:
        RuntimeError: If a training failed, or the time was up.
    """
    started = time.monotonic()
    failed: list[Training] = []
    for number, training in enumerate(trainings, start=1):
        limit = []
        if stop_after is not None:
            left_s = stop_after - (time.monotonic() - started)
            if left_s <= 0:
                raise RuntimeError(_not_finished(f"time is up before {training}", failed))
            limit = ["--stop-after", f"{left_s:.0f}"]
        reporter.result(f"[{number}/{len(trainings)}] {training}")
        done = subprocess.run([*TRAIN, *training.arguments, "--resume", *limit], check=False)
        if done.returncode and stop_after is not None and time.monotonic() - started >= stop_after:
            raise RuntimeError(_not_finished(f"time is up during {training}", failed))
        if done.returncode:
            failed.append(training)
    if failed:
        raise RuntimeError(_not_finished(f"{len(failed)} of {len(trainings)} trainings failed", failed))


def _not_finished(what: str, failed: Sequence[Training]) -> str:
    lines = "".join(f"\n  failed: {training}" for training in failed)
    return f"{what}. Repeat the command to continue; finished runs are skipped{lines}"
