"""fer-edge train: networks, data and recipe in; one run folder per network, seed and fold out."""

import time
from pathlib import Path
from typing import Any

import click

from fer_edge.console import FiniteRange, friendly_errors, note, progress_bar, report_skipped, start_keras, warn


@click.command()
@click.argument("networks", nargs=-1, required=True, metavar="NETWORK...|all")
@click.option("--data", required=True, help="Folder, zip or csv of labelled faces; or 'synthetic'.")
@click.option("--recipe", "recipe_name", default="edge", show_default=True, help="paper (as published) or edge (ours).")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Change a setting of the recipe.")
@click.option("--split", "split_name", default="auto", show_default=True, help="paper, subject, official, or auto.")
@click.option("--folds", type=int, help="Subject split: number of folds; all of them are trained, one after the other.")
@click.option("--fold", type=int, help="Subject split: train this fold alone, from 0.")
@click.option(
    "--weights",
    multiple=True,
    metavar="[NETWORK=]SOURCE",
    help="auto (default), imagenet, none, a file, a run folder, or a model that comes with fer-edge; for one network or all.",
)
@click.option(
    "--teacher",
    "teachers",
    multiple=True,
    metavar="RUN|MODEL",
    help="Learn from a run, a .tflite file or a model that comes with fer-edge too; several: their mean.",
)
@click.option("--ferplus", metavar="FILE", help="FER+ table (fer2013new.csv): learn its votes in place of FER2013's labels.")
@click.option("--image-size", type=int, help="Input side in pixels.  [default: the network's]")
@click.option("--epochs", type=int, help="Number of epochs.  [default: the recipe's]")
@click.option(
    "--seed", "seeds", default="0", show_default=True, help="Seed of split, weights, order and augmentation; or 0,1,2."
)
@click.option("--precision", default="auto", show_default=True, help="auto, float32 or mixed_bfloat16.")
@click.option("--map", "maps", multiple=True, metavar="CLASS=LABEL", help="Rename a class of the data; CLASS=- drops it.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Where run folders go.")
@click.option("--resume", is_flag=True, help="Go on where a stopped run was; skip finished ones.")
@click.option(
    "--checkpoint-every", type=click.IntRange(min=1), default=1, show_default=True, help="Epochs between checkpoints."
)
@click.option(
    "--stop-after",
    type=FiniteRange(min=0),
    metavar="SECONDS",
    help="Stop with a checkpoint after so long; --resume goes on.",
)
@friendly_errors
def command(
    networks: tuple[str, ...],
    data: str,
    maps: tuple[str, ...],
    out: Path,
    resume: bool,
    checkpoint_every: int,
    stop_after: float | None,
    **choices: Any,
) -> None:
    """Train networks on labelled faces.

    NETWORK is cnn, vgg16, inception_v3, mobilenet_v2, densenet121, cnn_nano or all (the five of the comparison).
    """
    from fer_edge.benchmarks.experiment_log import summarise
    from fer_edge.train.datasets import load_faces, parse_label_map
    from fer_edge.train.fit import train_run
    from fer_edge.train.splits import check_split_options

    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"--out '{out}' is no folder. Name one for the run folders")
    check_split_options(choices["split_name"], choices["fold"], choices["folds"])
    plans_of = _plans(networks, **{name: choices.pop(name) for name in _PLANNED})
    start_keras()
    _check_plans(plans_of)
    with progress_bar("reading faces") as progress:
        faces = load_faces(data, parse_label_map(maps), progress)
    report_skipped(faces.skipped, len(faces))
    series = _check_series(faces, plans_of, out, resume, **choices)
    stop_at = None if stop_after is None else time.monotonic() + stop_after
    for name in dict.fromkeys(plan.network for plan, _, _ in series):
        runs = []
        for plan, split, folder in (entry for entry in series if entry[0].network == name):

            def show(epoch: int, figures: dict[str, float], total: int = plan.epochs) -> None:
                told = ", ".join(f"{key} {value:.4f}" for key, value in figures.items())
                click.echo(f"  epoch {epoch}/{total}: {told}")

            with progress_bar(f"training {name}") as progress:
                run = train_run(plan, faces, split, folder, resume, show, note, progress, checkpoint_every, stop_at)
            validation, test = run["metrics"]["validation"], run["metrics"]["test"]
            if plan.recipe.cycles > 1:
                kept = f"the mean of the last {run['averaged_cycles']} of {plan.recipe.cycles} cycles"
                click.echo(f"  kept {kept}: validation accuracy {validation['accuracy']:.4f}, loss {validation['loss']:.4f}")
            click.echo(f"{name}: test accuracy {test['accuracy']:.4f}, macro F1 {test['macro']['f1']:.4f} -> {folder}")
            runs.append(run)
        if len(runs) > 1:
            told = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in summarise(runs).items())
            click.echo(f"{name}, mean ± standard deviation (95 % interval): {told}")


_PLANNED = ("recipe_name", "settings", "weights", "teachers", "ferplus", "image_size", "epochs", "seeds", "precision")


def _plans(
    networks: tuple[str, ...],
    recipe_name: str,
    settings: tuple[str, ...],
    weights: tuple[str, ...],
    seeds: str,
    **options: Any,
) -> list[Any]:
    """Return a plan per network and seed."""
    from fer_edge.train.fit import make_plan
    from fer_edge.train.networks import NETWORKS, find_network
    from fer_edge.train.recipes import find_recipe, override
    from fer_edge.train.weights import parse_weights

    five = [name for name, network in NETWORKS.items() if network.compared]
    names = list(dict.fromkeys(name for word in networks for name in (five if word == "all" else [word])))
    for name in names:
        find_network(name)
    sources = parse_weights(weights, names)
    recipes = {name: override(find_recipe(recipe_name, name), settings) for name in names}
    return [
        make_plan(name, recipes[name], seed=seed, weights=sources[name], **options)
        for name in names
        for seed in _numbers(seeds)
    ]


def _numbers(text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(f"--seed takes whole numbers, for example 0 or 0,1,2. Received: '{text}'") from error
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"--seed takes each number once. Received: '{text}'")
    return numbers


def _check_plans(plans: list[Any]) -> None:
    """Refuse weights, precisions and teachers that cannot be, before the faces are read."""
    from fer_edge.train.distill import resolve_teacher
    from fer_edge.train.precision import choose_precision
    from fer_edge.train.weights import check_source

    for plan in plans:
        check_source(plan.network, plan.weights)
        choose_precision(plan.network, plan.precision)
        for teacher in plan.teachers:
            resolve_teacher(teacher)


def _check_series(
    faces: Any, plans: list[Any], out: Path, resume: bool, split_name: str, folds: int | None, fold: int | None
) -> list[tuple[Any, Any, Path]]:
    """Return plan, split and folder of each run; refuse now what would be refused hours later."""
    from fer_edge.train.cross_validate import make_splits
    from fer_edge.train.distill import check_teachers
    from fer_edge.train.run_folder import check_resumable, run_name
    from fer_edge.train.splits import leakage, leakage_warning
    from fer_edge.train.weights import check_no_leakage

    splits = make_splits(faces, split_name, list(dict.fromkeys(plan.seed for plan in plans)), folds, fold)
    for _, split in splits:
        click.echo(
            f"{faces.name}: {len(faces)} faces, {len(faces.labels)} classes; split {split.title}: "
            f"{len(split.train)} train, {len(split.validation)} validation, {len(split.test)} test"
        )
    flattered = leakage_warning(leakage(faces, splits[0][1]))
    if flattered:
        warn(flattered)
    series = [
        (plan, split, out / run_name(plan.network, plan.recipe.name, faces.name, split, plan.seed))
        for plan in plans
        for seed, split in splits
        if seed == plan.seed
    ]
    for plan, split, folder in series:
        check_resumable(folder, plan, faces, resume)
        check_no_leakage(plan.weights, faces, split)
        check_teachers(plan.teachers, faces, split)
    return series
