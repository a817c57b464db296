"""fer-edge run: pictures, folders and videos in; a label and a probability per face out."""

from pathlib import Path

import click

from fer_edge.console import friendly_errors, warn


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--model", type=click.Path(path_type=Path), help="A .tflite file, or a folder: its newest int8 model.  [default: runs]"
)
@click.option("--detector", default="auto", show_default=True, help="auto, blazeface, haar, or none: the picture is the face.")
@click.option("--threads", default=1, show_default=True, help="Threads of the classifier.")
@click.option("--save", type=click.Path(path_type=Path), help="Write annotated copies: a folder, or a file for one picture.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON per picture or frame.")
@friendly_errors
def command(source: Path, model: Path | None, detector: str, threads: int, save: Path | None, as_json: bool) -> None:
    """Find and label the faces in SOURCE: a picture, a folder or a video file."""
    from contextlib import nullcontext

    from fer_edge.edge_runtime.classify import Classifier
    from fer_edge.edge_runtime.detect import open_detector
    from fer_edge.edge_runtime.find_model import find_model
    from fer_edge.edge_runtime.outputs import AnnotatedCopies, as_json_line, as_text_line
    from fer_edge.edge_runtime.pipeline import label_frames
    from fer_edge.edge_runtime.sources import list_files, read_frames

    list_files(source)  # a wrong path is told before the model is loaded
    classifier = Classifier(find_model(model), threads)
    frames = read_frames(source, on_skip=lambda reason: warn(f"skipped: {reason}"))
    line = as_json_line if as_json else as_text_line
    with AnnotatedCopies(save, source) if save else nullcontext() as copies:
        for labelled in label_frames(frames, open_detector(detector), classifier):
            click.echo(line(labelled))
            if copies:
                copies.write(labelled)
    if copies and not as_json:
        click.echo(f"{len(copies.written)} annotated under {save}")
