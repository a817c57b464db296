"""fer-edge doctor: what is installed, what is missing and how to get it."""

import click

from fer_edge.console import friendly_errors
from fer_edge.table import text_table


@click.command()
@click.option("--json", "as_json", is_flag=True, help="The checks as JSON.")
@friendly_errors
def command(as_json: bool) -> None:
    """Check this machine. Exit code 1 where models cannot run here; training and conversion are extras."""
    import json
    from dataclasses import asdict

    from fer_edge.doctor_checks import examine

    checks = examine()
    if as_json:
        click.echo(json.dumps([asdict(check) for check in checks], indent=1))
    else:
        click.echo(text_table(("part", "for", "state", "found"), [check.cells() for check in checks]))
        for check in checks:
            if check.remedy:
                click.echo(f"{check.part}: {check.remedy}")
    if any(check.remedy and check.needed_for == "run" for check in checks):
        raise click.exceptions.Exit(1)
