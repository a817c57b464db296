"""fer-edge train: networks, data and recipe in; one run folder per network, seed and fold out."""

import sys
from pathlib import Path
from typing import Any

import click

from fer_edge.console import ConsoleReporter, FiniteRange, friendly_errors
from fer_edge.option_groups import cluster_options, dataset_options, examples


@click.command(
    epilog=examples(
        "fer-edge train cnn_nano --data synthetic --epochs 5",
        "fer-edge train mobilenet_v2 --data ck48.zip --protocol subject --folds 10 --weights imagenet",
    )
)
@click.argument("networks", nargs=-1, required=True, metavar="NETWORK...|all")
@click.option("--data", required=True, help="Labeled faces: a folder, zip or csv file, or synthetic.")
@click.option("--recipe", default="edge", show_default=True, help="paper (as published), edge (ours) or camera.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Change a setting of the recipe. Repeatable.")
@click.option(
    "--vary", multiple=True, metavar="NAME=VALUE,VALUE", help="Train with each value of a setting. Several: all combinations."
)
@click.option("--protocol", default="auto", show_default=True, help="paper, subject, official or auto.")
@click.option("--folds", type=int, help="Number of folds of the protocol subject. All of them are trained.")
@click.option("--fold", type=int, help="Train only this fold, from 0.")
@click.option(
    "--weights",
    multiple=True,
    metavar="[NETWORK=]SOURCE",
    help="Initial weights: auto (default), imagenet, none, a file, a run folder or a bundled model; of one network or all.",
)
@click.option(
    "--teacher",
    "teachers",
    multiple=True,
    metavar="RUN|MODEL",
    help="Learn the probabilities of a run, a .tflite file or a bundled model too. Of several teachers, their mean.",
)
@click.option(
    "--teacher-views",
    default="clean",
    show_default=True,
    metavar="same|N|clean",
    help="The teachers see the faces that the network sees, N stored views of each face, or clean faces.",
)
@click.option("--ferplus", metavar="FILE", help="FER+ table: its eight classes and its votes replace the labels of FER2013.")
@click.option("--image-size", type=int, help="Side of the input, pixels  [default: the network's]")
@click.option("--epochs", type=int, help="Number of epochs  [default: the recipe's]")
@click.option("--minutes", type=FiniteRange(min=0, min_open=True), help="Train as many epochs as fit, instead of --epochs.")
@click.option(
    "--seed", "seeds", default="0", show_default=True, help="Seed of split, weights, order and augmentation; or 0,1,2."
)
@click.option("--precision", default="auto", show_default=True, help="auto, float32 or mixed_bfloat16.")
@dataset_options
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Folder for the runs.")
@click.option("--resume", is_flag=True, help="Continue stopped runs; skip finished ones.")
@click.option(
    "--stop-after", type=FiniteRange(min=0), metavar="SECONDS", help="Stop with a checkpoint; --resume continues from it."
)
@click.option(
    "--devices", type=click.IntRange(min=1), default=1, show_default=True, help="GPUs that share each batch of a run."
)
@cluster_options
@friendly_errors
def command(networks: tuple[str, ...], data: str, seeds: str, **options: Any) -> None:
    """Train networks on labeled faces.

    NETWORK is cnn, vgg16, inception_v3, mobilenet_v2, densenet121, cnn_nano or all (the five networks of the comparison).
    For a face detector, see: fer-edge train detector --help.
    """
    from fer_edge.train.series import TrainOptions, train

    chosen = TrainOptions(seeds=_seeds(seeds), **options)
    train(networks, data, chosen, command=("fer-edge", *sys.argv[1:]), reporter=ConsoleReporter())


def _seeds(text: str) -> list[int]:
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(f"--seed takes whole numbers, for example 0 or 0,1,2. Received: '{text}'") from error
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"--seed takes each number once. Received: '{text}'")
    return seeds
