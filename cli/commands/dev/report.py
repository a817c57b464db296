"""fer-edge dev report: stored records in; the comparison page, the published tables and model cards out."""

from pathlib import Path

import click

from fer_edge.console import echo, friendly_errors, note
from fer_edge.option_groups import examples

RESULTS = Path("benchmarks/results/accuracy.jsonl")
LATENCIES = Path("benchmarks/results/shipped_speed.jsonl")


@click.command(epilog=examples("fer-edge dev report", "fer-edge dev report runs --card models/cnn_fer2013_int8.tflite"))
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path), metavar="[RUN...]")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, show_default=True, help="Accuracy records.")
@click.option("--latencies", type=click.Path(path_type=Path), default=LATENCIES, show_default=True, help="Latency records.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("docs/comparison.md"), show_default=True, help="The page.")
@click.option(
    "--card", "cards", multiple=True, type=click.Path(path_type=Path), help="Write the card of this .tflite file next to it."
)
@friendly_errors
def command(runs: tuple[Path, ...], results: Path, latencies: Path, out: Path, cards: tuple[Path, ...]) -> None:
    """Write the comparison page with its figure, CSV and appendix, and model cards, from stored records.

    Each RUN, or each finished run in a folder of runs, is added to the accuracy records first.
    """
    from fer_edge.benchmarks.paper.report import add_runs, write_report

    if runs:
        note(f"{add_runs(results, runs)} records added to {results}")
    for path in write_report(results, latencies, out, cards):
        echo(path)
