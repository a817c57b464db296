"""fer-edge reproduce: labeled faces in; the published tables next to ours out."""

import sys
from pathlib import Path

import click

from fer_edge.console import ConsoleReporter, friendly_errors
from fer_edge.option_groups import cluster_options, examples


@click.command(
    epilog=examples("fer-edge reproduce ck48 --data ck48.zip --quick", "fer-edge reproduce ck48 --data ck48.zip --on ray")
)
@click.argument("comparison", type=click.Choice(["ck48"]), metavar="ck48")
@click.option("--data", required=True, help="CK+48: a zip or folder. Other faces, such as synthetic, only show how it works.")
@click.option("--quick", is_flag=True, help="One seed and one fold per network, few epochs: less than 20 minutes on 2 cores.")
@click.option("--network", "networks", multiple=True, metavar="NETWORK", help="Only this network. Repeatable.")
@click.option("--estimate", "estimate_only", is_flag=True, help="Report the time and the needs of the job, and stop.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder for all results  [default: reproduction/ck48 or reproduction/ck48-quick]",
)
@click.option("--record", type=click.Path(path_type=Path), metavar="FILE.jsonl", help="Also append the records to this file.")
@cluster_options
@friendly_errors
def command(
    comparison: str,
    data: str,
    quick: bool,
    networks: tuple[str, ...],
    estimate_only: bool,
    out: Path | None,
    record: Path | None,
    on: str | None,
    cpus_per_run: int | None,
    gpus_per_run: float | None,
    checkpoint_seconds: float,
) -> None:
    """Reproduce the published comparison from the data: train, convert, measure, and write the tables.

    If it is stopped, repeat the command: finished parts are not done again.
    """
    from fer_edge.reproduce import ReproduceOptions, reproduce

    folder = out or Path("reproduction") / (f"{comparison}-quick" if quick else comparison)
    options = ReproduceOptions(
        networks, quick, folder, on, cpus_per_run, gpus_per_run, checkpoint_seconds, estimate_only, record
    )
    reproduce(data, options, command=("fer-edge", *sys.argv[1:]), reporter=ConsoleReporter())
