"""A click group that imports a command when it is called and suggests one for an unknown name."""

import difflib
import importlib
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from fer_edge.artifacts.printable import printable_lines
from fer_edge.standard_streams import open_standard_streams

SYNONYMS = {
    "predict": "run",
    "classify": "run",
    "detect": "run",
    "benchmark": "bench",
    "compare": "bench",
    "quantize": "convert",
    "fit": "train",
    "eval": "evaluate",
    "test": "evaluate",
    "show": "info",
    "check": "doctor",
}


class LazyGroup(click.Group):
    """A group whose commands are modules of one package, each with a ``command``. ``--help`` imports none of them."""

    def __init__(self, *args: Any, package: str, summaries: Mapping[str, str], hidden: Collection[str] = (), **options: Any):
        """Keep the commands by name.

        Args:
            *args: Passed on to click.Group.
            package: Package of the modules; the module of ``draw-face`` is ``draw_face``.
            summaries: The line of help of each command, by its name, in the order of the help.
            hidden: Further commands, which the help does not list. A name may have two words, such as ``train detector``.
            **options: Passed on to click.Group.
        """
        super().__init__(*args, **options)
        self.package = package
        self.summaries = summaries
        self.hidden_commands = hidden

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        """Parse the arguments, as click does. Errors contain no control characters.

        Args:
            *arguments: As for click.Group.
            **options: As for click.Group.
        """
        with _printable_errors():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that the arguments name, as click does. Errors contain no control characters."""
        with _printable_errors():
            return super().invoke(ctx)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program. Standard streams that the caller has closed do not disturb it.

        Args:
            *args: Passed on to click.
            **kwargs: Passed on to click.
        """
        open_standard_streams()
        return super().main(*args, **kwargs)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the help."""
        return list(self.summaries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command.

        Args:
            ctx: click's context.
            cmd_name: Name of the command.

        Returns:
            The command, or None if there is no command of that name.
        """
        if cmd_name not in self.summaries and cmd_name not in self.hidden_commands:
            return None
        module = importlib.import_module(f"{self.package}.{re.sub('[- ]', '_', cmd_name)}")
        command: click.Command = module.command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the arguments name, as click does.

        Args:
            ctx: click's context.
            args: Arguments, the command's name first.

        Returns:
            The name, the command and the arguments after the name.

        Raises:
            click.UsageError: If there is no command of that name. The message suggests one.
        """
        two_words = " ".join(args[:2])
        if len(args) > 1 and two_words in self.hidden_commands:
            return two_words, self.get_command(ctx, two_words), args[2:]
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            suggested = self.suggest(args[0])
            remedy = f"Did you mean '{ctx.command_path} {suggested}'?" if suggested else f"See '{ctx.command_path} --help'."
            raise click.UsageError(f"unknown command '{args[0]}'. {remedy}", ctx)
        return super().resolve_command(ctx, args)

    def suggest(self, name: str) -> str | None:
        """Return the command that a user may have meant by an unknown name, None if none is close."""
        if SYNONYMS.get(name.lower()) in self.summaries:
            return SYNONYMS[name.lower()]
        if "info" in self.summaries and name.endswith(".tflite"):
            return f"info {name}"
        if "run" in self.summaries and _is_source(name):
            return f"run {name}"
        return next(iter(difflib.get_close_matches(name.lower(), self.summaries, n=1)), None)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them.

        Args:
            ctx: click's context.
            formatter: Receives the list.
        """
        with formatter.section("Commands"):
            formatter.write_dl(list(self.summaries.items()))


@contextmanager
def _printable_errors() -> Iterator[None]:
    """Escape control characters in errors: a file name can look like an option, and click prints it as it is."""
    try:
        yield
    except click.ClickException as error:
        vars(error)["message"] = printable_lines(error.message)
        raise


def _is_source(name: str) -> bool:
    """Return whether a word looks like an image, a video, a stream, or a file that exists."""
    from fer_edge.edge_runtime.file_types import IMAGE_SUFFIXES, VIDEO_SUFFIXES

    path = Path(name)
    return path.suffix.lower() in IMAGE_SUFFIXES + VIDEO_SUFFIXES or "://" in name or path.exists()
