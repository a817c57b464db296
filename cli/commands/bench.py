"""fer-edge bench: .tflite files in; a table of accuracy, latency, size and memory out."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fer_edge.console import ConsoleReporter, FiniteRange, echo, friendly_errors, note
from fer_edge.option_groups import GroupedCommand, dataset_options, examples, option_group

if TYPE_CHECKING:
    from fer_edge.benchmarks.foreign_model import ForeignInput
    from fer_edge.benchmarks.latency_tables import BenchmarkRow

measuring_option = option_group("Measuring")
accuracy_option = option_group("Accuracy")
output_option = option_group("Output")


class BenchCommand(GroupedCommand):
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
        "fer-edge bench cnn_nano mobilenet_v2 --baseline mobilenet_v2",
        "fer-edge bench runs --data fer2013.zip --choose 'accuracy >= 0.66, p50 <= 1 ms'",
    ),
)
@click.argument("models", nargs=-1, type=click.Path(path_type=Path), metavar="MODEL|FOLDER...")
@measuring_option("--threads", default="1", show_default=True, help="Numbers of interpreter threads, for example 1,2,4.")
@measuring_option(
    "--backend",
    default="xnnpack",
    show_default=True,
    help="xnnpack, no-xnnpack, compiled-model, tflite-runtime, or several with commas.",
)
@measuring_option("--min-runs", type=click.IntRange(min=1), default=50, show_default=True, help="Minimum number of timed runs.")
@measuring_option(
    "--min-seconds", type=FiniteRange(min=0), default=1.5, show_default=True, help="Minimum time of the timed runs, seconds."
)
@measuring_option(
    "--host",
    "hosts",
    metavar="[USER@]HOST[,...]",
    help="Measure on these boards over ssh, at the same time. fer-edge is deployed there: fer-edge deploy HOST.",
)
@measuring_option("--record", type=click.Path(path_type=Path), help="Append the raw records to this JSON-lines file.")
@measuring_option(
    "--from",
    "stored",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Show stored records; measure nothing. Repeat it to compare boards.",
)
@accuracy_option("--data", help="Labeled faces to measure the accuracy on: a folder, zip or csv file, or synthetic.")
@accuracy_option("--protocol", help="paper, subject, official or all  [default: that of each model's training]")
@accuracy_option("--split", default="test", show_default=True, help="train, validation, test, private_test or all.")
@accuracy_option("--ferplus", metavar="FILE", help="FER+ table: measure on the votes of its annotators, over eight classes.")
@accuracy_option("--input", "color", help="Files of other tools: rgb or gray  [default: from the number of channels]")
@accuracy_option("--range", "value_range", help="Files of other tools: 0..255, 0..1 or -1..1, the values of black and white.")
@accuracy_option(
    "--labels", type=click.Path(path_type=Path), help="Files of other tools: text file, a label per line, in output order."
)
@dataset_options
@output_option("--baseline", metavar="FILE|PRECISION|BACKEND", help="Show the ratio of each latency to this one.")
@output_option("--choose", metavar="CONDITIONS", help="Print the smallest file that meets conditions, and why others do not.")
@output_option("--columns", help="Columns of the table, with commas. A wrong name lists them all.")
@output_option("--modelled", is_flag=True, help="Add times of emulated boards, estimated from the instructions.")
@output_option("--conversion", is_flag=True, help="Show the cost of conversion instead: agreement, worst recall, time.")
@output_option("--json", "form", flag_value="json", help="Print JSON.")
@output_option("--csv", "form", flag_value="csv", help="Print CSV.")
@output_option("--markdown", "form", flag_value="markdown", help="Print a markdown table.")
@output_option("--plot", type=click.Path(path_type=Path), help="Plot accuracy, latency and size into this image file.")
@output_option("--html", "report", type=click.Path(path_type=Path), help="Write a report into this file; it works offline.")
@friendly_errors
def command(models: tuple[Path, ...], plot: Path | None, choose: str | None, **options: Any) -> None:
    """Compare models: accuracy, latency, size and memory.

    MODEL is a .tflite file of any tool or the name of a bundled model, such as mobilenet_v2. FOLDER stands for all .tflite
    files in it. Default: the folder runs.

    fer-edge bench compare OLD NEW compares two stored records; see its --help.
    """
    _check(models, plot, choose, **options)
    from fer_edge.benchmarks.choose import parse_conditions

    conditions = parse_conditions(choose) if choose else []
    shown = {name: options.pop(name) for name in ("columns", "modelled", "conversion", "form")}
    rows = _rows(models, **options)
    if conditions:
        _print_choice(rows, conditions, str(choose))
    else:
        echo(_table(rows, **shown))
    if plot:
        from fer_edge.benchmarks.plots import plot_rows

        plot_rows(rows, plot)
        note(f"plot: {plot}")
    if options["report"]:
        note(f"report: {options['report']}")


def _check(models: Sequence[Path], plot: Path | None, choose: str | None, **options: Any) -> None:
    """Reject combinations of options before anything is measured."""
    if options["stored"] and (options["record"] or models):
        raise ValueError("--from shows stored records and measures nothing. Remove --from, or --record and the models")
    if options["hosts"] and (options["stored"] or options["data"] or options["ferplus"]):
        raise ValueError(
            "--host measures the latency of boards. Remove --from, --data or --ferplus; a file has the same accuracy on a board"
        )
    if options["modelled"] and options["columns"]:
        raise ValueError("--modelled adds a column to the default ones. With --columns, name the column modelled")
    if options["columns"]:
        from fer_edge.benchmarks.bench_table import check_columns

        check_columns(_parts(options["columns"]))
    if choose and (options["form"] or options["conversion"]):
        raise ValueError("--choose prints text, not a table. Remove --json, --csv, --markdown or --conversion")
    if options["report"]:
        from fer_edge.artifacts.atomic_write import check_writable
        from fer_edge.benchmarks import report_figures  # noqa: F401 (a missing package shows now, not after the measurements)

        check_writable(options["report"])
    if plot and not (options["stored"] or options["data"]):
        raise ValueError("--plot draws accuracy against latency. Give --data too")
    if plot:
        from fer_edge.benchmarks.plots import check_plot

        check_plot(plot)
    if options["record"]:
        from fer_edge.artifacts.atomic_write import check_writable

        check_writable(options["record"])


def _rows(
    models: tuple[Path, ...],
    *,
    stored: tuple[Path, ...],
    hosts: str | None,
    threads: str,
    backend: str,
    min_runs: int,
    min_seconds: float,
    color: str | None,
    value_range: str | None,
    labels: Path | None,
    baseline: str | None,
    report: Path | None,
    **reading: Any,
) -> "list[BenchmarkRow]":
    """Measure the models, or read the stored records."""
    from fer_edge.artifacts.latency_records import LatencyProtocol
    from fer_edge.compare_models import bench, bench_on_hosts, read_rows

    if stored:
        return read_rows(stored, baseline, report, ConsoleReporter())
    measuring: dict[str, Any] = {
        "threads": _thread_counts(threads),
        "backends": _parts(backend),
        "latency_protocol": LatencyProtocol(min_runs=min_runs, min_seconds=min_seconds),
        "baseline": baseline,
        "report": report,
        "reporter": ConsoleReporter(),
    }
    if hosts:
        used = {name: reading[name] for name in ("detector", "record")}
        return bench_on_hosts(_parts(hosts), models or ("runs",), **measuring, **used)
    return bench(models or ("runs",), foreign=_foreign_input(color, value_range, labels), **measuring, **reading)


def _foreign_input(color: str | None, value_range: str | None, labels: Path | None) -> "ForeignInput":
    from fer_edge.benchmarks.foreign_model import ForeignInput, read_labels

    return ForeignInput(color, value_range, read_labels(labels) if labels else None)


def _table(rows: "Sequence[BenchmarkRow]", columns: str | None, modelled: bool, conversion: bool, form: str | None) -> str:
    from fer_edge.benchmarks import latency_tables
    from fer_edge.benchmarks.bench_table import bench_table
    from fer_edge.benchmarks.tables import markdown_table, text_table

    if form == "json":
        return latency_tables.as_json(rows)
    if form == "csv":
        return latency_tables.as_csv(rows)
    if conversion:
        table = markdown_table if form == "markdown" else text_table
        return table(latency_tables.CONVERSION_HEADER, list(map(latency_tables.conversion_cells, rows)))
    return bench_table(rows, _parts(columns or ""), modelled, markdown=form == "markdown")


def _print_choice(rows: "Sequence[BenchmarkRow]", conditions: Sequence[Any], text: str) -> None:
    from fer_edge.benchmarks.choose import choose_smallest

    chosen, reasons = choose_smallest(rows, conditions)
    echo("\n".join([chosen or "none", *(f"  {reason}" for reason in reasons)]))
    if chosen is None:
        raise ValueError(f"no file meets '{text}'. The list above has the reasons; measure more files, or lower the limits")


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")] if text else []


def _thread_counts(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(f"--threads takes whole numbers, for example 1,2,4. Received: '{text}'") from error
