"""fer-edge dev gpu-plan: trainings on a rented GPU machine without a network."""

from pathlib import Path

import click

from fer_edge.console import ConsoleReporter, FiniteRange, friendly_errors
from fer_edge.option_groups import examples


@click.group(
    epilog=examples(
        "fer-edge dev gpu-plan prepare fer2013.zip .gpu --list teachers",
        "fer-edge dev gpu-plan run /tmp/fer-edge-gpu --out results --stop-after 540",
    )
)
def command() -> None:
    """Run a list of trainings on a GPU machine without a network, in commands of a few minutes."""


@command.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--list", "trainings", default="teachers", show_default=True, help="teachers, students, or a file of trainings.")
@click.option("--extra", multiple=True, type=click.Path(path_type=Path), help="File to carry, such as initial weights.")
@click.option("--wheels/--no-wheels", default=True, show_default=True, help="Download the wheels of Keras.")
@friendly_errors
def prepare(data: Path, out: Path, trainings: str, extra: tuple[Path, ...], wheels: bool) -> None:
    """Write the folder OUT to carry: fer-edge, Keras, the faces in the zip DATA and a list of trainings.

    On the machine, OUT/run.sh RESULTS SECONDS continues the list and writes packed results into RESULTS.
    """
    from fer_edge.gpu_plan import prepare_bundle

    prepare_bundle(data, trainings, extra, out, wheels, ConsoleReporter())


@command.command()
@click.argument("work", type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Folder for packed results, at most 60 MB per call."
)
@click.option("--stop-after", type=FiniteRange(min=0), required=True, metavar="SECONDS", help="Stop with a checkpoint.")
@friendly_errors
def run(work: Path, out: Path, stop_after: float) -> None:
    """Continue the trainings in WORK/trainings.txt, and pack what has finished since the last call."""
    from fer_edge.gpu_plan import run_plan

    run_plan(work, out, stop_after, ConsoleReporter())
