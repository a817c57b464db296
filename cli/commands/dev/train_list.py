"""fer-edge dev train-list: run a list of trainings."""

from pathlib import Path

import click

from fer_edge.console import ConsoleReporter, FiniteRange, friendly_errors
from fer_edge.option_groups import examples


@click.command(
    epilog=examples("fer-edge dev train-list trainings.txt", "fer-edge dev train-list trainings.txt --stop-after 3600")
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--stop-after", type=FiniteRange(min=0), metavar="SECONDS", help="Stop with a checkpoint.")
@friendly_errors
def command(file: Path, stop_after: float | None) -> None:
    """Run the fer-edge train commands in FILE, one per line, one after the other.

    Repeat the command to continue: finished runs are skipped, stopped ones resume. A line can use a run of an earlier line as
    a teacher or as initial weights. Lines are checked before the first one starts. Text after # is ignored.
    """
    from fer_edge.training_list import read_trainings, run_trainings

    run_trainings(read_trainings(file), stop_after, ConsoleReporter())
