"""fer-edge dev annotate: find the faces in a folder of images with installed detectors."""

from pathlib import Path

import click

from fer_edge.console import ConsoleReporter, echo, friendly_errors
from fer_edge.option_groups import examples


@click.command(
    epilog=examples(
        "fer-edge dev annotate photos --teachers blazeface,yunet --license CC0-1.0",
        "fer-edge dev annotate portraits.zip --teachers blazeface,haar --license 'see README' --out portraits.faces.json",
    )
)
@click.argument("images", type=click.Path(path_type=Path))
@click.option(
    "--teachers",
    default="blazeface,haar",
    show_default=True,
    help="Detectors, or a YuNet .onnx file, separated by commas. For photos: blazeface,yunet.",
)
@click.option("--license", "license_text", required=True, help="License of the images, for the model card of a detector.")
@click.option(
    "--min-face",
    "min_face_px",
    type=click.IntRange(min=8),
    default=32,
    show_default=True,
    help="Smallest face, pixels. YuNet's smaller faces become regions to ignore.",
)
@click.option("--out", type=click.Path(path_type=Path), help="The file  [default: IMAGES/faces.json, or ZIP.faces.json]")
@friendly_errors
def command(images: Path, teachers: str, license_text: str, min_face_px: int, out: Path | None) -> None:
    """Write where the faces in IMAGES (a folder or zip) are, to train a detector with them.

    A face is what two teachers agree on, a large face in the middle, and a detection of YuNet with a score of at least 0.8.
    Other detections of one teacher are neither face nor background.
    """
    from fer_edge.artifacts.atomic_write import check_writable
    from fer_edge.artifacts.face_annotations import write_annotations
    from fer_edge.train.dataset_files import DatasetFiles
    from fer_edge.train.detector.annotate import annotate, open_teachers
    from fer_edge.train.detector.sources import annotations_path

    if not images.exists():
        raise FileNotFoundError(f"no images at '{images}'. Give a folder or a zip")
    target = out or annotations_path(images)
    check_writable(target)
    opened = open_teachers(teachers.split(","))
    annotations = annotate(DatasetFiles(images), opened, license_text, min_face_px, ConsoleReporter())
    write_annotations(target, annotations)
    faces = sum(len(image.faces) for image in annotations.images)
    ignored = sum(len(image.ignore_px) for image in annotations.images)
    echo(f"{len(annotations.images)} images, {faces} faces, {ignored} regions to ignore: {target}")
