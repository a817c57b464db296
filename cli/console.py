"""What the commands share: errors without tracebacks, progress bars, notes."""

import functools
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])
Progress = Callable[[int, int], None]
DEBUG_VARIABLE = "FER_EDGE_DEBUG"
EXTRAS_OF = {"sklearn": "bench", "matplotlib": "bench"}  # the smallest that bring a module, where not the usual three
BACKENDS = ("tensorflow", "jax", "torch")


def friendly_errors(command: Command) -> Command:
    """Turn the library's errors into ``Error: ...`` and exit code 1; FER_EDGE_DEBUG=1 shows the traceback."""

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except (ValueError, TypeError, OSError, RuntimeError, ImportError, MemoryError) as error:
            # click's own exits are RuntimeErrors too, and a closed pipe (`| head`) is no failure of ours.
            own = (click.exceptions.Exit, click.exceptions.Abort, BrokenPipeError)
            if os.environ.get(DEBUG_VARIABLE) or isinstance(error, own):
                raise
            message = str(error) or type(error).__name__
            if isinstance(error, ModuleNotFoundError):
                extras = EXTRAS_OF.get((error.name or "").partition(".")[0], "train,convert,bench")
                message += f". Install it: pip install 'fer-edge[{extras}]'; fer-edge doctor tells what needs what"
            raise click.ClickException(message) from error

    return wrapper  # type: ignore[return-value]


class FiniteRange(click.FloatRange):
    """A number within bounds. click's own range lets ``nan`` pass every bound, and ``inf`` where there is no upper one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number; tell the user where it is none, or not within the bounds."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


def gate_options(command: Command) -> Command:
    """Give a command the options max_accuracy_drop, max_recall_drop and min_agreement: what a conversion may cost, percent."""
    bounds = (
        ("--max-accuracy-drop", 1.0, "Gate: percentage points."),
        ("--max-recall-drop", 5.0, "Gate: percentage points, of any class."),
        ("--min-agreement", 97.0, "Gate: percent of faces with Keras' label."),
    )
    for name, default, text in reversed(bounds):
        command = click.option(name, type=FiniteRange(0, 100), default=default, show_default=True, help=text)(command)
    return command


def note(text: str) -> None:
    """Print a line the user should read to standard error, apart from results."""
    click.echo(f"note: {text}", err=True)


def warn(text: str) -> None:
    """Print a warning to standard error."""
    click.secho(f"warning: {text}", err=True, fg="yellow")


def tell_skipped(skipped: Sequence[str], kept: int) -> None:
    """Count and name the pictures that a dataset could not use."""
    if skipped:
        warn(f"{len(skipped)} of {kept + len(skipped)} pictures skipped:")
        for reason in skipped:
            click.echo(f"  {reason}", err=True)


def tell_selection(model: Path, figures: Mapping[str, Any]) -> None:
    """Say beside an evaluation what flatters it and what it leaves out."""
    if figures["dropped"]:
        note(f"{model}: {figures['dropped']} faces have labels that the model does not know, and were left out")
    absent = [label for label, scores in figures["per_class"].items() if not scores["support"]]
    if absent:
        note(
            f"{model}: no face is of {', '.join(absent)}, which the model may answer all the same (fer-edge evaluate "
            "--shared-classes leaves out what the whole data lacks)"
        )
    if figures["warning"]:
        warn(f"{model}: {figures['warning']}")


def start_keras() -> None:
    """Import keras without its backend's start-up lines, which say nothing about the user's model.

    Raises:
        ImportError: If keras or its backend is not installed.
        ValueError: If KERAS_BACKEND names none that fer-edge trains with.
    """
    from fer_edge.edge_runtime.interpreter import suppress_stderr

    backend = os.environ.get("KERAS_BACKEND") or BACKENDS[0]
    if backend not in BACKENDS:
        raise ValueError(f"KERAS_BACKEND must be one of {', '.join(BACKENDS)}. Received: '{backend}'")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Off by default on CPUs without AVX-512; measured on an AMD EPYC (Zen 3): MobileNetV2 trains 1.5 times as fast with it.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    with suppress_stderr():
        try:
            import keras

            keras.random.uniform((1,))  # the first use of a device prints too
            logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns of graphs that conversion traces on purpose
        except ImportError as error:
            other = backend != BACKENDS[0] and error.name == backend  # not what an extra of ours brings
            remedy = f"pip install {backend}" if other else "pip install 'fer-edge[train,convert]'"
            raise ImportError(f"keras or its backend cannot be imported ({error}). Install them: {remedy}") from error


@contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """Show a progress bar on standard error while the block runs; nothing where that is no terminal.

    The light edge installation has no rich and shows no bars.

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

    # A descriptor of its own: the bar stays on the terminal while a converter's output is sent elsewhere.
    console = Console(file=os.fdopen(os.dup(2), "w"))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with RichProgress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=None)

        def update(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield update
