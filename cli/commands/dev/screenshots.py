"""fer-edge dev screenshots: screenshots of the preview page for the documentation."""

from pathlib import Path

import click

from fer_edge.console import FiniteRange, echo, friendly_errors
from fer_edge.option_groups import examples


@click.command(epilog=examples("fer-edge dev screenshots docs/images", "fer-edge dev screenshots build/images --seconds 5"))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--seconds", type=FiniteRange(1, 600), default=60.0, show_default=True, help="How long to watch first.")
@friendly_errors
def command(folder: Path, seconds: float) -> None:
    """Label drawn faces, open the preview page in Chromium and write screenshots to FOLDER."""
    from fer_edge.preview_screenshots import open_chromium, take_screenshots

    with open_chromium() as browser:
        for path in take_screenshots(browser, folder, seconds):
            echo(path)
