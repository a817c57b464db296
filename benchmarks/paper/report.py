"""Write the comparison page, its figure, CSV and appendix, and model cards from stored records."""

from collections.abc import Sequence
from pathlib import Path

from fer_edge.artifacts.accuracy_records import read_accuracy_records
from fer_edge.artifacts.atomic_write import atomic_write
from fer_edge.artifacts.latency_records import read_latency_records
from fer_edge.artifacts.run_folder import finished_runs, is_run_folder
from fer_edge.benchmarks.experiment_log import append_trainings, latest_evaluations
from fer_edge.benchmarks.model_card import model_card
from fer_edge.benchmarks.paper.comparison_page import SELECTION, compare_networks, comparison_page, plot_networks
from fer_edge.benchmarks.paper.paper_tables import paper_tables
from fer_edge.benchmarks.paper.series import all_series, compared_runs, series_csv
from fer_edge.edge_runtime.find_model import bundled_models

DATA = "_fer2013"  # the comparison is about the models of this data


def add_runs(results: Path, paths: Sequence[Path]) -> int:
    """Append the records of runs to the log.

    Args:
        results: The JSON-lines file of accuracy records.
        paths: Run folders, or folders whose finished runs are added.

    Returns:
        The number of records appended.
    """
    folders = [folder for path in paths for folder in ([] if is_run_folder(path) else finished_runs(path)) or [path]]
    return append_trainings(results, folders)


def write_report(results: Path, latencies: Path, out: Path, cards: Sequence[Path] = ()) -> list[Path]:
    """Write the comparison page, its figure, CSV and appendix, and model cards.

    Args:
        results: JSON-lines file of accuracy records.
        latencies: JSON-lines file of latency records of the files in models/.
        out: The page. Figure and CSV have the same name with another suffix; the appendix ends in ``-details.md``.
        cards: .tflite files, each of which gets a card next to it.

    Returns:
        The files written.

    Raises:
        FileNotFoundError: If there are no records, or a file is missing.
        ValueError: If a file is damaged, or there is no record of a model that needs a card.
    """
    trainings, evaluations = read_accuracy_records(results)
    if not trainings and not evaluations:
        raise FileNotFoundError(f"no records in '{results}'. Add runs: fer-edge dev report RUN...")
    evaluations = latest_evaluations(evaluations)
    texts = {model.with_suffix(".md"): model_card(model, trainings, evaluations) for model in cards}
    runs = compared_runs(trainings, evaluations)
    groups = all_series(runs)
    files = {name.removesuffix(DATA): path for name, path in bundled_models().items() if name.endswith(DATA)}
    rows = compare_networks(groups, files, read_latency_records(latencies))
    shown = [series for row in rows for series in (row.paper, row.subject) if series is not None]
    figure, details = out.with_suffix(".png"), out.with_name(f"{out.stem}-details.md")
    texts[out] = comparison_page(rows, figure.name, details.name)
    texts[details] = f"{paper_tables(runs, trainings, evaluations, str(results))}\n{SELECTION}"
    texts[out.with_suffix(".csv")] = series_csv(groups, shown, evaluations)
    for path, text in texts.items():
        atomic_write(path, text)
    plot_networks(rows, figure)
    return [*texts, figure]
