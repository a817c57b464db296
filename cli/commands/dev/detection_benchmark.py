"""fer-edge dev detection-benchmark: detectors on full images."""

from pathlib import Path

import click

from fer_edge.console import echo, friendly_errors
from fer_edge.option_groups import examples


@click.command(
    epilog=examples(
        "fer-edge dev detection-benchmark cnn_nano_fer2013 fer2013.zip --detectors blazeface,haar",
        "fer-edge dev detection-benchmark cnn_nano_fer2013 fer2013.zip --split train --derive",
    )
)
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("data")
@click.option("--split", default="test", show_default=True, help="Split of the dataset: train, validation or test.")
@click.option("--count", type=click.IntRange(min=1), default=1000, show_default=True, help="Number of images.")
@click.option("--detectors", help="Names, or a YuNet .onnx file, separated by commas  [default: the installed ones]")
@click.option("--derive", is_flag=True, help="Derive the box transforms of the detectors instead, from 800 faces.")
@click.option("--record", type=click.Path(path_type=Path), help="Append the result to this JSON-lines file.")
@friendly_errors
def command(model: Path, data: str, split: str, count: int, detectors: str | None, derive: bool, record: Path | None) -> None:
    """Measure detectors, and the accuracy of MODEL on the found faces, on images with pasted face crops of DATA."""
    from fer_edge.artifacts.typed_json import append_json_lines
    from fer_edge.benchmarks.detection_benchmark import benchmark_detectors, derive_transforms, installed_detectors
    from fer_edge.benchmarks.synthetic_scenes import CropSource
    from fer_edge.edge_runtime.classify import Classifier
    from fer_edge.edge_runtime.detectors.detector import open_detector
    from fer_edge.edge_runtime.find_model import find_model
    from fer_edge.labeled_crops import read_crops

    path = find_model(model)
    classifier = Classifier(path)
    crops = read_crops(data, split, classifier.labels)
    opened = [open_detector(name) for name in (detectors.split(",") if detectors else installed_detectors())]
    source = CropSource(path.name, Path(data).stem, split)
    if derive:
        transforms = derive_transforms(crops, opened, source)
        lines = [f"{name}: {fit}" for name, fit in transforms.fits.items()]
    else:
        detection = benchmark_detectors(crops, count, opened, classifier, source)
        lines = [f"accuracy of the original crops {detection.accuracy_of_original_crops:.4f}"]
        lines += [f"{name}: {result}" for name, result in detection.detectors.items()]
    if record:
        append_json_lines(record, [transforms if derive else detection])
    echo("\n".join(lines))
