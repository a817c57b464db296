"""The plan of one training run: defaults filled in and checked before anything is read or trained."""

from collections.abc import Sequence

from fer_edge.artifacts.training_plan import Plan, Recipe
from fer_edge.train.model_source import source_digest
from fer_edge.train.networks import check_image_size


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

    Raises:
        ModelError: If a source is a .tflite file that was not made by fer-edge.
        ValueError: If the network is unknown, the image size too small, the epochs are fewer than 1 or not a multiple of the
            recipe's cycles, or the batches cannot be divided among the devices.
    """
    size = check_image_size(network, image_size)
    count = recipe.epochs[network] if epochs is None else epochs
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
    digests = tuple(source_digest(source) for source in (weights, *teachers))
    return Plan(network, recipe, size, count, seed, weights, precision, tuple(teachers), ferplus, digests, devices)
