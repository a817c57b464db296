"""Shared parts of the commands: errors without tracebacks, notes, progress bars."""

import functools
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import click

from fer_edge.artifacts.debug import is_debugging
from fer_edge.artifacts.printable import printable, printable_lines
from fer_edge.artifacts.reporter import Progress, Reporter
from fer_edge.option_groups import option_group
from fer_edge.stop_signals import unwind_on_signals

Command = TypeVar("Command", bound=Callable[..., Any])
# The smallest extra that installs a module.
EXTRA_BY_MODULE = {"sklearn": "bench", "matplotlib": "bench", "bokeh": "bench", "jinja2": "bench"}
ALL_EXTRAS = "train,convert,bench"  # of any other module


def friendly_errors(command: Command) -> Command:
    """Turn the library's errors into ``Error: ...`` and exit status 1; FER_EDGE_DEBUG=1 shows the traceback.

    SIGTERM and SIGHUP leave no temporary file and no child process.
    """

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            with unwind_on_signals():
                return command(*args, **kwargs)
        except (ValueError, TypeError, OSError, RuntimeError, ImportError, MemoryError) as error:
            # click's exits are RuntimeErrors too. A closed pipe (`| head`) is not an error.
            exits = (click.exceptions.Exit, click.exceptions.Abort, BrokenPipeError)
            if is_debugging() or isinstance(error, exits):
                raise
            message = str(error) or type(error).__name__
            if isinstance(error, ModuleNotFoundError):
                extras = EXTRA_BY_MODULE.get((error.name or "").partition(".")[0], ALL_EXTRAS)
                message += f". Install it: pip install 'fer-edge[{extras}]'. 'fer-edge doctor' lists the parts of each command"
            raise click.ClickException(printable_lines(message)) from error

    return wrapper  # type: ignore[return-value]


class FiniteRange(click.FloatRange):
    """A finite number within bounds. click's FloatRange accepts ``nan``, and ``inf`` without an upper bound."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Convert the text of an option to a number; fail as a usage error if it is not finite or out of bounds.

        Args:
            value: Text of the option, or its default.
            param: The option.
            ctx: click's context.

        Returns:
            The number.
        """
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


def gate_options(command: Command) -> Command:
    """Add the options max_accuracy_drop, max_recall_drop and min_agreement to a command: the limits of the gate."""
    limits = (
        ("--max-accuracy-drop", 1.0, "Largest drop in accuracy, percentage points."),
        ("--max-recall-drop", 5.0, "Largest drop in the recall of any class, percentage points."),
        ("--min-agreement", 97.0, "Smallest share of faces with the label of the Keras model, percent."),
    )
    for name, default, text in reversed(limits):
        command = option_group("Gate")(name, type=FiniteRange(0, 100), default=default, show_default=True, help=text)(command)
    return command


def echo(text: object, err: bool = False) -> None:
    """Print lines of text. Control characters, for example in the name of a file, are escaped.

    Args:
        text: The text, or an object to print as text.
        err: Print to standard error, not to standard output.
    """
    click.echo(printable_lines(str(text)), err=err)


def show_status(text: str) -> None:
    """Print a line to standard error. On a terminal it replaces the line before; an empty text ends the line."""
    if not sys.stderr.isatty():
        if text:
            echo(text, err=True)
    elif text:
        click.echo(f"\r\033[K{printable(text)}", err=True, nl=False)
    else:
        click.echo(err=True)


def note(text: str) -> None:
    """Print a note to standard error, separate from the results on standard output."""
    with suppress(OSError):  # whoever read standard error has ended; the run goes on
        echo(f"note: {text}", err=True)


def warn(text: str) -> None:
    """Print a warning to standard error."""
    with suppress(OSError):
        click.secho(f"warning: {printable_lines(text)}", err=True, fg="yellow")


@contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """Show a progress bar on standard error while the block runs, if standard error is a terminal.

    An installation with only the extra ``edge`` does not contain rich and shows no bars.

    Yields:
        A function of (done, total).
    """
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress
    except ImportError:
        yield lambda done, total: None
        return

    # A copy of the descriptor: the bar stays on the terminal while the converter's output goes to a log file.
    console = Console(file=os.fdopen(os.dup(2), "w"))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with RichProgress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(printable(title), total=None)

        def update(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield update


class ConsoleReporter(Reporter):
    """Prints the messages of a library function: results to standard output, everything else to standard error."""

    def note(self, text: str) -> None:
        """Print a note."""
        note(text)

    def warn(self, text: str) -> None:
        """Print a warning."""
        warn(text)

    def result(self, text: str) -> None:
        """Print a line of results."""
        echo(text)

    @contextmanager
    def progress(self, title: str) -> Iterator[Progress]:
        """Show a progress bar while the block runs. Yields a function of (done, total)."""
        with progress_bar(title) as update:
            yield update
