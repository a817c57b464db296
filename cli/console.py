"""What the commands share: errors without tracebacks, progress bars, notes."""

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])
Progress = Callable[[int, int], None]
DEBUG_VARIABLE = "FER_EDGE_DEBUG"


def friendly_errors(command: Command) -> Command:
    """Turn the library's errors into ``Error: ...`` and exit code 1; FER_EDGE_DEBUG=1 shows the traceback."""

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        # TensorFlow's start-up lines say nothing about the user's model.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        try:
            return command(*args, **kwargs)
        except (ValueError, TypeError, OSError, RuntimeError, ImportError, MemoryError) as error:
            # click's own errors and exits are RuntimeErrors too, and know what they do.
            if os.environ.get(DEBUG_VARIABLE) or isinstance(error, (click.exceptions.Exit, click.exceptions.Abort)):
                raise
            raise click.ClickException(str(error) or type(error).__name__) from error

    return wrapper  # type: ignore[return-value]


def note(text: str) -> None:
    """Print a line the user should read to standard error, apart from results."""
    click.echo(f"note: {text}", err=True)


def warn(text: str) -> None:
    """Print a warning to standard error."""
    click.secho(f"warning: {text}", err=True, fg="yellow")


@contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """Show a progress bar on standard error while the block runs; nothing where that is no terminal.

    Yields:
        A function of (done, total).
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with RichProgress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=None)

        def update(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield update
