"""Help texts of commands: options under group titles, and examples at the end."""

import functools
from collections.abc import Callable
from typing import Any

import click


class GroupedOption(click.Option):
    """An option that the help lists under a group title.

    Args:
        args: Positional arguments of click.Option.
        group: The title, such as ``Outputs``.
        kwargs: Keyword arguments of click.Option.
    """

    def __init__(self, *args: Any, group: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.group = group


class GroupedCommand(click.Command):
    """A command whose help lists its options by group. Options without a group come under ``Options``."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section per group, in the order in which the groups first appear.

        Args:
            ctx: The context of the command.
            formatter: Receives the text.
        """
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                groups.setdefault(getattr(parameter, "group", "Options"), []).append(record)
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)


def option_group(title: str) -> Callable[..., Any]:
    """Return a replacement for ``click.option`` whose options appear under ``title``.

    output_option = option_group("Outputs")

    @click.command(cls=GroupedCommand)
    @output_option("--csv", is_flag=True, help="One CSV row per face.")
    """
    return functools.partial(click.option, cls=GroupedOption, group=title)


def dataset_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options label_map, faces and detector to a command that reads a dataset."""
    for name, text in (
        ("--detector", "Finds the faces in photos: auto (own), own, haar, blazeface, yunet, or an .onnx or .tflite file."),
        ("--faces", "What the images show: crops (of a face each), photos (faces are cut out of them) or auto."),
    ):
        command = click.option(name, default="auto", show_default=True, help=text)(command)
    text = "Rename a class of the data; CLASS=- leaves it out."
    return click.option("--map", "label_map", multiple=True, metavar="CLASS=LABEL", help=text)(command)


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options on, cpus_per_run, gpus_per_run and checkpoint_seconds to a command that trains on a cluster."""
    text = "Minimum time between two checkpoints of a run  [default: 0]"
    command = click.option("--checkpoint-seconds", type=float, default=0.0, metavar="SECONDS", help=text)(command)
    for name, kind, metavar, text in (
        ("--gpus-per-run", float, "NUMBER", "GPUs of each run with --on, also a fraction  [default: 1 if there are GPUs]"),
        ("--cpus-per-run", int, "NUMBER", "CPUs of each run with --on  [default: an equal share]"),
        ("--on", str, "ray[://HOST:PORT]", "Train the runs in parallel with Ray: on this machine or on a cluster."),
    ):
        command = click.option(name, type=kind, metavar=metavar, help=text)(command)
    return command


def examples(*lines: str) -> str:
    """Return the epilog of a command: its examples, one per line. click does not rewrap it."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
