"""What convert prints about NPUs. A latency is never printed as measured: no NPU was at hand."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fer_edge.artifacts.contract import ModelError, read_contract
from fer_edge.benchmarks.tables import text_table
from fer_edge.console import echo, note, warn
from fer_edge.convert.npu import targets as npu
from fer_edge.convert.npu.qualcomm import LICENSE

if TYPE_CHECKING:
    from fer_edge.convert.npu.compile_model import NpuResult
    from fer_edge.convert.write_and_check import ConversionResult


def print_targets() -> None:
    """Print the targets, what each needs, and the SDK packages that are installed without content."""
    rows = npu.target_rows()
    echo(text_table(("NPU", "device", "compiler"), [row[:3] for row in rows]))
    for vendor in npu.VENDORS.values():
        echo(f"{vendor.title}: {vendor.install}")
    for name in npu.empty_sdks():
        warn(
            f"{name} is installed without content: its setup could not download the content from the vendor. fer-edge does not "
            f"need it. Remove it: pip uninstall {name}"
        )


def print_license(targets: Sequence[npu.NpuTarget]) -> None:
    """Print the condition of Qualcomm's license, if a target is Qualcomm's."""
    if any(target.vendor == npu.QUALCOMM for target in targets):
        note(LICENSE)


def print_npu_result(result: "NpuResult") -> None:
    """Print one compiled file."""
    summary, parts = result.summary, "partition" if result.summary.partitions == 1 else "partitions"
    line = (
        f"{summary.target}: {summary.npu_operators} of {summary.operators} operators on the NPU, {summary.partitions} {parts}, "
        f"{result.file_bytes:,} bytes"
    )
    echo(f"{line}  {result.path}")
    if summary.capacity_kib is not None:
        parts = ", ".join(f"{name} {value:,.0f}" for name, value in summary.memory_kib.items())
        used = sum(summary.memory_kib.values())
        fits = "yes" if used <= summary.capacity_kib else "no"
        echo(f"  fits in chip: {fits}, {used:,.0f} of {summary.capacity_kib:,.0f} KiB ({parts})")
    elif summary.memory_kib:
        echo("  " + ", ".join(f"{name} {value:,.0f} KiB" for name, value in summary.memory_kib.items()))
    if summary.estimated_ms is not None:
        echo(f"  latency not measured; {summary.estimated_ms:g} ms estimated by vela for the part on the NPU")
    else:
        echo("  latency not measured")
    metrics = summary.simulated
    if metrics is not None:
        echo(
            f"  {summary.simulator}, {metrics.faces} faces: {100 * metrics.agreement:.1f} % keep the label of the file for the "
            f"CPU, accuracy {metrics.before.accuracy:.4f} -> {metrics.after.accuracy:.4f}"
        )
    echo(f"  for the CPU: {result.fallback}")
    for text in result.notes:
        note(text)
    for issue in result.issues:
        warn(f"rejected: {issue.cause}")
    for remedy in dict.fromkeys(issue.remedy for issue in result.issues):
        note(remedy)


def print_integer_cost(results: "Sequence[ConversionResult]", names: str) -> None:
    """Print the cost of the integer recipe, next to that of the default recipe if the folder has its file.

    Args:
        results: The files of the integer recipe.
        names: The targets that need it, with commas.
    """
    for result in results:
        metrics = result.contract.metrics
        if metrics is None:
            continue
        text = (
            f"{names} runs integers only, so the last layer is in int8 too (--quantizer tflite). Against Keras: agreement "
            f"{metrics.agreement:.4f}, accuracy {metrics.before.accuracy:.4f} -> {metrics.after.accuracy:.4f}"
        )
        default = result.path.with_name(result.path.name.replace("_int8-tflite", "_int8"))
        try:
            other = read_contract(default).metrics if default != result.path else None
        except (FileNotFoundError, ModelError):
            other = None
        if other is not None:
            text += f". With the last layer in float: agreement {other.agreement:.4f}, accuracy {other.after.accuracy:.4f}"
        note(text)
