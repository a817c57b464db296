"""fer-edge dev unpack: restore packed runs."""

from pathlib import Path

import click

from fer_edge.console import ConsoleReporter, echo, friendly_errors
from fer_edge.option_groups import examples


@click.command(
    epilog=examples(
        "fer-edge dev unpack packed fer2013.zip --out runs",
        "fer-edge dev unpack packed ck48.zip --out runs --map contempt=neutral",
    )
)
@click.argument("packed", type=click.Path(path_type=Path))
@click.argument("data")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Folder for the runs.")
@click.option("--map", "maps", multiple=True, metavar="CLASS=LABEL", help="Label of a class, as in training. Repeatable.")
@friendly_errors
def command(packed: Path, data: str, out: Path, maps: tuple[str, ...]) -> None:
    """Restore the runs in the folder PACKED and measure them on DATA, the dataset that they were trained on."""
    from fer_edge.train.pack import unpack_runs
    from fer_edge.train.read_dataset import read_faces
    from fer_edge.train.read_options import ReadOptions
    from fer_edge.train.start_keras import start_keras

    faces = read_faces(data, ReadOptions(maps), ConsoleReporter())
    start_keras()
    for folder in unpack_runs(packed, faces, out):
        echo(folder)
