"""The optimizer of a recipe: learning-rate schedule and moving average of the weights."""

import math
from typing import TYPE_CHECKING, Any

from fer_edge.artifacts.training_plan import Recipe

if TYPE_CHECKING:
    import keras

# Fraction of all steps. The moving average starts at the initial weights, and a longer one would keep too much of them.
MAX_AVERAGE_SHARE = 0.1


def average_momentum(recipe: Recipe, steps: int) -> float:
    """Return the momentum of the moving average of the weights; 0 where there is none.

    Args:
        recipe: The recipe.
        steps: Number of steps of the whole training.
    """
    return 0.0 if recipe.cycles > 1 else max(0.0, min(recipe.ema_momentum, 1 - 1 / (MAX_AVERAGE_SHARE * steps)))


def build_optimizer(recipe: Recipe, steps: int) -> "keras.optimizers.Optimizer":
    """Build the optimizer of a recipe.

    Args:
        recipe: The recipe.
        steps: Number of steps of the whole training.
    """
    import keras

    rate: Any = recipe.learning_rate
    if recipe.schedule == "cosine":
        cycle = max(1, steps // recipe.cycles)
        rate = _cosine(recipe.learning_rate, cycle, int(recipe.warmup_share * cycle))
    momentum = average_momentum(recipe, steps)
    average = {"use_ema": True, "ema_momentum": momentum} if momentum else {}
    if recipe.optimizer == "adamw":
        return keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay, **average)
    if recipe.optimizer == "sgd":
        return keras.optimizers.SGD(rate, recipe.momentum, nesterov=True, weight_decay=recipe.weight_decay or None, **average)
    return keras.optimizers.Adam(rate, **average)


def _cosine(highest: float, cycle: int, warmup: int) -> "keras.optimizers.schedules.LearningRateSchedule":
    """Return a schedule that rises from 0 over the warm-up, falls to 0 by a cosine, and restarts every ``cycle`` steps.

    Keras computes the learning rate once per weight in weight decay. Its CosineDecay adds a branch to the graph each time. That
    and a second trace took 98 of the 158 s until the first step of DenseNet121 (2 cores of a Xeon, busy).

    Args:
        highest: The learning rate after the warm-up.
        cycle: Steps of a cycle.
        warmup: Steps of its warm-up.
    """
    import keras
    from keras import ops

    decay = max(1, cycle - warmup)

    class Cosine(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step: Any) -> Any:
            step = ops.cast(step % cycle, "float32")
            rising = step / max(1, warmup)
            falling = 0.5 * (1 + ops.cos(math.pi / decay * (step - warmup)))
            return highest * ops.where(step < warmup, rising, falling)

    return Cosine()
