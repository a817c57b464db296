"""fer-edge bench: .tflite files in; a table of accuracy, latency, size and memory out."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from fer_edge.console import ConsoleReporter, FiniteRange, echo, friendly_errors, note
from fer_edge.option_groups import dataset_options, examples


class BenchCommand(click.Command):
    """``bench MODEL...``, and ``bench compare OLD NEW``, which is another command. ``./compare`` is a file of that name."""

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **options: Any) -> click.Context:
        """Parse the arguments, or let the command compare parse those after its name.

        Args:
            info_name: Name of the command.
            args: Its arguments.
            *rest: As for click.Command.
            **options: As for click.Command.
        """
        if args[:1] != ["compare"]:
            return super().make_context(info_name, args, *rest, **options)
        from fer_edge.commands.bench_compare import command as compare

        return compare.make_context(f"{info_name} compare", args[1:], *rest, **options)


@click.command(
    cls=BenchCommand,
    epilog=examples(
        "fer-edge bench cnn_nano mobilenet_v2",
        "fer-edge bench runs/cnn-fer2013-edge-official-s0 --data fer2013.zip --plot plot.png",
    ),
)
@click.argument("models", nargs=-1, type=click.Path(path_type=Path), metavar="MODEL|FOLDER...")
@click.option("--data", help="Labeled faces to measure the accuracy on: a folder, zip or csv file, or synthetic.")
@click.option("--protocol", help="paper, subject, official or all  [default: that of each model's training]")
@click.option("--split", default="test", show_default=True, help="train, validation, test, private_test or all.")
@dataset_options
@click.option("--threads", default="1", show_default=True, help="Numbers of interpreter threads, for example 1,2,4.")
@click.option("--json", "form", flag_value="json", help="Print JSON.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV.")
@click.option("--markdown", "form", flag_value="markdown", help="Print a markdown table.")
@click.option("--conversion", is_flag=True, help="Show the cost of conversion instead: agreement, worst recall, time.")
@click.option("--record", type=click.Path(path_type=Path), help="Append the raw records to this JSON-lines file.")
@click.option("--from", "stored", type=click.Path(path_type=Path), help="Show stored records; measure nothing.")
@click.option("--plot", type=click.Path(path_type=Path), help="Plot accuracy, latency and size into this image file.")
@click.option("--min-runs", type=click.IntRange(min=1), default=50, show_default=True, help="Minimum number of timed runs.")
@click.option(
    "--min-seconds", type=FiniteRange(min=0), default=2.0, show_default=True, help="Minimum time of the timed runs, seconds."
)
@friendly_errors
def command(
    models: tuple[Path, ...],
    data: str | None,
    threads: str,
    form: str | None,
    conversion: bool,
    record: Path | None,
    stored: Path | None,
    plot: Path | None,
    min_runs: int,
    min_seconds: float,
    **reading: Any,
) -> None:
    """Compare models: accuracy, latency, size and memory.

    MODEL is a .tflite file or the name of a bundled model, such as mobilenet_v2. FOLDER stands for all .tflite files in it.
    Default: the folder runs.

    fer-edge bench compare OLD NEW compares two stored records; see its --help.
    """
    from fer_edge.artifacts.latency_records import LatencyProtocol, read_latency_records
    from fer_edge.benchmarks import latency_tables
    from fer_edge.benchmarks.tables import markdown_table, text_table
    from fer_edge.compare_models import bench

    if stored and record:
        raise ValueError("--from measures nothing, so there is nothing to record. Remove --record or --from")
    if plot and not (stored or data):
        raise ValueError("--plot draws accuracy against latency. Give --data too")
    if stored:
        rows = [latency_tables.derive_row(entry) for entry in read_latency_records(stored)]
    else:
        rows = bench(
            models or ("runs",),
            data,
            threads=_thread_counts(threads),
            latency_protocol=LatencyProtocol(min_runs=min_runs, min_seconds=min_seconds),
            record=record,
            reporter=ConsoleReporter(),
            **reading,
        )
    table = markdown_table if form == "markdown" else text_table
    if form == "json":
        echo(latency_tables.as_json(rows))
    elif form == "csv":
        echo(latency_tables.as_csv(rows))
    elif conversion:
        echo(table(latency_tables.CONVERSION_HEADER, list(map(latency_tables.conversion_cells, rows))))
    else:
        echo(table(latency_tables.HEADER, list(map(latency_tables.cells, rows))))
    if not form:
        note(f"stage {_joined(row.stage for row in rows)}; measured on {_joined(row.board for row in rows)}")
    if plot:
        from fer_edge.benchmarks.plots import plot_rows

        plot_rows(rows, plot)
        note(f"plot: {plot}")


def _joined(texts: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(texts))


def _thread_counts(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(f"--threads takes whole numbers, for example 1,2,4. Received: '{text}'") from error
