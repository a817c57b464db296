"""The plan of one training run: defaults filled in and checked before anything is read or trained."""

import math
from collections.abc import Sequence

from fer_edge.artifacts.training_plan import CLEAN, SAME, Plan, Recipe
from fer_edge.train.model_source import source_digest
from fer_edge.train.networks import check_image_size
from fer_edge.train.teacher_views import MAX_VIEWS, is_views_file


def make_plan(
    network: str,
    recipe: Recipe,
    image_size: int | None = None,
    epochs: int | None = None,
    seed: int = 0,
    weights: str = "auto",
    precision: str = "auto",
    teachers: Sequence[str] = (),
    ferplus: str | None = None,
    devices: int = 1,
    teacher_views: str = CLEAN,
    minutes: float | None = None,
) -> Plan:
    """Make a plan. Defaults come from the network and the recipe.

    Args:
        network: Name in NETWORKS.
        recipe: The recipe.
        image_size: Side of the input, pixels.
        epochs: Number of epochs.
        seed: Seed of weights, order, dropout and augmentation.
        weights: Source of the initial weights, see weights.load_weights.
        precision: ``auto``, ``float32`` or ``mixed_bfloat16``.
        teachers: Run folders, .tflite files or names of bundled models.
        ferplus: FER+ table, or None.
        devices: Number of devices that share each batch.
        teacher_views: ``clean``, ``same`` or a number of views, see Plan.
        minutes: Training time instead of a number of epochs: train_run measures how many fit.

    Raises:
        ModelError: If a source is a .tflite file that was not made by fer-edge.
        ValueError: If the network is unknown, or an option is out of range or does not fit the network, the recipe or another
            option.
    """
    size = check_image_size(network, image_size)
    if minutes is not None and (epochs is not None or not 0 < minutes < math.inf):
        raise ValueError(f"--minutes takes a number above 0, and no --epochs. Received: minutes={minutes}, epochs={epochs}")
    # With minutes, train_run replaces the number.
    count = recipe.cycles if minutes is not None else recipe.epochs[network] if epochs is None else epochs
    if count < 1:
        raise ValueError(f"epochs must be at least 1. Received: epochs={count}")
    if count % recipe.cycles:
        multiple = recipe.cycles * -(-count // recipe.cycles)
        raise ValueError(
            f"{network}: {count} epochs cannot be divided into {recipe.cycles} equal cycles. Give --epochs a multiple of "
            f"{recipe.cycles}, for example {multiple}"
        )
    if devices < 1 or recipe.batch_size % devices:
        raise ValueError(
            f"{network}: a batch of {recipe.batch_size} faces cannot be divided among {devices} devices. Give --devices a "
            "divisor, or change the batch: --set batch_size=N"
        )
    if recipe.last_filters is not None and network != "cnn_nano":
        raise ValueError(f"last_filters is a setting of cnn_nano. Received: last_filters={recipe.last_filters} for {network}")
    check_teacher_views(teacher_views, teachers, devices)
    names, digests = tuple(teachers), tuple(map(source_digest, (weights, *teachers)))
    return Plan(
        network, recipe, size, count, seed, weights, precision, names, ferplus, digests, devices, teacher_views, minutes
    )


def check_teacher_views(views: str, teachers: Sequence[str], devices: int = 1) -> None:
    """Check what teachers classify.

    Args:
        views: ``clean``, ``same`` or a number of views.
        teachers: The teachers.
        devices: Number of devices that share each batch.

    Raises:
        ValueError: If it is another word, the number is out of range, or it does not fit the teachers.
    """
    stored = views.isascii() and views.isdigit() and 1 <= int(views) <= MAX_VIEWS
    if not stored and views not in (CLEAN, SAME):
        raise ValueError(f"--teacher-views takes same, clean or a number from 1 to {MAX_VIEWS}. Received: '{views}'")
    if not teachers and views != CLEAN:
        raise ValueError(f"--teacher-views {views} needs a teacher. Name one with --teacher")
    files = [teacher for teacher in teachers if is_views_file(teacher)]
    if files and (len(teachers) > 1 or not stored):
        raise ValueError(
            f"{files[0]} has outputs of teachers for stored views, so it must be the only teacher, and --teacher-views must be "
            f"their number. Received: {len(teachers)} teachers, --teacher-views {views}"
        )
    if views == SAME and devices > 1:
        raise ValueError(f"--teacher-views same runs on one device. Use --teacher-views 64. Received: {devices} devices")
