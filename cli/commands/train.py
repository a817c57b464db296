"""fer-edge train: networks, data and recipe in; one run folder per network out."""

from pathlib import Path

import click

from fer_edge.console import friendly_errors, note, progress_bar, start_keras, tell_skipped, warn


@click.command()
@click.argument("networks", nargs=-1, required=True, metavar="NETWORK...|all")
@click.option("--data", required=True, help="Folder, zip or csv of labelled faces; or 'synthetic'.")
@click.option("--recipe", "recipe_name", default="edge", show_default=True, help="paper (as published) or edge (ours).")
@click.option("--split", "split_name", default="auto", show_default=True, help="paper, subject, official, or auto.")
@click.option("--folds", type=int, help="Subject split: number of folds.")
@click.option("--fold", type=int, help="Subject split: which fold is the test set, from 0.")
@click.option(
    "--weights",
    multiple=True,
    metavar="[NETWORK=]SOURCE",
    help="auto (default), imagenet, none, a file or a run folder; for one network or for all.",
)
@click.option("--image-size", type=int, help="Input side in pixels.  [default: the network's]")
@click.option("--epochs", type=int, help="Number of epochs.  [default: the recipe's]")
@click.option("--seed", default=0, show_default=True, help="Seed of split, weights, order and augmentation.")
@click.option("--precision", default="auto", show_default=True, help="auto, float32 or mixed_bfloat16.")
@click.option("--map", "maps", multiple=True, metavar="CLASS=LABEL", help="Rename a class of the data; CLASS=- drops it.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Where run folders go.")
@click.option("--resume", is_flag=True, help="Go on where a stopped run was; skip finished ones.")
@friendly_errors
def command(
    networks: tuple[str, ...],
    data: str,
    recipe_name: str,
    split_name: str,
    folds: int | None,
    fold: int | None,
    weights: tuple[str, ...],
    image_size: int | None,
    epochs: int | None,
    seed: int,
    precision: str,
    maps: tuple[str, ...],
    out: Path,
    resume: bool,
) -> None:
    """Train networks on labelled faces.

    NETWORK is cnn, vgg16, inception_v3, mobilenet_v2, densenet121, cnn_nano or all (the five of the comparison).
    """
    from fer_edge.train.datasets import load_faces, parse_label_map
    from fer_edge.train.fit import make_plan, train_run
    from fer_edge.train.networks import NETWORKS
    from fer_edge.train.precision import choose_precision
    from fer_edge.train.recipes import find_recipe
    from fer_edge.train.run_folder import check_run, run_name
    from fer_edge.train.splits import leakage, leakage_warning, make_split
    from fer_edge.train.weights import check_source, parse_weights

    names = [name for name, network in NETWORKS.items() if network.compared] if "all" in networks else list(networks)
    sources = parse_weights(weights, names)
    plans = [
        make_plan(name, find_recipe(recipe_name, name), image_size, epochs, seed, sources[name], precision) for name in names
    ]
    start_keras()
    with progress_bar("reading faces") as progress:
        faces = load_faces(data, parse_label_map(maps), progress)
    tell_skipped(faces.skipped, len(faces))
    split = make_split(faces, split_name, seed, fold, folds)
    click.echo(
        f"{faces.name}: {len(faces)} faces, {len(faces.labels)} classes; split {split.title}: "
        f"{len(split.train)} train, {len(split.validation)} validation, {len(split.test)} test"
    )
    flattered = leakage_warning(leakage(faces, split))
    if flattered:
        warn(flattered)
    folders = [out / run_name(plan.network, plan.recipe.name, faces.name, split, plan.seed) for plan in plans]
    # What can be refused is refused now, not when its turn comes hours later.
    for plan, folder in zip(plans, folders, strict=True):
        check_run(folder, plan, faces, resume)
        check_source(plan.network, plan.weights)
        choose_precision(plan.network, plan.precision)
    for plan, folder in zip(plans, folders, strict=True):

        def show(epoch: int, figures: dict[str, float], total: int = plan.epochs) -> None:
            told = ", ".join(f"{key} {value:.4f}" for key, value in figures.items())
            click.echo(f"  epoch {epoch}/{total}: {told}")

        with progress_bar(f"training {plan.network}") as progress:
            run = train_run(plan, faces, split, folder, resume, show, note, progress)
        test = run["metrics"]["test"]
        click.echo(f"{plan.network}: test accuracy {test['accuracy']:.4f}, macro F1 {test['macro']['f1']:.4f} -> {folder}")
