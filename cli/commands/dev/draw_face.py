"""fer-edge dev draw-face: draw an image with one synthetic face."""

from pathlib import Path

import click

from fer_edge.console import echo, friendly_errors
from fer_edge.option_groups import examples


@click.command(
    epilog=examples("fer-edge dev draw-face happy happy.png", "fer-edge dev draw-face surprise surprise.jpg --seed 3")
)
@click.argument("label")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the person, the pose and the light.")
@friendly_errors
def command(label: str, file: Path, seed: int) -> None:
    """Draw an image of 640 x 480 pixels with one face that shows LABEL, and write it to FILE."""
    from fer_edge.edge_runtime.images import write_image
    from fer_edge.train.synthetic import EXPRESSIONS, synthetic_image

    if label not in EXPRESSIONS:
        raise ValueError(f"unknown label '{label}'; choose one of: {', '.join(EXPRESSIONS)}")
    write_image(file, synthetic_image(label, seed))
    echo(file)
