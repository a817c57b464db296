"""The fer-edge command. Each sub-command lives in its own module and is imported when it is called."""

import importlib

import click

from fer_edge import __version__

COMMANDS = {
    "train": "Train one, several or all networks.",
    "evaluate": "Measure a run or a .tflite file on a dataset.",
    "convert": "Turn a run into .tflite files, each right or refused.",
    "verify": "Measure a .tflite file against the run it was made from.",
    "run": "Find and label faces: cameras, streams, pictures, folders, videos.",
    "bench": "Compare models: accuracy, latency, size, memory.",
    "report": "Make the published tables again, with ours beside them, and model cards.",
    "info": "Print the contract inside a .tflite file.",
    "doctor": "Say what is installed, what is missing and how to get it.",
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for, so that --help stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in pipeline order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command, None where there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"fer_edge.commands.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fer-edge")
def main() -> None:
    """Facial-expression recognition for Raspberry Pi and phones: train, convert, run, compare."""
