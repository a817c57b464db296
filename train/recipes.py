"""Training recipes as data: the paper's to the letter, and ours for the edge."""

from dataclasses import dataclass, replace
from typing import Any

from fer_edge.train.augment import Augmentation


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        name: Name in run folders and tables.
        optimizer: ``adam`` or ``adamw``.
        learning_rate: Peak learning rate.
        schedule: ``constant`` or ``cosine`` (falls to zero).
        warmup_share: Share of all steps in which the rate rises from zero.
        weight_decay: Of adamw.
        batch_size: Faces a step.
        label_smoothing: 0..1.
        balance: Power of the inverse class frequency that weights the loss; 0 weights all faces alike.
        ema_momentum: Momentum of the weights' moving average that is kept; 0 keeps the weights themselves.
        bn_momentum: Momentum of the batch normalisation averages.
        epochs: Epochs per network.
        calibrate: Whether the logits are divided by a temperature fitted on validation, see temperature.py.
        teacher_share: What the opinion of teachers weighs beside the label, 0..1.
        teacher_temperature: Softens that opinion; 1 takes it as it is.
        augmentation: Random changes of the faces.
    """

    name: str
    optimizer: str
    learning_rate: float
    schedule: str
    batch_size: int
    epochs: dict[str, int]
    augmentation: Augmentation
    warmup_share: float = 0.0
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    balance: float = 0.0
    ema_momentum: float = 0.0
    bn_momentum: float = 0.9
    calibrate: bool = False
    teacher_share: float = 0.7
    teacher_temperature: float = 2.0


RECIPES: dict[str, Recipe] = {
    # Source: the published comparison. It says neither how batch normalisation averages nor which weights it kept. At a
    # constant rate of 0.001 the weights of single epochs swing by 5 points, so the average of the last steps is kept.
    "paper": Recipe(
        name="paper",
        optimizer="adam",
        learning_rate=0.001,
        schedule="constant",
        batch_size=32,
        epochs={"cnn": 30, "vgg16": 30, "inception_v3": 10, "mobilenet_v2": 10, "densenet121": 10, "cnn_nano": 30},
        augmentation=Augmentation(rotation_degrees=15, shift=0.15, shear=0.15, zoom=0.15, flip=True),
        ema_momentum=0.95,
    ),
    "edge": Recipe(
        name="edge",
        optimizer="adamw",
        learning_rate=0.001,
        schedule="cosine",
        warmup_share=0.05,
        weight_decay=0.01,
        batch_size=64,
        label_smoothing=0.1,
        balance=0.25,
        ema_momentum=0.98,
        calibrate=True,
        epochs={"cnn": 40, "vgg16": 40, "inception_v3": 30, "mobilenet_v2": 30, "densenet121": 30, "cnn_nano": 60},
        augmentation=Augmentation(
            rotation_degrees=15, shift=0.1, shear=0.1, zoom=0.12, flip=True, contrast=0.3, brightness=0.1, erase=0.35
        ),
    ),
}


# What a network wants otherwise than the rest of its recipe. A narrow network underfits: it learns faster, and is shown
# tamer faces.
CHANGES: dict[tuple[str, str], dict[str, Any]] = {
    ("edge", "cnn_nano"): {
        "learning_rate": 0.003,
        "ema_momentum": 0.999,
        "label_smoothing": 0.05,
        "augmentation": Augmentation(rotation_degrees=12, shift=0.08, shear=0.05, zoom=0.1, flip=True, contrast=0.2),
    },
}


def find_recipe(name: str, network: str | None = None) -> Recipe:
    """Return the recipe called ``name``, for one network where one is given.

    Raises:
        ValueError: If there is none.
    """
    if name not in RECIPES:
        raise ValueError(f"unknown recipe '{name}'; choose one of: {', '.join(RECIPES)}")
    return replace(RECIPES[name], **CHANGES.get((name, network or ""), {}))
