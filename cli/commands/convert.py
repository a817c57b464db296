"""fer-edge convert: a run folder in; .tflite files with their contract out."""

from pathlib import Path

import click

from fer_edge.console import friendly_errors, progress_bar, start_keras, warn

WORRYING_DROP = 0.01


@click.command()
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option("--float32", "precisions", flag_value="float32", multiple=True, help="As trained.")
@click.option("--float16", "precisions", flag_value="float16", multiple=True, help="Half the size.")
@click.option("--dynamic", "precisions", flag_value="dynamic", multiple=True, help="int8 weights, float activations.")
@click.option("--int8", "precisions", flag_value="int8", multiple=True, help="Full integers: the small and fast one.")
@click.option("--all", "every", is_flag=True, help="All four.")
@click.option(
    "--runs", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Where to look for the newest run."
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the files.  [default: the run folder]")
@friendly_errors
def command(run: Path | None, precisions: tuple[str, ...], every: bool, runs: Path, out: Path | None) -> None:
    """Convert RUN, or the newest run, to TFLite. Without a precision: int8."""
    from fer_edge.convert.convert_run import convert_run
    from fer_edge.convert.quantize import QUANTIZATIONS
    from fer_edge.convert.run_folder import newest_run, read_run

    source = read_run(run or newest_run(runs))
    wanted = list(QUANTIZATIONS) if every else list(dict.fromkeys(precisions)) or ["int8"]
    split = source.facts["split"]
    leaky = ", leaky: see fer-edge info" if split["leakage"]["leaky"] else ""
    click.echo(
        f"{source.folder}: {len(source.calibration.images)} calibration faces, {len(source.held_out.images)} test faces "
        f"(split {split['name']}{leaky})"
    )
    start_keras()
    with progress_bar(f"converting {source.facts['network']}") as progress:
        made = convert_run(source, wanted, out, progress)
    for file in made:
        metrics = file.contract.metrics
        click.echo(
            f"{file.contract.precision:>8}: {file.file_bytes / 1e6:7.3f} MB, accuracy {metrics['accuracy_before']:.4f} -> "
            f"{metrics['accuracy_after']:.4f}, agreement {metrics['agreement']:.4f}  {file.path}"
        )
        if metrics["accuracy_before"] - metrics["accuracy_after"] > WORRYING_DROP:
            warn(f"{file.contract.precision} costs more than {WORRYING_DROP:.0%} of accuracy: see the recalls in fer-edge info")
