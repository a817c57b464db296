"""fer-edge dev export-faces: write the faces of a dataset to one .npz file."""

from pathlib import Path

import click

from fer_edge.console import ConsoleReporter, echo, friendly_errors
from fer_edge.option_groups import examples


@click.command(
    epilog=examples(
        "fer-edge dev export-faces fer2013.zip faces.npz --ferplus ferplus.csv",
        "fer-edge dev export-faces ck48.zip faces.npz --protocol subject --folds 10",
    )
)
@click.argument("data")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--protocol", default="auto", show_default=True, help="paper, subject, official, auto, or all for no division.")
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="Number of seeds of the division.")
@click.option("--folds", type=click.IntRange(2), help="Folds of the protocol subject.")
@click.option("--size", type=click.IntRange(1, 512), default=48, show_default=True, help="Side of the faces, pixels.")
@click.option("--ferplus", type=click.Path(path_type=Path), help="FER+ table: labels and votes of its annotators.")
@friendly_errors
def command(data: str, out: Path, protocol: str, seeds: int, folds: int | None, size: int, ferplus: Path | None) -> None:
    """Write the faces of DATA to OUT.npz: gray images, labels, and the split of each face, for programs outside fer-edge."""
    from fer_edge.artifacts.exported_faces import write_exported_faces
    from fer_edge.train.export_faces import export_faces
    from fer_edge.train.ferplus import with_votes
    from fer_edge.train.read_dataset import read_faces
    from fer_edge.train.read_options import CROPS, ReadOptions

    reporter = ConsoleReporter()
    faces = read_faces(data, ReadOptions(faces=CROPS), reporter)
    if ferplus:
        faces = with_votes(faces, ferplus, reporter)
    exported = export_faces(faces, protocol, range(seeds), folds, size)
    write_exported_faces(out, exported)
    echo(f"{out}: {len(exported.ids)} faces of {exported.data}, protocol {exported.protocol}, {len(exported.runs)} divisions")
