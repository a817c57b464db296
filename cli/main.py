"""The fer-edge command. Each sub-command has a module of its own in commands/, imported when it is called."""

import click

from fer_edge import __version__
from fer_edge.lazy_group import LazyGroup
from fer_edge.option_groups import examples

COMMANDS = {
    "train": "Train one or more networks.",
    "evaluate": "Measure the accuracy of runs and .tflite files.",
    "convert": "Convert a run to .tflite files and check each of them.",
    "verify": "Compare a .tflite file with the run it was converted from.",
    "run": "Find and label faces in cameras, streams, images, folders and videos.",
    "personalize": "Adapt a model to one person and their camera.",
    "bench": "Compare models: accuracy, latency, size, memory.",
    "parity": "Compare the outputs of a model in the runtimes of apps.",
    "reproduce": "Reproduce the published comparison from the data.",
    "info": "Print the contract of a .tflite file.",
    "export": "Export a web page that labels faces on a phone.",
    "serve": "Serve an exported web page.",
    "deploy": "Install fer-edge and a model on a board over ssh, and run them as a service.",
    "doctor": "Check the installation and show how to fix it.",
}


@click.group(
    cls=LazyGroup,
    package="fer_edge.commands",
    summaries=COMMANDS,
    hidden=("dev", "train detector", "convert detector"),
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples("fer-edge run photo.jpg", "fer-edge train mobilenet_v2 --data fer2013.zip"),
)
@click.version_option(__version__, prog_name="fer-edge")
def main() -> None:
    """Facial-expression recognition for a Raspberry Pi or a PC: train, convert, run, compare."""
