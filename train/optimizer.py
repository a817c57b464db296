"""The optimizer of a recipe: learning-rate schedule and moving average of the weights."""

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
        cycle = steps // recipe.cycles
        warmup = int(recipe.warmup_share * cycle)
        rate = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0 if warmup else recipe.learning_rate,
            decay_steps=max(1, cycle - warmup),
            warmup_target=recipe.learning_rate if warmup else None,
            warmup_steps=warmup,
        )
        if recipe.cycles > 1:
            rate = _repeat(rate, cycle)
    momentum = average_momentum(recipe, steps)
    average = {"use_ema": True, "ema_momentum": momentum} if momentum else {}
    if recipe.optimizer == "adamw":
        return keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay, **average)
    if recipe.optimizer == "sgd":
        return keras.optimizers.SGD(rate, recipe.momentum, nesterov=True, weight_decay=recipe.weight_decay or None, **average)
    return keras.optimizers.Adam(rate, **average)


def _repeat(
    schedule: "keras.optimizers.schedules.LearningRateSchedule", steps: int
) -> "keras.optimizers.schedules.LearningRateSchedule":
    """Return a schedule that restarts every ``steps`` steps."""
    import keras

    # keras.optimizers.schedules.CosineDecayRestarts has no warm-up.
    class Repeated(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step: Any) -> Any:
            return schedule(step % steps)

    return Repeated()
