"""fer-edge bench compare: two records or two models in; what has become slower or less accurate out."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fer_edge.console import ConsoleReporter, FiniteRange, echo, friendly_errors, note
from fer_edge.option_groups import examples

if TYPE_CHECKING:
    from fer_edge.benchmarks.record_comparison import AllowedChange, RecordComparison


@click.command(
    epilog=examples(
        "fer-edge bench compare old.jsonl new.jsonl",
        "fer-edge bench compare old.tflite new.tflite --allow 10 --data fer2013.zip --allow-accuracy 0.5",
    )
)
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@click.option("--allow", type=FiniteRange(min=0), default=5.0, show_default=True, help="Slowdown that passes, percent.")
@click.option(
    "--allow-accuracy",
    type=FiniteRange(0, 100),
    default=0.0,
    show_default=True,
    help="Drop of the accuracy that passes, percentage points.",
)
@click.option("--stage", help="Records: invoke, detect, preprocess, classify or end_to_end  [default: invoke]")
@click.option("--data", help="Models: labeled faces to compare the accuracy on, such as fer2013.zip or synthetic.")
@click.option("--threads", type=click.IntRange(min=1), help="Models: number of interpreter threads  [default: 1]")
@click.option("--min-seconds", type=FiniteRange(min=0), help="Models: minimum time of the timed runs, seconds  [default: 4]")
@click.option("--json", "form", flag_value="json", help="Print JSON.")
@click.option("--markdown", "form", flag_value="markdown", help="Print markdown tables.")
@friendly_errors
def command(old: Path, new: Path, allow: float, allow_accuracy: float, form: str | None, **options: Any) -> None:
    """Compare OLD and NEW: two records of the same files on the same board, or two models.

    Records are those of fer-edge bench --record. Several measurements of a file in one record are rounds: measure OLD and NEW
    in turn, five times or more. Models are .tflite files, names of bundled models or folders; they are run in turn here, which
    shows smaller changes.

    Exit status 1: NEW is slower by more than --allow, its accuracy has dropped by more than --allow-accuracy, or it does not
    run anymore. Noise alone does not count: the whole 95 % interval must be above --allow, and the drop must be significant
    in McNemar's test.
    """
    from fer_edge.artifacts.typed_json import to_data
    from fer_edge.benchmarks.comparison_tables import comparison_notes, comparison_text
    from fer_edge.benchmarks.record_comparison import AllowedChange
    from fer_edge.compare_files import is_model

    if is_model(old) != is_model(new):
        raise ValueError(f"two models or two records can be compared, not one of each. Received: '{old}' and '{new}'")
    compare = _compare_models if is_model(old) else _compare_records
    comparison = compare(old, new, AllowedChange(allow / 100, allow_accuracy / 100), **options)
    if form == "json":
        echo(json.dumps({"worse": comparison.worse, **to_data(comparison)}, indent=1))
    else:
        echo(comparison_text(comparison, markdown=form == "markdown"))
        for text in comparison_notes(comparison):
            note(text)
    if comparison.worse:
        raise click.exceptions.Exit(1)


def _compare_records(old: Path, new: Path, allowed: "AllowedChange", stage: str | None, **unused: Any) -> "RecordComparison":
    from fer_edge.artifacts.latency_records import read_latency_records
    from fer_edge.benchmarks.record_comparison import compare_records

    _reject(unused, "measure models", "OLD and NEW are records")
    return compare_records(read_latency_records(old), read_latency_records(new), allowed, stage or "invoke")


def _compare_models(
    old: Path,
    new: Path,
    allowed: "AllowedChange",
    data: str | None,
    threads: int | None,
    min_seconds: float | None,
    **unused: Any,
) -> "RecordComparison":
    from fer_edge.benchmarks.measure_in_turn import IN_TURN
    from fer_edge.compare_files import compare_files

    _reject(unused, "read records", "OLD and NEW are models")
    protocol = IN_TURN if min_seconds is None else replace(IN_TURN, min_seconds=min_seconds)
    return compare_files(old, new, allowed, threads=threads or 1, protocol=protocol, data=data, reporter=ConsoleReporter())


def _reject(options: dict[str, Any], purpose: str, kind: str) -> None:
    """Reject options of the other kind of comparison."""
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value is not None]
    if given:
        raise ValueError(f"{', '.join(given)}: only for comparisons that {purpose}, but {kind}. Remove the option")
