"""fer-edge dev label-stability: flicker and lag of labels."""

from pathlib import Path

import click

from fer_edge.console import echo, friendly_errors
from fer_edge.option_groups import examples


@click.command(
    epilog=examples(
        "fer-edge dev label-stability cnn_nano_fer2013 fer2013.zip",
        "fer-edge dev label-stability cnn_nano_fer2013 fer2013.zip --faces 20 --detector haar",
    )
)
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("data")
@click.option("--split", default="test", show_default=True, help="Split of the dataset: train, validation or test.")
@click.option("--faces", type=click.IntRange(min=1), default=60, show_default=True, help="Number of still faces.")
@click.option("--detector", default="auto", show_default=True, help="Detector, or its .onnx or .tflite file.")
@click.option("--record", type=click.Path(path_type=Path), help="Append the result to this JSON-lines file.")
@friendly_errors
def command(model: Path, data: str, split: str, faces: int, detector: str, record: Path | None) -> None:
    """Measure how often the label of a still face changes and how soon a new expression shows, on face crops of DATA."""
    from fer_edge.artifacts.typed_json import append_json_lines
    from fer_edge.benchmarks.label_stability import measure_stability
    from fer_edge.benchmarks.synthetic_scenes import CropSource
    from fer_edge.edge_runtime.classify import Classifier
    from fer_edge.edge_runtime.detectors.detector import open_detector
    from fer_edge.edge_runtime.find_model import find_model
    from fer_edge.labeled_crops import read_crops

    path = find_model(model)
    classifier = Classifier(path)
    crops = read_crops(data, split, classifier.labels)
    source = CropSource(path.name, Path(data).stem, split)
    result = measure_stability(crops, faces, open_detector(detector), classifier, source)
    if record:
        append_json_lines(record, [result])
    echo(result.flicker)
    echo(result.lag)
