"""fer-edge dev detection-benchmark: detectors on the same images."""

from pathlib import Path

import click

from fer_edge.console import echo, friendly_errors
from fer_edge.option_groups import examples


@click.command(
    epilog=examples(
        "fer-edge dev detection-benchmark cnn_nano fer2013.zip --split validation --portraits wild_dev.zip --photos photos",
        "fer-edge dev detection-benchmark cnn_nano_fer2013 fer2013.zip --split train --derive",
    )
)
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("data")
@click.option("--split", default="test", show_default=True, help="Split of the dataset: train, validation or test.")
@click.option("--portraits", type=click.Path(path_type=Path), help="Zip or folder of class folders of portraits.")
@click.option("--photos", type=click.Path(path_type=Path), help="Folder with the photos that detection_photos.jsonl lists.")
@click.option(
    "--count", type=click.IntRange(min=1), default=400, show_default=True, help="Scenes with one face, and with a head."
)
@click.option("--condition-count", type=click.IntRange(min=1), default=150, show_default=True, help="Scenes per condition.")
@click.option(
    "--detectors", help="Names, or .onnx or .tflite files of detectors, separated by commas  [default: the installed ones]"
)
@click.option("--derive", is_flag=True, help="Derive the box transforms of the detectors instead, from 800 faces.")
@click.option("--record", type=click.Path(path_type=Path), help="Append the result to this JSON-lines file.")
@friendly_errors
def command(
    model: Path,
    data: str,
    split: str,
    portraits: Path | None,
    photos: Path | None,
    count: int,
    condition_count: int,
    detectors: str | None,
    derive: bool,
    record: Path | None,
) -> None:
    """Measure detectors, and the accuracy of MODEL on the found faces, on the same images.

    Face crops of DATA are pasted into drawn scenes: one per scene, turned by 30 degrees, half covered, dark, several per scene.
    --portraits adds portraits, tight crops of them and scenes with their heads. --photos adds photos that were marked by hand.
    """
    from fer_edge.artifacts.typed_json import append_json_lines
    from fer_edge.benchmarks import detection_benchmark as benchmark
    from fer_edge.benchmarks.detection_photos import read_photos
    from fer_edge.benchmarks.portraits import check_labels, read_portraits
    from fer_edge.benchmarks.synthetic_scenes import CropSource
    from fer_edge.edge_runtime.classify import Classifier
    from fer_edge.edge_runtime.detectors.detector import installed_detectors, open_detector
    from fer_edge.edge_runtime.find_model import find_model
    from fer_edge.labeled_crops import read_crops

    path = find_model(model)
    classifier = Classifier(path)
    names = detectors.split(",") if detectors else installed_detectors()
    opened = {name: open_detector(name) for name in names}
    marked = read_photos(photos) if photos else []
    heads = read_portraits(portraits) if portraits else []
    check_labels(heads, classifier)
    crops = read_crops(data, split, classifier.labels)
    source = CropSource(path.name, Path(data).stem, split)
    if derive:
        transforms = benchmark.derive_transforms(crops, list(opened.values()), source)
        text = "\n".join(f"{name}: {fit}" for name, fit in transforms.fits.items())
    else:
        sets = benchmark.DetectionSets(crops, heads, marked, count, condition_count)
        detection = benchmark.benchmark_detectors(sets, opened, classifier, source, portraits.stem if portraits else None)
        text = benchmark.detection_tables(detection)
    if record:
        append_json_lines(record, [transforms if derive else detection])
    echo(text)
