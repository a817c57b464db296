"""fer-edge deploy: install fer-edge and a model on a board."""

import json
from pathlib import Path
from typing import Any

import click

from fer_edge.console import ConsoleReporter, echo, friendly_errors
from fer_edge.option_groups import GroupedCommand, examples, option_group

what_option, service_option, other_option = (option_group(title) for title in ("What to deploy", "Service", "Other"))


class _JsonReporter(ConsoleReporter):
    """Prints the steps to standard error. The result is the only output."""

    def result(self, text: str) -> None:
        """Print a step."""
        echo(text, err=True)


def _run_arguments(context: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    """Check the arguments as ``fer-edge run`` does, here and not on the board."""
    if text is not None:
        from fer_edge.commands.run import command as run_command
        from fer_edge.deploy.unit import split_arguments

        try:
            run_command.make_context("run", split_arguments(text))
        except click.exceptions.Exit as error:  # --help
            raise click.BadParameter("give options of a run, not --help") from error
        except ValueError as error:
            raise click.BadParameter(str(error)) from error
    return text


@click.command(
    cls=GroupedCommand,
    epilog=examples(
        "fer-edge deploy pi@raspberrypi.local",
        "fer-edge deploy pi@raspberrypi.local --model mobilenet_v2 --run '--serve 0.0.0.0:8080' --service",
    ),
)
@click.argument("host", metavar="[USER@]HOST")
@what_option("--model", help="As for fer-edge run.  [default: the newest int8 model under runs, else cnn_nano]")
@what_option(
    "--detector",
    default="auto",
    show_default=True,
    help="As for fer-edge run. auto: the one that fer-edge run uses here. Its file is copied too.",
)
@what_option(
    "--run",
    metavar='"ARGS"',
    callback=_run_arguments,
    help="Source and options of fer-edge run on the board.  [default: those of the current release, else none]",
)
@what_option(
    "--wheels",
    type=click.Path(path_type=Path),
    help="Folder with the wheels for the board.  [default: download them here]",
)
@service_option("--service", is_flag=True, help="Run as a systemd service that starts with the board. Needs sudo on the board.")
@other_option("--dry-run", is_flag=True, help="Examine the board and change nothing there.")
@other_option("--rollback", is_flag=True, help="Go back to the previous release.")
@other_option("--uninstall", is_flag=True, help="Remove the service and all releases.")
@other_option("--json", "as_json", is_flag=True, help="Print the result as JSON, and the steps to standard error.")
@friendly_errors
def command(host: str, rollback: bool, uninstall: bool, as_json: bool, **options: Any) -> None:
    """Install fer-edge and a model on a board over ssh.

    Uses your ssh configuration, keys and known hosts; it never asks for a password. The board needs no internet access: the
    packages are downloaded here. A new release is tested with a known image before the board switches to it, and a failed
    deployment leaves the board as it was. After a lost connection, run the same command again.

    FER_EDGE_TOKEN and FER_EDGE_MQTT_PASSWORD, if set here, become secrets of the service.
    """
    from fer_edge.deploy import installed
    from fer_edge.deploy.deploy import DeployOptions, deploy
    from fer_edge.train.synthetic import synthetic_image

    reporter = _JsonReporter() if as_json else ConsoleReporter()
    actions = {"--dry-run": options["dry_run"], "--rollback": rollback, "--uninstall": uninstall}
    chosen = [name for name, is_set in actions.items() if is_set]
    if len(chosen) > 1:
        raise click.UsageError(f"choose one of --dry-run, --rollback, --uninstall. Received: {' '.join(chosen)}")
    if rollback or uninstall:
        given = [f"--{name}" for name in ("model", "run", "wheels", "service") if options[name]]
        if given:
            raise click.UsageError(f"{chosen[0]} takes no other option. Received: {' '.join(given)}")
        report = installed.rollback(host, reporter) if rollback else installed.uninstall(host, reporter)
    else:
        report = deploy(host, DeployOptions(**options), synthetic_image("happy"), reporter)
    if as_json:
        echo(json.dumps(report, indent=1))
