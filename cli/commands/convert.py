"""fer-edge convert: convert a run folder to .tflite files that contain their contract and passed the gate."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fer_edge.console import ConsoleReporter, echo, friendly_errors, gate_options, note, warn
from fer_edge.option_groups import GroupedCommand, examples, option_group

if TYPE_CHECKING:
    from fer_edge.convert.write_and_check import ConversionResult

precision_option = option_group("Precision")
int8_option = option_group("int8")
tuning_option = option_group("Fine-tuning")
experimental_option = option_group("Experimental extras")
EXPERIMENTAL = {"prune": "--prune", "cluster": "--cluster", "weight_only": "--weight-only"}


@click.command(
    cls=GroupedCommand,
    epilog=examples(
        "fer-edge convert runs/cnn-fer2013-paper-official-s0 --int8 --float16",
        "fer-edge convert --int8 --calibrate-from my_camera.mp4",
    ),
)
@click.argument("run", required=False, type=click.Path(path_type=Path))
@precision_option("--float32", "precisions", flag_value="float32", multiple=True, help="As trained.")
@precision_option("--float16", "precisions", flag_value="float16", multiple=True, help="Half the size, not faster.")
@precision_option(
    "--dynamic", "precisions", flag_value="dynamic", multiple=True, help="int8 weights, activations quantized at run time."
)
@precision_option(
    "--int8", "precisions", flag_value="int8", multiple=True, help="int8 weights and activations: small and fast."
)
@precision_option("--all", "all_precisions", is_flag=True, help="float32, float16, dynamic and int8.")
@int8_option("--quantizer", help="ai-edge, or tflite for TensorFlow's converter.  [default: ai-edge]")
@int8_option("--keep-float", multiple=True, metavar="LAYER|auto", help="Keep these layers in float; auto finds them.")
@int8_option(
    "--calibrate-from",
    type=click.Path(path_type=Path),
    metavar="FOLDER|VIDEO",
    help="Calibrate with faces of your own camera.  [default: training faces in the run folder]",
)
@tuning_option("--qat", is_flag=True, help="int8: fine-tune with simulated quantization. Needs --data.")
@tuning_option("--data", help="The training data of the run.")
@tuning_option("--epochs", type=int, default=3, show_default=True, help="Passes over the training faces.")
@gate_options
@click.option(
    "--runs", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Where to look for the newest run."
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the files.  [default: the run folder]")
@experimental_option(
    "--experimental", is_flag=True, help="Allow the options of this group. They make no model faster, and most lose accuracy."
)
@experimental_option(
    "--prune", type=float, metavar="PERCENT", help="Set this percentage of the inner weights to zero, then fine-tune."
)
@experimental_option("--cluster", type=int, metavar="N", help="Use N distinct weights per layer, then fine-tune.")
@experimental_option(
    "--weight-only", "precisions", flag_value="weight_only", multiple=True, help="int8 weights, computed in float."
)
@friendly_errors
def command(
    run: Path | None,
    precisions: tuple[str, ...],
    all_precisions: bool,
    experimental: bool,
    max_accuracy_drop: float,
    max_recall_drop: float,
    min_agreement: float,
    **options: Any,
) -> None:
    """Convert RUN, or the newest run, to TFLite. The default precision is int8.

    The gate rejects a file that loses too much accuracy. Such a file keeps a name that ends in .rejected, and the exit status
    is 1.
    """
    from fer_edge.artifacts.gate import Thresholds
    from fer_edge.conversion import convert
    from fer_edge.convert.convert_run import ConvertOptions
    from fer_edge.convert.quantization_recipes import ALL_PRECISIONS

    if not experimental:
        _check_no_experiment({**options, "weight_only": "weight_only" in precisions})
    chosen = ConvertOptions(
        precisions=ALL_PRECISIONS if all_precisions else tuple(dict.fromkeys(precisions)) or ("int8",),
        thresholds=Thresholds(max_accuracy_drop, max_recall_drop, min_agreement),
        **options,
    )
    results = convert(run, chosen, command=("fer-edge", *sys.argv[1:]), reporter=ConsoleReporter())
    for result in results:
        _print_result(result)
    rejected = [str(result.path) for result in results if result.issues]
    if rejected:
        raise RuntimeError(f"the gate rejected {len(rejected)} of {len(results)} files: {', '.join(rejected)}")


def _check_no_experiment(options: dict[str, Any]) -> None:
    used = [option for name, option in EXPERIMENTAL.items() if options[name] not in (None, False)]
    if used:
        verb = "needs" if len(used) == 1 else "need"
        raise ValueError(f"{' and '.join(used)} {verb} --experimental: no file gets faster. Add it, or use --int8")


def _print_result(result: "ConversionResult") -> None:
    metrics = result.contract.metrics
    megabytes, compressed = result.inspection.file_bytes / 1e6, result.inspection.compressed_bytes / 1e6
    line = f"{result.contract.precision:>8}: {megabytes:7.3f} MB ({compressed:.3f} compressed)"
    if metrics is not None:
        accuracy = f"{metrics.before.accuracy:.4f} -> {metrics.after.accuracy:.4f}"
        line += f", accuracy {accuracy}, agreement {metrics.agreement:.4f}"
    echo(f"{line}  {result.path}")
    for warning in result.warnings:
        note(f"{warning.cause}; {warning.remedy}")
    for issue in result.issues:
        warn(f"rejected: {issue.cause}")
    for remedy in dict.fromkeys(issue.remedy for issue in result.issues):
        note(remedy)
