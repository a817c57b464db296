"""What a reproduction trains: the settings of the rows of the comparison page, in full or as a quick check."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fer_edge.train.series import TrainOptions

# sha256 over the labels and pixels of the 981 faces of CK+48.
CK48_FINGERPRINT = "9413a5b157ef36c716f64539d60d61182b3b0201712f2858f1079a0d88264680"
SEEDS = (0, 1, 2, 3, 4)
FOLDS = 10
QUICK_EPOCHS = 2
# Conversion to int8 with its check, seconds: in our records, on two cores of an AMD EPYC.
CONVERT_SECONDS = {"cnn": 5, "vgg16": 38, "inception_v3": 54, "mobilenet_v2": 8, "densenet121": 44, "cnn_nano": 4}

QUICK_LEAVES_OUT = (
    "--quick leaves out seeds 1 to 4 of the paper protocol and folds 1 to 9 of the subject protocol, so there are no "
    f"intervals; all but {QUICK_EPOCHS} of the 12 to 30 epochs; and the int8 files of the subject protocol. Its accuracies are "
    "lower and depend more on chance"
)


@dataclass(frozen=True)
class Settings:
    """How one network is trained under one protocol.

    Attributes:
        recipe: Name of the recipe.
        epochs: Number of epochs.
        image_size: Side of the input, pixels.
        changes: NAME=VALUE per changed setting of the recipe.
    """

    recipe: str
    epochs: int
    image_size: int
    changes: tuple[str, ...] = ()


# The newest complete series of docs/comparison.csv. All start from our FER2013 models.
PAPER_PROTOCOL = {
    "cnn": Settings("paper", 30, 48),
    "vgg16": Settings("paper", 30, 48),
    "inception_v3": Settings("edge", 20, 75),
    "mobilenet_v2": Settings("edge", 20, 96),
    "densenet121": Settings("edge", 20, 64),
    "cnn_nano": Settings("paper", 30, 48),
}
SUBJECT_PROTOCOL = {
    "cnn": Settings("edge", 12, 48),
    "vgg16": Settings("edge", 12, 48),
    "inception_v3": Settings("edge", 12, 75, ("learning_rate=0.0003", "batch_size=32")),
    "mobilenet_v2": Settings("edge", 12, 96),
    "densenet121": Settings("edge", 12, 64),
    "cnn_nano": Settings("edge", 12, 48),
}
NETWORKS = tuple(PAPER_PROTOCOL)


def check_networks(networks: Sequence[str]) -> tuple[str, ...]:
    """Return the networks to reproduce; all of them if none is named.

    Raises:
        ValueError: If a network is not part of the comparison.
    """
    unknown = [name for name in networks if name not in NETWORKS]
    if unknown:
        raise ValueError(f"'{unknown[0]}' is not in the comparison; choose from: {', '.join(NETWORKS)}")
    return tuple(dict.fromkeys(networks)) or NETWORKS


def initial_weights(network: str) -> str:
    """Return the source of the initial weights: our FER2013 model, or ``auto`` where this installation lacks it."""
    from fer_edge.edge_runtime.find_model import bundled_models

    name = f"{network}_fer2013"
    return name if name in bundled_models() else "auto"


def protocol_options(network: str, out: Path, quick: bool) -> "list[TrainOptions]":
    """Return the training options of a network: those of the paper protocol, then those of the subject protocol.

    Args:
        network: Name of the network.
        out: Folder for the run folders.
        quick: Whether to train one seed and one fold for a few epochs.
    """
    from fer_edge.train.series import TrainOptions

    options = []
    for protocol, table in (("paper", PAPER_PROTOCOL), ("subject", SUBJECT_PROTOCOL)):
        settings = table[network]
        options.append(
            TrainOptions(
                # The learning rate of the published recipe is constant: after a few epochs the accuracy depends on chance.
                recipe="edge" if quick else settings.recipe,
                settings=settings.changes,
                protocol=protocol,
                folds=FOLDS if protocol == "subject" else None,
                fold=0 if protocol == "subject" and quick else None,
                weights=(f"{network}={initial_weights(network)}",),
                image_size=settings.image_size,
                epochs=QUICK_EPOCHS if quick else settings.epochs,
                seeds=SEEDS if protocol == "paper" and not quick else SEEDS[:1],
                out=out,
                resume=True,
            )
        )
    return options
