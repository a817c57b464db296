"""fer-edge train detector: images in, run folder of a face detector out."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fer_edge.console import ConsoleReporter, FiniteRange, echo, friendly_errors
from fer_edge.option_groups import examples

if TYPE_CHECKING:
    from fer_edge.artifacts.detector_run import DetectorPlan
    from fer_edge.train.detector.sources import Sources

PLAN_OPTIONS = ("epochs", "scenes_per_epoch", "batch_size", "learning_rate", "seed")


@click.command(
    epilog=examples(
        "fer-edge train detector --data portraits=portraits.zip --data faces=fer2013.zip --data backgrounds=rooms",
        "fer-edge train detector --out runs/detector --resume --mine --epochs 60",
    )
)
@click.option(
    "--data",
    multiple=True,
    metavar="ROLE=PATH",
    help="A folder or zip: photos and portraits (annotated), faces (crops), backgrounds, garments. Repeatable.",
)
@click.option(
    "--annotations",
    multiple=True,
    metavar="PATH=FILE",
    help="Annotations of images elsewhere than in PATH/faces.json; of WIDER FACE or COCO too.",
)
@click.option("--license", multiple=True, metavar="PATH=TEXT", help="License of images without annotations.")
@click.option("--ferplus", type=click.Path(path_type=Path), help="FER+ table: leaves out crops that are not faces.")
@click.option("--network", help="detector_nano or detector_small  [default: detector_nano]")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("runs/detector"), show_default=True, help="The run folder."
)
@click.option("--epochs", type=int, help="Number of epochs, with those of a resumed run  [default: 40]")
@click.option("--scenes", "scenes_per_epoch", type=int, help="Scenes per epoch  [default: 20000]")
@click.option("--batch-size", type=int, help="Scenes per step  [default: 16]")
@click.option("--learning-rate", type=float, help="Highest learning rate  [default: 0.004]")
@click.option(
    "--mix", multiple=True, metavar="KIND=SHARE", help="Share of the scenes of a kind: close, photo, person, hard. Repeatable."
)
@click.option("--seed", type=int, help="Seed of weights, scenes and order  [default: 0]")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes that draw scenes.")
@click.option("--resume", is_flag=True, help="Continue the run in --out.")
@click.option("--mine", "mining", is_flag=True, help="First collect the false detections of the resumed run.")
@click.option("--stop-after", type=FiniteRange(min=0), metavar="SECONDS", help="Stop after the epoch that is running then.")
@friendly_errors
def command(data: tuple[str, ...], out: Path, **options: Any) -> None:
    """Train a face detector on drawn scenes. Convert it then: fer-edge convert detector RUN.

    Photos and portraits need annotations: fer-edge dev annotate. Official test splits in the data are left out. With --resume,
    settings that are not given stay as they are, and --data replaces the images.
    """
    import time

    from fer_edge.train.detector.sources import load_sources
    from fer_edge.train.detector.stream import SOURCES_FOLDER
    from fer_edge.train.start_keras import check_keras, start_keras

    started, reporter = time.monotonic(), ConsoleReporter()
    plan = _plan(options, out)
    check_keras()
    sources = load_sources(out / SOURCES_FOLDER) if options["resume"] and not data else _pack(data, out, options)
    start_keras()
    if options["mining"]:
        _mine(out, sources, reporter)
    from fer_edge.train.detector.fit import train_detector
    from fer_edge.train.write_run import program_versions

    stop_after = options["stop_after"]
    run = train_detector(
        plan,
        sources,
        out,
        resume=options["resume"],
        workers=options["workers"],
        stop_at=None if stop_after is None else started + stop_after,
        command=("fer-edge", *sys.argv[1:]),
        versions=program_versions(),
        reporter=reporter,
    )
    echo(f"{out}: {len(run.history)} epochs. Convert it: fer-edge convert detector {out}")


def _plan(options: dict[str, Any], out: Path) -> "DetectorPlan":
    """Return the settings: those of the run that is resumed, or the defaults, changed by the options."""
    from dataclasses import replace

    from fer_edge.artifacts.detector_run import DetectorPlan, read_detector_run
    from fer_edge.train.detector.network import find_network

    if options["mining"] and not options["resume"]:
        raise ValueError("--mine collects the false detections of a trained detector: add --resume")
    if options["resume"]:
        plan = read_detector_run(out).plan
    else:
        name = options["network"] or "detector_nano"
        network = find_network(name)
        plan = DetectorPlan(name, network.height, network.width, network.strides)
    chosen = {name: options[name] for name in PLAN_OPTIONS if options[name] is not None}
    shares = _by_name(options["mix"], "mix")
    if unknown := set(shares) - set(vars(plan.mix)):
        raise ValueError(f"--mix takes the kinds {', '.join(vars(plan.mix))}. Received: '{min(unknown)}'")
    try:
        mix = replace(plan.mix, **{kind: float(share) for kind, share in shares.items()})
    except ValueError as error:
        raise ValueError(f"--mix takes KIND=SHARE, 0..1 ({error})") from error
    return replace(plan, mix=mix, **chosen)


def _pack(data: tuple[str, ...], out: Path, options: dict[str, Any]) -> "Sources":
    from fer_edge.artifacts.detector_run import is_detector_run
    from fer_edge.train.detector.sources import SourceOption, pack_sources
    from fer_edge.train.detector.stream import SOURCES_FOLDER

    if is_detector_run(out) and not options["resume"]:
        raise FileExistsError(f"'{out}' has a run. Continue it with --resume, or choose another --out")
    if not data:
        raise ValueError("give the images: --data ROLE=PATH, for example --data backgrounds=rooms")
    sources = [SourceOption.parse(text) for text in data]
    licenses, files = (_by_name(options[name], name) for name in ("license", "annotations"))
    marked = {path: Path(file) for path, file in files.items()}
    return pack_sources(sources, out / SOURCES_FOLDER, licenses, marked, options["ferplus"], ConsoleReporter())


def _by_name(entries: tuple[str, ...], option: str) -> dict[str, str]:
    """Return what options of the form NAME=VALUE give by name."""
    wrong = [entry for entry in entries if "=" not in entry]
    if wrong:
        raise ValueError(f"--{option} takes NAME=VALUE. Received: '{wrong[0]}'")
    return dict(entry.split("=", 1) for entry in entries)


def _mine(out: Path, sources: "Sources", reporter: ConsoleReporter) -> None:
    import keras

    from fer_edge.artifacts.detector_run import DETECTOR_MODEL_FILE, read_detector_run
    from fer_edge.artifacts.keras_model import load_keras_model
    from fer_edge.train.detector.fit import predictor
    from fer_edge.train.detector.mine import mine

    plan = read_detector_run(out).plan
    model = load_keras_model(keras, out / DETECTOR_MODEL_FILE)
    count = mine(predictor(model), sources, out, (plan.height, plan.width), plan.strides, reporter=reporter)
    reporter.note(f"{count} false detections mined")
