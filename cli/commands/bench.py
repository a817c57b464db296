"""fer-edge bench: .tflite files in; a table of accuracy, latency, size and memory out."""

from collections.abc import Iterable
from pathlib import Path

import click

from fer_edge.console import FiniteRange, friendly_errors, note, progress_bar, report_evaluation_set, report_skipped
from fer_edge.table import text_table


@click.command()
@click.argument("models", nargs=-1, type=click.Path(path_type=Path), metavar="MODEL|FOLDER...")
@click.option("--data", help="Labelled faces for accuracy and macro F1; without it they are not measured.")
@click.option("--split", "split_name", help="paper, subject, official or all.  [default: as each model was trained]")
@click.option("--part", default="test", show_default=True, help="train, validation, test, private_test or all.")
@click.option("--map", "maps", multiple=True, metavar="CLASS=LABEL", help="Rename a class of the data; CLASS=- drops it.")
@click.option("--threads", default="1", show_default=True, help="Numbers of threads, for example 1,2,4.")
@click.option("--json", "form", flag_value="json", help="Print JSON.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV.")
@click.option("--markdown", "form", flag_value="markdown", help="Print a markdown table.")
@click.option("--conversion", is_flag=True, help="Show what conversion cost instead: agreement, worst recall, time.")
@click.option("--record", type=click.Path(path_type=Path), help="Append the raw records to this JSON-lines file.")
@click.option("--from", "stored", type=click.Path(path_type=Path), help="Make the table from stored records; measure nothing.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw accuracy, latency and size into this picture file.")
@click.option("--min-runs", type=click.IntRange(min=1), default=50, show_default=True, help="Counted runs at least.")
@click.option("--min-seconds", type=FiniteRange(min=0), default=2.0, show_default=True, help="Counted time at least.")
@friendly_errors
def command(
    models: tuple[Path, ...],
    data: str | None,
    split_name: str | None,
    part: str,
    maps: tuple[str, ...],
    threads: str,
    form: str | None,
    conversion: bool,
    record: Path | None,
    stored: Path | None,
    plot: Path | None,
    min_runs: int,
    min_seconds: float,
) -> None:
    """Compare models. A folder stands for all .tflite files in it; without any: the folder runs.

    A name, as mobilenet_v2, is a model that comes with fer-edge.
    """
    from fer_edge.benchmarks.latency_records import Record, append_records, derive_row, read_records
    from fer_edge.benchmarks.latency_tables import (
        CONVERSION_HEADER,
        HEADER,
        as_csv,
        as_json,
        as_markdown,
        cells,
        conversion_cells,
        plot_rows,
    )
    from fer_edge.benchmarks.measure import measure_model
    from fer_edge.benchmarks.protocol import Protocol

    if stored and record:
        raise ValueError("--from measures nothing, so there is nothing to --record")
    if plot and not (stored or data):
        raise ValueError("--plot draws accuracy against latency. Give --data too, the faces to measure accuracy on")
    records: list[Record] = read_records(stored) if stored else []
    if not stored:
        files = _model_files(models or (_runs(),))
        counts = _thread_counts(threads)
        protocol = Protocol(min_runs=min_runs, min_seconds=min_seconds)
        accuracies = _accuracies(files, data, maps, split_name, part) if data else {}
        with progress_bar("measuring") as progress:
            for done, (path, count) in enumerate((path, count) for path in files for count in counts):
                progress(done, len(files) * len(counts))
                records.append({**measure_model(path, count, protocol), **accuracies.get(path, {})})
                if record:
                    append_records(record, records[-1:])
    rows = [derive_row(entry) for entry in records]
    if form in ("json", "csv"):
        click.echo(as_json(rows) if form == "json" else as_csv(rows))
    else:
        header, lines = (CONVERSION_HEADER, map(conversion_cells, rows)) if conversion else (HEADER, map(cells, rows))
        click.echo((as_markdown if form else text_table)(header, list(lines)))
    if not form:
        note(f"stage {_joined(row.stage for row in rows)}; measured on {_joined(row.board for row in rows)}")
    if plot:
        plot_rows(rows, plot)
        note(f"plot: {plot}")


def _joined(texts: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(texts))


def _runs() -> Path:
    runs = Path("runs")
    if not runs.is_dir():
        raise FileNotFoundError("no folder 'runs' here. Name a model or a folder: fer-edge bench cnn_nano mobilenet_v2")
    return runs


def _model_files(paths: tuple[Path, ...]) -> list[Path]:
    from fer_edge.edge_runtime.find_model import find_model

    files: list[Path] = []
    for path in paths:
        found = sorted(path.rglob("*.tflite")) if path.is_dir() else [find_model(path)]
        if not found:
            raise FileNotFoundError(f"the folder '{path}' holds no .tflite file. Make some: fer-edge convert RUN --all")
        files += found
    return files


def _thread_counts(text: str) -> list[int]:
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 1:
        raise ValueError(f"--threads takes whole numbers from 1, for example 1,2,4. Received: '{text}'")
    return counts


def _accuracies(
    files: list[Path], data: str, maps: tuple[str, ...], split_name: str | None, part: str
) -> dict[Path, dict[str, object]]:
    from fer_edge.train.datasets import load_faces, parse_label_map
    from fer_edge.train.evaluate_model import evaluate_model

    with progress_bar("reading faces") as progress:
        faces = load_faces(data, parse_label_map(maps), progress)
    report_skipped(faces.skipped, len(faces))
    result: dict[Path, dict[str, object]] = {}
    for path in files:
        with progress_bar(f"evaluating {path.name}") as progress:
            figures = evaluate_model(path, faces, split_name, part, progress=progress).figures
        report_evaluation_set(path, figures)
        result[path] = {
            "accuracy": figures["accuracy"],
            "macro_f1": figures["macro"]["f1"],
            "evaluated": {name: figures[name] for name in ("data", "split", "part", "count", "warning")},
        }
    return result
