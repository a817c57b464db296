"""fer-edge dev search: search for the recipe settings of a network."""

from pathlib import Path

import click

from fer_edge.console import ConsoleReporter, echo, friendly_errors
from fer_edge.option_groups import examples


@click.command(
    epilog=examples(
        "fer-edge dev search cnn_nano synthetic --out search --trials 20",
        "fer-edge dev search cnn fer2013.zip --out search --trials 50 --epochs 10",
    )
)
@click.argument("network")
@click.argument("data")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the study; a later search continues it.")
@click.option("--trials", type=click.IntRange(1), default=20, show_default=True, help="Trials to run now.")
@click.option("--epochs", type=click.IntRange(1), help="Epochs per trial [default: those of the recipe]")
@friendly_errors
def command(network: str, data: str, out: Path, trials: int, epochs: int | None) -> None:
    """Search for the settings of NETWORK's edge recipe that are most accurate on the validation split of DATA.

    The test split is never used. OUT keeps a record of every trial. Trials with low accuracy stop early.
    """
    import json

    from fer_edge.train.networks import find_network
    from fer_edge.train.read_dataset import read_faces
    from fer_edge.train.search import search
    from fer_edge.train.start_keras import check_keras, start_keras

    find_network(network)
    check_keras()
    faces = read_faces(data, reporter=ConsoleReporter())
    start_keras()
    echo(json.dumps(search(network, faces, out, trials, epochs), indent=1))
