"""fer-edge dev pack: pack finished runs into small files."""

from pathlib import Path

import click

from fer_edge.console import echo, friendly_errors
from fer_edge.option_groups import examples


@click.command(epilog=examples("fer-edge dev pack packed runs/cnn-fer2013-edge-official-s0", "fer-edge dev pack packed runs/*"))
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@friendly_errors
def command(out: Path, runs: tuple[Path, ...]) -> None:
    """Pack the finished RUNs into parts of at most 15 MB in the folder OUT, with float16 weights."""
    from fer_edge.train.pack import pack_runs
    from fer_edge.train.start_keras import start_keras

    start_keras()
    for part in pack_runs(runs, out):
        echo(part)
