"""fer-edge dev: tools for working on fer-edge itself. The main help does not list this group."""

import click

from fer_edge.lazy_group import LazyGroup

COMMANDS = {
    "report": "Write the comparison page, the published tables and model cards.",
    "train-list": "Run a list of trainings one after the other.",
    "retrain": "Train a finished run again, on train and validation together.",
    "gpu-plan": "Run a list of trainings on a GPU machine without a network.",
    "search": "Search for the recipe settings of a network.",
    "pack": "Pack finished runs into small files.",
    "unpack": "Restore packed runs and measure them again.",
    "export-faces": "Write the faces of a dataset to one .npz file.",
    "soak": "Run the pipeline for long under faults and check its limits.",
    "label-stability": "Measure flicker and lag of labels.",
    "detection-benchmark": "Measure detectors on full images.",
    "detection-figure": "Draw scenes with the boxes of a detector.",
    "pipeline-benchmark": "Measure the speed and memory of fer-edge run.",
    "annotate": "Find the faces in images, to train a detector.",
    "overhead": "Measure the time that Classifier.predict adds to the interpreter.",
    "draw-face": "Draw an image with one synthetic face.",
    "screenshots": "Take the screenshots of the preview page for the documentation.",
}


@click.group(cls=LazyGroup, package="fer_edge.commands.dev", summaries=COMMANDS)
def command() -> None:
    """Tools for working on fer-edge itself. Their options may change at any time."""
