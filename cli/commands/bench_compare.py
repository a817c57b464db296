"""fer-edge bench compare: two records of the same files in; what has become slower or less accurate out."""

import json
from pathlib import Path

import click

from fer_edge.console import FiniteRange, echo, friendly_errors, note
from fer_edge.option_groups import examples


@click.command(
    epilog=examples(
        "fer-edge bench compare old.jsonl new.jsonl",
        "fer-edge bench compare old.jsonl new.jsonl --allow 10 --allow-accuracy 0.5 --json",
    )
)
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@click.option(
    "--allow",
    type=FiniteRange(min=0),
    default=5.0,
    show_default=True,
    help="Increase of the median latency that passes, percent.",
)
@click.option(
    "--allow-accuracy", type=FiniteRange(0, 100), default=0.0, show_default=True,
    help="Drop of the accuracy that passes, percentage points.",
)  # fmt: skip
@click.option("--stage", default="invoke", show_default=True, help="invoke, detect, preprocess, classify or end_to_end.")
@click.option("--json", "form", flag_value="json", help="Print JSON.")
@click.option("--markdown", "form", flag_value="markdown", help="Print markdown tables.")
@friendly_errors
def command(old: Path, new: Path, allow: float, allow_accuracy: float, stage: str, form: str | None) -> None:
    """Compare two records of the same files on the same board, each made with fer-edge bench --record.

    Exit status 1: a file is slower by more than --allow, its accuracy has dropped by more than --allow-accuracy, or it does
    not run anymore. Noise alone does not count: the whole 95 % interval must be above --allow, and the drop must be
    significant in McNemar's test.

    Several measurements of a file in one record are rounds. For reliable intervals, measure OLD and NEW in turn, five times
    or more.
    """
    from fer_edge.artifacts.latency_records import read_latency_records
    from fer_edge.artifacts.typed_json import to_data
    from fer_edge.benchmarks.comparison_tables import comparison_notes, comparison_text
    from fer_edge.benchmarks.record_comparison import AllowedChange, compare_records

    allowed = AllowedChange(allow / 100, allow_accuracy / 100)
    comparison = compare_records(read_latency_records(old), read_latency_records(new), allowed, stage)
    if form == "json":
        echo(json.dumps({"worse": comparison.worse, **to_data(comparison)}, indent=1))
    else:
        echo(comparison_text(comparison, markdown=form == "markdown"))
        for text in comparison_notes(comparison):
            note(text)
    if comparison.worse:
        raise click.exceptions.Exit(1)
