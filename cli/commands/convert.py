"""fer-edge convert: convert a run folder to .tflite files that contain their contract and passed the gate."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fer_edge.console import ConsoleReporter, echo, friendly_errors, gate_options, note, warn
from fer_edge.option_groups import GroupedCommand, examples, option_group

if TYPE_CHECKING:
    from fer_edge.artifacts.gate import Thresholds
    from fer_edge.convert.npu.compile_model import NpuResult
    from fer_edge.convert.npu.targets import NpuTarget
    from fer_edge.convert.write_and_check import ConversionResult

precision_option = option_group("Precision")
int8_option = option_group("int8")
tuning_option = option_group("Fine-tuning")
npu_option = option_group("NPU")
experimental_option = option_group("Experimental extras")
EXPERIMENTAL = {"prune": "--prune", "cluster": "--cluster", "weight_only": "--weight-only"}


@click.command(
    cls=GroupedCommand,
    epilog=examples(
        "fer-edge convert runs/cnn-fer2013-paper-official-s0 --int8 --float16",
        "fer-edge convert cnn_nano --npu qualcomm:SM8750 --data fer2013.zip",
    ),
)
@click.argument("run", required=False, type=click.Path(path_type=Path), metavar="[RUN|MODEL]")
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
@tuning_option("--data", help="The training data of the run. With MODEL: labeled faces for the simulator of --npu.")
@tuning_option("--epochs", type=int, default=3, show_default=True, help="Passes over the training faces.")
@npu_option(
    "--npu", "npus", multiple=True, metavar="NPU|list", help="Compile for this NPU, such as ethos-u55-128. list: show all."
)
@npu_option(
    "--npu-faces", type=click.IntRange(min=20), default=200, show_default=True, help="Maximum number of faces to simulate."
)
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
    npus: tuple[str, ...],
    npu_faces: int,
    max_accuracy_drop: float,
    max_recall_drop: float,
    min_agreement: float,
    **options: Any,
) -> None:
    """Convert RUN, or the newest run, to TFLite. The default precision is int8.

    The gate rejects a file that loses too much accuracy. Such a file keeps a name that ends in .rejected, and the exit status
    is 1.

    --npu then compiles the int8 file for an NPU. MODEL is a .tflite file or the name of a bundled model to compile.

    For a face detector, see: fer-edge convert detector --help.
    """
    from fer_edge.artifacts import gate
    from fer_edge.convert.npu.targets import LIST, find_target
    from fer_edge.convert.quantization_recipes import ALL_PRECISIONS
    from fer_edge.npu_conversion import compile_model, is_model
    from fer_edge.npu_report import print_license, print_npu_result, print_targets

    if LIST in npus:
        print_targets()
        return
    if not experimental:
        _check_no_experiment({**options, "weight_only": "weight_only" in precisions})
    targets = tuple(dict.fromkeys(map(find_target, npus)))
    thresholds = gate.Thresholds(max_accuracy_drop, max_recall_drop, min_agreement)
    print_license(targets)
    files: list[ConversionResult | NpuResult] = []
    if targets and run is not None and is_model(run):
        _check_no_conversion({**options, "precision": precisions or all_precisions})
        compiled = compile_model(run, targets, options["data"], npu_faces, thresholds, options["out"], ConsoleReporter())
    else:
        chosen = ALL_PRECISIONS if all_precisions else tuple(dict.fromkeys(precisions)) or ("int8",)
        results, compiled = _convert(run, chosen, targets, npu_faces, thresholds, options)
        files += results
    for result in compiled:
        print_npu_result(result)
    files += compiled
    rejected = [str(result.path) for result in files if result.issues]
    if rejected:
        raise RuntimeError(f"the gate rejected {len(rejected)} of {len(files)} files: {', '.join(rejected)}")


def _convert(
    run: Path | None,
    precisions: tuple[str, ...],
    targets: "Sequence[NpuTarget]",
    npu_faces: int,
    thresholds: "Thresholds",
    options: dict[str, Any],
) -> "tuple[list[ConversionResult], list[NpuResult]]":
    """Convert a run, print the results, and compile the int8 files for the targets."""
    from fer_edge.conversion import convert
    from fer_edge.convert.convert_run import ConvertOptions
    from fer_edge.convert.npu.targets import check_installed
    from fer_edge.npu_conversion import compile_results
    from fer_edge.npu_report import print_integer_cost

    if targets and "int8" not in precisions:
        raise ValueError(f"--npu compiles the int8 file. Received: {', '.join(precisions)}. Add --int8")
    check_installed(targets)
    integer_only = ", ".join(target.name for target in targets if target.integer_only)
    if integer_only and options["quantizer"] is None:
        options = {**options, "quantizer": "tflite"}
    chosen = ConvertOptions(precisions=precisions, thresholds=thresholds, **options)
    results = convert(run, chosen, command=("fer-edge", *sys.argv[1:]), reporter=ConsoleReporter())
    for result in results:
        _print_result(result)
    if not targets:
        return results, []
    int8 = [result for result in results if result.contract.quantization.recipe.io_dtype == "uint8"]
    if integer_only:
        print_integer_cost(int8, integer_only)
    return results, compile_results(run, options["runs"], int8, targets, npu_faces, thresholds, ConsoleReporter())


def _check_no_conversion(options: dict[str, Any]) -> None:
    """Check that the user gave no option of a conversion: a model file is converted already."""
    names = ("precision", "quantizer", "keep_float", "calibrate_from", "qat", "prune", "cluster")
    used = [name.replace("_", "-") for name in names if options[name]]
    if used:
        raise ValueError(
            f"a .tflite file is converted already, so --npu only compiles it. Received: {', '.join(used)}. Remove it, or give "
            "the run folder"
        )


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
