"""fer-edge dev detection-figure: drawn scenes with the boxes of a detector."""

from pathlib import Path

import click

from fer_edge.console import echo, friendly_errors
from fer_edge.option_groups import examples

PEOPLE = 5  # faces per expression
FACE = (slice(110, 370), slice(190, 450))  # in a synthetic image


@click.command(
    epilog=examples(
        "fer-edge dev detection-figure docs/images/detection.jpg",
        "fer-edge dev detection-figure haar.png --detector haar",
    )
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--detector", default="auto", show_default=True, help="As for fer-edge run.")
@friendly_errors
def command(file: Path, detector: str) -> None:
    """Draw twelve scenes with the boxes of a detector, up to half of them with errors, and write them to FILE."""
    from fer_edge.artifacts.contract import CropConvention
    from fer_edge.benchmarks.detection_figure import detection_figure
    from fer_edge.benchmarks.synthetic_scenes import LabeledCrop, to_gray
    from fer_edge.edge_runtime.detectors.detector import open_detector
    from fer_edge.edge_runtime.images import write_image
    from fer_edge.train.synthetic import EXPRESSIONS, synthetic_image

    opened = open_detector(detector)
    labels = [label for label in EXPRESSIONS for _ in range(PEOPLE)]
    faces = [to_gray(synthetic_image(label, seed)[FACE]) for seed, label in enumerate(labels)]
    crops = [LabeledCrop(str(seed), label, face) for seed, (label, face) in enumerate(zip(labels, faces, strict=True))]
    image, scenes, wrong = detection_figure(opened, CropConvention().box_transform(opened.name), crops)
    write_image(file, image)
    echo(f"{file}: {opened.name} errs in {wrong} of {scenes} drawn scenes")
