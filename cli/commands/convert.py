"""fer-edge convert: a run folder in; .tflite files with their contract out, each right or refused."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fer_edge.console import friendly_errors, gate_options, note, progress_bar, start_keras, warn

if TYPE_CHECKING:
    from fer_edge.convert.convert_run import ConversionResult
    from fer_edge.convert.run_folder import Run
    from fer_edge.edge_runtime.images import Image

MOST_LAYERS = 10


@click.command()
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option("--float32", "precisions", flag_value="float32", multiple=True, help="As trained.")
@click.option("--float16", "precisions", flag_value="float16", multiple=True, help="Half the size.")
@click.option(
    "--dynamic", "precisions", flag_value="dynamic", multiple=True, help="int8 weights, activations quantised on the fly."
)
@click.option("--weight-only", "precisions", flag_value="weight_only", multiple=True, help="int8 weights, computed in float.")
@click.option("--int8", "precisions", flag_value="int8", multiple=True, help="Full integers: the small and fast one.")
@click.option("--all", "every", is_flag=True, help="float32, float16, dynamic and int8.")
@click.option("--quantizer", help="int8: ai-edge (default) or tflite, TensorFlow's own.")
@click.option(
    "--keep-float",
    "keep_float",
    multiple=True,
    metavar="LAYER|auto",
    help="int8: leave these layers in float; auto finds them.",
)
@click.option(
    "--calibrate-from", type=click.Path(path_type=Path), metavar="FOLDER|VIDEO", help="int8: faces of your own camera."
)
@click.option("--qat", is_flag=True, help="int8: fine-tune with quantisation simulated. Needs --data.")
@click.option(
    "--prune", type=float, metavar="PERCENT", help="Set this share of most layers' weights to zero, fine-tuned. Needs --data."
)
@click.option("--cluster", type=int, metavar="N", help="N different weights a layer, fine-tuned. Needs --data.")
@click.option("--data", help="The training data, for --qat, --prune and --cluster.")
@click.option("--epochs", type=int, default=3, show_default=True, help="Epochs of fine-tuning.")
@gate_options
@click.option(
    "--runs", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Where to look for the newest run."
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the files.  [default: the run folder]")
@friendly_errors
def command(
    run: Path | None,
    precisions: tuple[str, ...],
    every: bool,
    quantizer: str | None,
    keep_float: tuple[str, ...],
    calibrate_from: Path | None,
    qat: bool,
    prune: float | None,
    cluster: int | None,
    data: str | None,
    epochs: int,
    max_accuracy_drop: float,
    max_recall_drop: float,
    min_agreement: float,
    runs: Path,
    out: Path | None,
) -> None:
    """Convert RUN, or the newest run, to TFLite. Without a precision: int8.

    A file that costs more than the gate allows is kept under a name that ends in .rejected, and the exit code is 1.
    """
    from fer_edge.convert.calibration_faces import collect_calibration_faces
    from fer_edge.convert.convert_run import check_conversion, convert_run, face_batch, prepare_run
    from fer_edge.convert.fine_tune import fine_tune, plan_fine_tuning
    from fer_edge.convert.gate import Thresholds
    from fer_edge.convert.quantization_recipes import ALL_PRECISIONS, find_recipe
    from fer_edge.convert.run_folder import newest_run, read_run
    from fer_edge.convert.sensitivity import check_layers, find_keep_float

    bounds = Thresholds(max_accuracy_drop, max_recall_drop, min_agreement)
    plan = plan_fine_tuning(qat, prune, cluster, epochs)
    if plan is not None and data is None:
        raise ValueError(f"fine-tuning ({plan.kind}) needs the training data: --data DATA")
    if plan is None and data is not None:
        raise ValueError(
            "--data is for fine-tuning: add --qat, --prune or --cluster. The faces that convert needs are in the run"
        )
    tuning = plan.as_data() if plan else None
    wanted = list(ALL_PRECISIONS) if every else list(dict.fromkeys(precisions)) or ["int8"]
    for option, given in (("--quantizer", quantizer), ("--keep-float", keep_float), ("--calibrate-from", calibrate_from)):
        if given and "int8" not in wanted:
            raise ValueError(f"{option} is for int8. Received: {', '.join(wanted)}. Add --int8, or leave {option} out")
    automatic = "auto" in keep_float
    named = tuple(layer for layer in keep_float if layer != "auto")
    recipes = [find_recipe(precision, quantizer, keep_float, tuning) for precision in wanted]
    opened = read_run(run or newest_run(runs))
    _introduce(opened)
    start_keras()
    own = None
    if calibrate_from is not None:
        with progress_bar("finding faces") as progress:
            own = collect_calibration_faces(calibrate_from, opened, progress=progress)
    source = prepare_run(opened, out, own, calibrate_from.name if calibrate_from else "")
    check_layers(source.folded, named)
    check_conversion(source, recipes)
    if plan is not None and data is not None:
        faces = _training_faces(opened, data)
        with progress_bar(f"fine-tuning {opened.facts['network']} ({plan.kind})") as progress:
            source = replace(source, folded=fine_tune(source.folded, face_batch(opened, faces), plan, progress))
    if automatic and any(recipe.calibrated for recipe in recipes):
        with progress_bar("measuring each layer in int8") as progress:
            found, damages = find_keep_float(source, find_recipe("int8", fine_tuning=tuning), bounds, progress)
        _tell_sensitivity(found, damages)
        kept = tuple(dict.fromkeys((*named, *found)))
        recipes = [find_recipe(precision, quantizer, kept, tuning) for precision in wanted]
    with progress_bar(f"converting {opened.facts['network']}") as progress:
        made = convert_run(source, recipes, bounds, progress)
    for file in made:
        _tell(file)
    refused = [file.path for file in made if file.problems]
    if refused:
        raise RuntimeError(f"{len(refused)} of {len(made)} files refused by the gate: {', '.join(map(str, refused))}")


def _introduce(run: "Run") -> None:
    split = run.facts["split"]
    leaky = ", leaky: see fer-edge info" if split["leakage"]["leaky"] else ""
    click.echo(
        f"{run.folder}: {len(run.calibration.images)} calibration faces, {len(run.held_out.images)} test faces "
        f"(split {split['name']}{leaky})"
    )


def _training_faces(run: "Run", data: str) -> "Sequence[Image]":
    """Return the faces that the run was trained on; refuse other data, which may hold its test faces."""
    from fer_edge.train.datasets import load_faces

    with progress_bar("reading faces") as progress:
        faces = load_faces(data, run.facts["data"].get("map") or {}, progress)
    if faces.fingerprint != run.facts["data"]["fingerprint"]:
        raise ValueError(
            f"'{data}' is not the data that {run.folder} was trained on ({run.facts['data']['name']}). Give that one"
        )
    place = {name: index for index, name in enumerate(faces.ids)}
    return [faces.images[place[name]] for name in run.facts["split"]["ids"]["train"]]


def _tell_sensitivity(layers: "Sequence[str]", damages: "Mapping[str, float]") -> None:
    if not damages:
        click.echo("keep-float: plain int8 answers like Keras on the calibration faces, no layer stays in float")
        return
    click.echo(
        f"keep-float: {len(layers)} of {len(damages)} layers stay in float; what each alone costs in int8 (divergence, nats):"
    )
    for layer in layers[:MOST_LAYERS]:
        click.echo(f"  {damages[layer]:.4f}  {layer}")
    if len(layers) > MOST_LAYERS:
        click.echo(f"  and {len(layers) - MOST_LAYERS} more")


def _tell(file: "ConversionResult") -> None:
    metrics = file.contract.metrics
    size, compressed = (count / 1e6 for count in (file.inspection.file_bytes, file.inspection.compressed_bytes))
    accuracy = f"{metrics['accuracy_before']:.4f} -> {metrics['accuracy_after']:.4f}"
    click.echo(
        f"{file.contract.precision:>8}: {size:7.3f} MB ({compressed:.3f} compressed), accuracy {accuracy}, "
        f"agreement {metrics['agreement']:.4f}  {file.path}"
    )
    for problem in file.notes:
        note(f"{problem.cause}; {problem.remedy}")
    for problem in file.problems:
        warn(f"refused: {problem.cause}")
    for remedy in dict.fromkeys(problem.remedy for problem in file.problems):
        note(remedy)
