"""fer-edge doctor: check the installation."""

import click

from fer_edge.benchmarks.tables import text_table
from fer_edge.console import friendly_errors
from fer_edge.option_groups import examples


@click.command(epilog=examples("fer-edge doctor", "fer-edge doctor --json"))
@click.option("--json", "as_json", is_flag=True, help="Print the checks as JSON.")
@friendly_errors
def command(as_json: bool) -> None:
    """Check which parts are installed, and show how to install missing ones.

    The exit status is 1 if models cannot run on this machine. Training and conversion are optional.
    """
    import json
    from dataclasses import asdict

    from fer_edge.doctor_checks import run_checks

    checks = run_checks()
    if as_json:
        click.echo(json.dumps([asdict(check) for check in checks], indent=1))
    else:
        click.echo(text_table(("part", "needed for", "state", "details"), [check.cells() for check in checks]))
        for check in checks:
            if check.remedy:
                click.echo(f"{check.part}: {check.remedy}")
    if any(check.remedy and check.needed_for == "run" for check in checks):
        raise click.exceptions.Exit(1)
