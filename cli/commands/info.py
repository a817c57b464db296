"""fer-edge info: the contract inside a .tflite file."""

from pathlib import Path
from typing import Any

import click

from fer_edge.console import friendly_errors, warn


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="The contract as JSON.")
@friendly_errors
def command(model: Path, as_json: bool) -> None:
    """Print what MODEL says of itself: network, labels, input, training data, split, accuracy before and after.

    MODEL is a .tflite file, a folder (its newest int8 model), or the name of a model that comes with fer-edge.
    """
    from fer_edge.artifacts.contract import read_contract
    from fer_edge.edge_runtime.find_model import find_model

    model = find_model(model)
    contract = read_contract(model)
    if as_json:
        click.echo(contract.to_json())
        return
    split, metrics = contract.split, contract.metrics
    size = contract.image_size
    fold = "" if split["fold"] is None else f", fold {split['fold']} of {split['folds']}"
    rows = [
        ("network", f"{contract.architecture}, {contract.parameters:,} parameters"),
        ("precision", f"{contract.precision} ({contract.quantization['quantizer']} quantizer)"),
        ("file", f"{model.stat().st_size:,} bytes"),
        (
            "input",
            f"{size} x {size} RGB bytes, {contract.crop.convention} box, {contract.crop.training_resolution_px} px faces",
        ),
        ("labels", ", ".join(contract.labels)),
        ("training data", f"{contract.data} (fingerprint {contract.data_fingerprint[:12]}), recipe {contract.recipe}"),
        (
            "split",
            f"{split['name']}, seed {split['seed']}{fold}: " + ", ".join(f"{n} {part}" for part, n in split["counts"].items()),
        ),
        (
            "accuracy",
            f"{metrics['accuracy_before']:.4f} in Keras, {metrics['accuracy_after']:.4f} here, {metrics['faces']} test faces",
        ),
        ("agreement", f"{metrics['agreement']:.4f} with the Keras model"),
        ("probabilities", _calibration(contract.temperature, metrics)),
    ]
    for name, value in rows:
        click.echo(f"{name:>14}  {value}")
    click.echo(f"{'recall':>14}  " + ", ".join(_recalls(metrics)))
    if split["leakage"]["leaky"]:
        warn(
            f"its test set is not independent of its training: {split['leakage']['shared_subjects'] or 0} shared people, "
            f"{split['leakage']['identical_pictures']} identical pictures"
        )


def _calibration(temperature: float | None, metrics: dict[str, Any]) -> str:
    """Return how far the probabilities can be believed; files made before ECE was measured tell the temperature alone."""
    told = "not calibrated" if temperature is None else f"calibrated by a temperature of {temperature:.3f}"
    if "ece_after" not in metrics:
        return told
    return f"{told}; expected calibration error {metrics['ece_before']:.4f} in Keras, {metrics['ece_after']:.4f} here"


def _recalls(metrics: dict[str, dict[str, float | None]]) -> list[str]:
    told = []
    for label, after in metrics["recall_after"].items():
        before = metrics["recall_before"][label]
        told.append(f"{label} " + ("no face" if after is None or before is None else f"{before:.2f}->{after:.2f}"))
    return told
