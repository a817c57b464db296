"""fer-edge convert detector: the run folder of a face detector in, a .tflite file out."""

from pathlib import Path

import click

from fer_edge.console import ConsoleReporter, echo, friendly_errors, note, warn
from fer_edge.option_groups import examples


@click.command(
    epilog=examples(
        "fer-edge convert detector runs/detector",
        "fer-edge convert detector runs/detector --out models --score-threshold 0.6",
    )
)
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the file  [default: the run folder]")
@click.option("--score-threshold", type=float, default=0.5, show_default=True, help="Score from which a candidate is a face.")
@click.option(
    "--second-look-threshold", type=float, default=0.03, show_default=True, help="Score from which it is worth a second look."
)
@click.option("--max-found-drop", type=float, default=4.0, show_default=True, help="Gate: allowed drop of found faces, points.")
@click.option("--integer-only", is_flag=True, help="Int8 outputs too, for NPUs without float operators.")
@friendly_errors
def command(
    run: Path,
    out: Path | None,
    score_threshold: float,
    second_look_threshold: float,
    max_found_drop: float,
    integer_only: bool,
) -> None:
    """Convert the detector in RUN to int8, calibrate its score, and check it on the validation scenes of the run."""
    from fer_edge.artifacts.detector_run import read_detector_run
    from fer_edge.train.start_keras import check_keras, start_keras

    read_detector_run(run)
    check_keras()
    start_keras()
    from fer_edge.convert.detector import DetectorThresholds, convert_detector, summary_line

    result = convert_detector(
        run,
        out,
        thresholds=DetectorThresholds(found_points=max_found_drop),
        score_threshold=score_threshold,
        second_look_threshold=second_look_threshold,
        integer_only=integer_only,
        reporter=ConsoleReporter(),
    )
    metrics = result.contract.metrics
    if metrics is not None:
        echo(f"Keras: {summary_line(metrics.before)}")
        echo(f" int8: {summary_line(metrics.after)}")
    echo(f"{result.file_bytes} bytes: {result.path}")
    for issue in result.issues:
        warn(f"rejected: {issue.cause}")
        note(issue.remedy)
    if result.issues:
        raise RuntimeError(f"the gate rejected {result.path}")
