"""fer-edge export web: a page that labels faces on a phone."""

from pathlib import Path

import click

from fer_edge.console import ConsoleReporter, echo, friendly_errors
from fer_edge.option_groups import examples


@click.command(
    epilog=examples("fer-edge export web cnn_nano --out site", "fer-edge export web mobilenet_v2 --out site --packages npm")
)
@click.argument("model", required=False)
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Folder for the page.")
@click.option(
    "--packages",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Folder with the .tgz files of npm pack.  [default: the cache, else the npm registry]",
)
@click.option(
    "--detector",
    default="own",
    show_default=True,
    help="Face detector: auto or own, blazeface, or a .tflite file of fer-edge convert detector.",
)
@friendly_errors
def command(model: str | None, out: Path, packages: Path | None, detector: str) -> None:
    """Export a web page that finds and labels faces on the device that opens it, with MODEL.

    MODEL is an int8 .tflite file, a folder (its newest int8 model) or the name of a bundled model. Default: the newest one
    under runs, else cnn_nano.

    The page consists of static files for any web server. It contains all its parts, and no image leaves the device. The first
    export downloads LiteRT.js with npm, and BlazeFace if you choose it; later ones need no internet access.
    """
    from fer_edge.deploy.web_export import export_web

    page = export_web(model, out, packages, ConsoleReporter(), detector)
    size = f"{page.total_bytes / 1e6:.1f} MB, {page.transfer_bytes / 1e6:.2f} MB at the first visit"
    echo(f"{page.folder}: {page.files} files, {size}")
    echo(f"Try it: fer-edge serve {page.folder}")
