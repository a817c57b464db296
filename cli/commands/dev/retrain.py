"""fer-edge dev retrain: a finished run once more, on train and validation together."""

import sys
import time
from pathlib import Path

import click

from fer_edge.console import ConsoleReporter, FiniteRange, echo, friendly_errors
from fer_edge.option_groups import examples


@click.command(
    epilog=examples(
        "fer-edge dev retrain runs/cnn-fer2013-edge-official-s0 --data fer2013.zip",
        "fer-edge dev retrain runs/cnn-fer2013-edge-official-s0 --data fer2013.zip --out final --resume",
    )
)
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", required=True, help="The faces that the run was trained on.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("final"), show_default=True, help="Folder for the run.")
@click.option("--resume", is_flag=True, help="Continue a stopped run.")
@click.option("--stop-after", type=FiniteRange(min=0), metavar="SECONDS", help="Stop with a checkpoint.")
@friendly_errors
def command(run: Path, data: str, out: Path, resume: bool, stop_after: float | None) -> None:
    """Train the finished RUN again, with its validation faces in training.

    Epochs, temperature and the threshold for "unsure" are those of RUN, which chose them on validation. The validation
    metrics of the new run are of faces that it was trained on, so only its test metrics count.
    """
    from fer_edge.train.retrain import RetrainOptions, retrain

    stop_at = None if stop_after is None else time.monotonic() + stop_after
    options = RetrainOptions(out, resume, stop_at, ("fer-edge", *sys.argv[1:]))
    trained = retrain(run, data, options, ConsoleReporter())
    test = trained.results.metrics.test
    echo(f"{trained.record.plan.network}: test accuracy {test.accuracy:.4f}, macro F1 {test.macro.f1:.4f} -> {trained.folder}")
