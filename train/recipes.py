"""Training recipes as data: the paper's to the letter, and ours for the edge."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from fer_edge.train.augment import Augmentation

OPTIMIZERS = ("adam", "adamw")
SCHEDULES = ("constant", "cosine")
CHANGED_SUFFIX = "-changed"  # ends the name of a recipe with other settings
NOT_OVERRIDABLE = ("name", "epochs", "augmentation")  # have options of their own, or none


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        name: Name in run folders and tables.
        optimizer: One of OPTIMIZERS.
        learning_rate: Peak learning rate.
        schedule: One of SCHEDULES; ``cosine`` falls to zero.
        cycles: How often the rate rises and falls. Above 1 the mean of the weights that the last cycles end with is kept, see
            average.py, in place of a moving average.
        warmup_share: Share of all steps, or of those of a cycle, in which the rate rises from zero.
        weight_decay: Of adamw.
        batch_size: Faces a step.
        label_smoothing: 0..1.
        balance: Power of the inverse class frequency that weights the loss; 0 weights all faces alike.
        ema_momentum: Momentum of the weights' moving average that is kept; 0 keeps the weights themselves. Lower in short
            runs, see fit.LONGEST_AVERAGE.
        bn_momentum: Momentum of the batch normalisation averages.
        batch_norm: Whether a network without batch normalisation learns with it; it is worked into the weights at the end,
            see norms.py. Others have it anyway.
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
    cycles: int = 1
    warmup_share: float = 0.0
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    balance: float = 0.0
    ema_momentum: float = 0.0
    bn_momentum: float = 0.9
    batch_norm: bool = False
    calibrate: bool = False
    teacher_share: float = 0.7
    teacher_temperature: float = 2.0

    def __post_init__(self) -> None:
        """Check the settings, before hours are spent on a mistyped one.

        Raises:
            ValueError: If a name is unknown or a number out of its bounds.
        """
        for kind, name, known in (("optimizer", self.optimizer, OPTIMIZERS), ("schedule", self.schedule, SCHEDULES)):
            if name not in known:
                raise ValueError(f"unknown {kind} '{name}'; choose one of: {', '.join(known)}")
        for name in ("batch_size", "cycles"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1. Received: {getattr(self, name)}")
        if self.cycles > 1 and self.schedule == "constant":
            raise ValueError(f"a constant rate has no cycles; set schedule=cosine. Received: cycles={self.cycles}")
        for name in ("learning_rate", "teacher_temperature"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be above 0. Received: {getattr(self, name)}")
        for name in ("weight_decay", "balance"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must not be negative. Received: {getattr(self, name)}")
        for name in ("warmup_share", "label_smoothing", "teacher_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share from 0 to 1. Received: {getattr(self, name)}")
        for name in ("ema_momentum", "bn_momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be from 0 to below 1. Received: {getattr(self, name)}")


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


# What a network wants otherwise than the rest of its recipe. VGG16 has no batch normalisation of its own, and learns with it
# (FER2013, validation: 0.6727 after 30 epochs on a GPU; without it 0.6382 after 9 and 0.6202 after 14 of other settings). A
# narrow network underfits: it learns faster, and is shown tamer faces.
PER_NETWORK_OVERRIDES: dict[tuple[str, str], dict[str, Any]] = {
    ("edge", "vgg16"): {"batch_norm": True},
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
    return replace(RECIPES[name], **PER_NETWORK_OVERRIDES.get((name, network or ""), {}))


def override(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """Return a recipe with other settings, and a name that says that it is another.

    Args:
        recipe: The recipe.
        settings: ``NAME=VALUE`` pairs; the names are those of Recipe and of Augmentation.

    Raises:
        ValueError: If a pair has no ``=``, a setting is unknown, or its value of another kind or out of its bounds.
    """
    if not settings:
        return recipe
    own = {field.name: field.type for field in fields(Recipe) if field.name not in NOT_OVERRIDABLE}
    augmenting = {field.name: field.type for field in fields(Augmentation)}
    changed: dict[str, Any] = {}
    augmentation: dict[str, Any] = {}
    for pair in settings:
        name, _, text = pair.partition("=")
        if name in augmenting:
            augmentation[name] = _read_value(augmenting[name], text, pair)
        elif name in own:
            changed[name] = _read_value(own[name], text, pair)
        else:
            raise ValueError(f"unknown setting '{name}'; choose one of: {', '.join(sorted([*own, *augmenting]))}")
    return replace(
        recipe, name=recipe.name + CHANGED_SUFFIX, augmentation=replace(recipe.augmentation, **augmentation), **changed
    )


def recipe_from_data(data: Mapping[str, Any]) -> Recipe:
    """Return the recipe that a plan holds as plain data."""
    return Recipe(**{**data, "augmentation": Augmentation(**data["augmentation"])})


def to_cli_args(network: str, data: Mapping[str, Any]) -> list[str]:
    """Return the options of ``fer-edge train`` that make a recipe again.

    Args:
        network: The network it was for.
        data: The recipe as plain data; its epochs are an option of their own.

    Returns:
        ``--recipe NAME`` and a ``--set NAME=VALUE`` for each setting that is another one there today.

    Raises:
        ValueError: If there is no such recipe any more.
    """
    recipe = recipe_from_data(data)
    base = find_recipe(recipe.name.removesuffix(CHANGED_SUFFIX), network)
    options = ["--recipe", base.name]
    for one, other in ((base, recipe), (base.augmentation, recipe.augmentation)):
        for field in fields(one):
            value = getattr(other, field.name)
            if field.name not in NOT_OVERRIDABLE and value != getattr(one, field.name):
                options += ["--set", f"{field.name}={value if isinstance(value, str) else json.dumps(value)}"]
    return options


def _read_value(kind: Any, text: str, pair: str) -> Any:
    try:
        value = text if kind is str else json.loads(text)
    except json.JSONDecodeError:
        value = None
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        wanted = {int: "a whole number", float: "a number", bool: "true or false"}[kind]
        raise ValueError(f"a setting is NAME=VALUE, with {wanted} here. Received: '{pair}'")
    return value
