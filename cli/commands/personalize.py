"""fer-edge personalize: adapt a model to one person and their camera."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fer_edge.console import echo, friendly_errors, note, show_status, warn
from fer_edge.option_groups import examples

if TYPE_CHECKING:
    from fer_edge.edge_runtime.cameras.source import Source
    from fer_edge.edge_runtime.classify import Classifier
    from fer_edge.edge_runtime.personal.correction import Take


@click.command(
    epilog=examples(
        "fer-edge personalize anna --serve",
        "fer-edge personalize anna --from photos-of-anna",
    ),
)
@click.argument("name", required=False)
@click.argument("source", default="auto")
@click.option("--from", "folder", type=click.Path(path_type=Path), help="Read the images in the class folders of this folder.")
@click.option("--model", help="A .tflite file, a folder, or the name of a bundled model, as for fer-edge run.")
@click.option(
    "--detector",
    default="auto",
    show_default=True,
    help="auto (own), own, haar, blazeface, yunet, an .onnx or .tflite file, or none: each image is a face crop.",
)
@click.option(
    "--rotate",
    type=click.Choice(["90", "180", "270"]),
    help="Rotate the frames of the camera clockwise by these degrees, as for fer-edge run.",
)
@click.option("--flip", is_flag=True, help="Swap left and right in the frames, after --rotate.")
@click.option(
    "--serve",
    is_flag=False,
    flag_value="127.0.0.1:8080",
    metavar="[HOST:PORT]",
    help="Show the camera and the instructions on a preview page too.  [default address: 127.0.0.1:8080]",
)
@click.option("--token", help="Token that viewers need, at least 16 characters.  [default: random; none on a loopback address]")
@click.option("--list", "list_people", is_flag=True, help="List the stored people.")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
@click.option("--delete", metavar="NAME", help="Delete the correction of a person.")
@friendly_errors
def command(
    name: str | None,
    source: str,
    folder: Path | None,
    model: str | None,
    detector: str,
    rotate: str | None,
    flip: bool,
    serve: str | None,
    token: str | None,
    list_people: bool,
    as_json: bool,
    delete: str | None,
) -> None:
    """Adapt a model to the person NAME and their camera, in about a minute.

    SOURCE is a camera as for fer-edge run: auto (the default), /dev/videoN, a URL. The terminal says which expression to make.
    fer-edge fits a small correction of the probabilities, tests it by leave-one-out, and stores it only if it helps. It stores
    numbers, and no image. Apply it with fer-edge run --person NAME.
    """
    from fer_edge.edge_runtime.personal.people import delete_person, describe, make_person, person_file, write_person

    if list_people:
        _print_people(as_json)
        return
    if delete is not None:
        delete_person(delete)
        echo(f"deleted: {delete}")
        return
    if not name:
        raise click.UsageError("NAME is missing: fer-edge personalize NAME. Or use --list, or --delete NAME")
    from fer_edge.artifacts.atomic_write import check_writable
    from fer_edge.edge_runtime.detectors.detector import open_detector
    from fer_edge.edge_runtime.live.takes import takes_from_folder
    from fer_edge.edge_runtime.live.thread_tuning import load_classifier

    replaces = person_file(name).exists()
    check_writable(person_file(name))  # before the minute in front of the camera
    classifier = load_classifier(model, threads=1)
    note(f"model: {classifier.model.name}")
    if folder is not None:
        takes = takes_from_folder(folder, classifier, open_detector(detector), _label_of(classifier), warn)
    else:
        takes = _film(_open_camera(source, rotate, flip), classifier, detector, serve, token)
    missing = [label for label in classifier.labels if label not in {take.label for take in takes}]
    person = make_person(name, takes, classifier.model.name, classifier.sha256, classifier.labels)
    if missing:
        warn(f"no images of {', '.join(missing)}: for these labels the correction follows from the other expressions")
    path = write_person(person)
    echo(f"leave-one-out on {len(takes)} images or takes: {describe(person.evaluation)}")
    echo(f"{'replaced' if replaces else 'stored'}: {path}")
    echo(f"use it: fer-edge run --person '{name}'" + (f" --model {model}" if model else ""))


def _label_of(classifier: "Classifier") -> Callable[[str], str | None]:
    """Return a function from the name of a class folder to a label of the model, with the synonyms and the map of its data."""
    from fer_edge.train.class_names import canonical_name, parse_label_map

    label_map = parse_label_map((), classifier.contract.label_map)
    labels = {canonical_name(label): label for label in classifier.labels}
    return lambda name: labels.get(canonical_name(label_map.label_of(name)))


def _open_camera(source: str, rotate: str | None, flip: bool) -> "Source":
    from fer_edge.edge_runtime.cameras.source import open_source
    from fer_edge.edge_runtime.orientation import Orientation

    camera = open_source(source, orientation=Orientation(int(rotate or 0), flip))
    if not camera.live:
        raise ValueError(f"'{source}' is not a camera. Name a camera, or pass class folders: --from {source}")
    return camera


def _film(camera: "Source", classifier: "Classifier", detector: str, serve: str | None, token: str | None) -> "list[Take]":
    """Film the expressions with a camera. The instructions go to the terminal, and to the preview page if it is served."""
    from fer_edge.edge_runtime import NO_SMOOTHING
    from fer_edge.edge_runtime.detectors.detector import open_detector
    from fer_edge.edge_runtime.live.pipeline import Pipeline, PipelineSettings
    from fer_edge.edge_runtime.live.takes import CameraWatch, takes_from_camera
    from fer_edge.edge_runtime.outputs.preview import PreviewServer
    from fer_edge.stop_signals import stop_on_signals

    watch = CameraWatch()
    settings = PipelineSettings(max_faces=1, smoothing=NO_SMOOTHING)
    pipeline = watch.pipeline = Pipeline(camera, open_detector(detector), classifier, settings, watch.on_message)
    preview = PreviewServer(serve, pipeline.stats, token, on_problem=warn) if serve else None

    def prompt(text: str) -> None:
        show_status(text)
        if preview:
            preview.notice = text

    if preview:
        note(f"preview: {preview.url}")
    note(f"it films each expression twice: {', '.join(classifier.labels)}. Ctrl-C ends it, and stores nothing")
    try:
        with stop_on_signals(pipeline.stop) as interrupted, pipeline:
            try:
                return takes_from_camera(pipeline, watch, prompt, preview.write if preview else None)
            except OSError:
                if interrupted.is_set():
                    raise click.Abort from None
                raise
    finally:
        show_status("")
        if preview:
            preview.close(True)


def _print_people(as_json: bool) -> None:
    from fer_edge.artifacts.typed_json import to_data
    from fer_edge.benchmarks.tables import text_table
    from fer_edge.edge_runtime.personal.people import people_folder, person_names, read_person

    people = []
    for name in person_names():
        try:
            people.append(read_person(name))
        except ValueError as error:
            warn(str(error))
    if as_json:
        echo(json.dumps(to_data(people), ensure_ascii=False))
    elif not people:
        note(f"no people in {people_folder()}. Add one: fer-edge personalize NAME")
    else:
        rows = [
            (
                person.name,
                person.model,
                str(sum(person.takes.values())),
                f"{100 * person.evaluation.accuracy_before:.1f}",
                f"{100 * person.evaluation.accuracy_after:.1f}",
            )
            for person in people
        ]
        echo(text_table(("name", "model", "images or takes", "correct before, %", "correct after, %"), rows))
