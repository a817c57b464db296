"""fer-edge info: print the contract inside a .tflite file."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fer_edge.console import echo, friendly_errors, warn
from fer_edge.option_groups import examples

if TYPE_CHECKING:
    from fer_edge.artifacts.contract import Contract


@click.command(epilog=examples("fer-edge info cnn_nano", "fer-edge info model.tflite --json"))
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the contract as JSON.")
@friendly_errors
def command(model: Path, as_json: bool) -> None:
    """Print the contract of MODEL: network, labels, input, training data, split, accuracy before and after conversion.

    MODEL is a .tflite file, a folder (its newest int8 model), or the name of a bundled model.
    """
    from fer_edge.artifacts.contract import read_contract
    from fer_edge.artifacts.model_file import read_model_file
    from fer_edge.artifacts.printable import printable
    from fer_edge.edge_runtime.find_model import find_model

    path = find_model(model)
    contract = read_contract(path)
    if contract.npu is None:  # the graph of a compiled file is the vendor's business
        contract = read_model_file(path).contract
    if as_json:
        echo(contract.to_json())
        return
    for name, value in _rows(contract, path.stat().st_size):
        echo(f"{name:>14}  {printable(value)}")
    warning = contract.split.leakage.warning()
    if warning:
        warn(warning)


def _rows(contract: "Contract", file_bytes: int) -> list[tuple[str, str]]:
    split, crop, size, metrics = contract.split, contract.crop, contract.image_size, contract.metrics
    counts = f"{split.counts.train} train, {split.counts.validation} validation, {split.counts.test} test"
    rows = [
        ("network", f"{contract.architecture}, {contract.parameters:,} parameters"),
        ("precision", f"{contract.precision} ({contract.quantization.recipe.quantizer} quantizer)"),
        ("file", f"{file_bytes:,} bytes, {_digest(contract)}"),
        ("input", f"{size} x {size} RGB bytes, {crop.convention} box, {crop.training_resolution_px} px faces"),
        ("labels", ", ".join(contract.labels)),
        *([("class map", ", ".join(contract.label_map))] if contract.label_map else []),
        ("training data", f"{contract.data} (fingerprint {contract.data_fingerprint[:12]}), recipe {contract.recipe}"),
        ("protocol", f"{split.title}, seed {split.seed}: {counts}"),
    ]
    if contract.npu is not None:
        found = contract.npu.simulated
        accuracy = f"accuracy {found.after.accuracy:.4f} on {found.faces} faces" if found else "accuracy not known"
        operators = f"{contract.npu.npu_operators} of {contract.npu.operators} operators"
        rows.append(("NPU", f"{contract.npu.target}: {operators}, {accuracy} in the simulator, latency not measured"))
    if contract.unsure_threshold is not None:
        rows.append(("unsure", f"below {contract.unsure_threshold:.2f}"))
    calibrated = "not calibrated" if contract.temperature is None else f"calibrated, temperature {contract.temperature:.3f}"
    if metrics is None:
        return [*rows, ("probabilities", calibrated)]
    before, after = metrics.before, metrics.after
    return [
        *rows,
        ("accuracy", f"{before.accuracy:.4f} in Keras, {after.accuracy:.4f} in this file, {metrics.faces} test faces"),
        ("agreement", f"{metrics.agreement:.4f} with the Keras model"),
        ("probabilities", f"{calibrated}; ECE {before.ece:.4f} in Keras, {after.ece:.4f} in this file"),
        ("recall", ", ".join(_change(label, before.recall.get(label), recall) for label, recall in after.recall.items())),
    ]


def _digest(contract: "Contract") -> str:
    digest = contract.flatbuffer_sha256
    return "no digest: converted by an older fer-edge" if digest is None else f"sha256 {digest[:12]} matches the contract"


def _change(label: str, before: float | None, after: float | None) -> str:
    return f"{label} no faces" if before is None or after is None else f"{label} {before:.2f}->{after:.2f}"
