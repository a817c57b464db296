"""fer-edge report: stored records in; the published tables beside ours, their plot and model cards out."""

from pathlib import Path

import click

from fer_edge.console import friendly_errors, note

RESULTS = Path("benchmarks/results/accuracy.jsonl")


@click.command()
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path), metavar="[RUN...]")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, show_default=True, help="The records.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("docs/comparison.md"), show_default=True, help="The tables."
)
@click.option(
    "--card", "cards", multiple=True, type=click.Path(path_type=Path), help="Write MODEL.md beside this .tflite file."
)
@friendly_errors
def command(runs: tuple[Path, ...], results: Path, out: Path, cards: tuple[Path, ...]) -> None:
    """Make the published tables again, with ours beside them.

    Each RUN, or each finished run in a folder of runs, is added to the records first.
    """
    from fer_edge.artifacts.atomic_write import atomic_write
    from fer_edge.benchmarks.experiment_log import append_trainings, read_evaluations, read_trainings
    from fer_edge.benchmarks.model_card import model_card
    from fer_edge.benchmarks.paper.paper_tables import comparison, plot_comparison
    from fer_edge.train.recipes import to_cli_args

    if runs:
        note(f"{append_trainings(results, _run_folders(runs))} records added to {results}")
    trainings, evaluations = read_trainings(results), read_evaluations(results)
    if not trainings and not evaluations:
        raise FileNotFoundError(f"no records in '{results}'. Add runs: fer-edge report RUN...")
    texts = {model.with_suffix(".md"): model_card(model, trainings, evaluations, to_cli_args) for model in cards}
    picture = out.with_suffix(".png")
    text = comparison(trainings, evaluations, to_cli_args)
    plot_comparison(trainings, picture, to_cli_args)
    atomic_write(out, f"{text}\n![Test accuracy, published and ours]({picture.name})\n")
    for path, card in texts.items():
        atomic_write(path, card)
    for path in (out, picture, *texts):
        click.echo(path)


def _run_folders(paths: tuple[Path, ...]) -> list[Path]:
    """Return run folders, for a folder of runs the finished ones in it."""
    folders: list[Path] = []
    for path in paths:
        inside = [] if (path / "run.json").is_file() else sorted(file.parent for file in path.glob("*/model.keras"))
        folders += inside or [path]
    return folders
