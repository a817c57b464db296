"""Epochs by budget: how many fit into a number of minutes on this machine, measured before training starts."""

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from fer_edge.artifacts.reporter import Reporter
from fer_edge.artifacts.run_folder import is_run_folder, read_run_record
from fer_edge.artifacts.training_plan import Plan
from fer_edge.train.dataset import FaceDataset
from fer_edge.train.estimate import FORWARD_SHARE
from fer_edge.train.soft_labels import TrainingTargets
from fer_edge.train.splits import Split
from fer_edge.train.trainer import build_trainer, steps_per_epoch, training_data

UNTIMED_STEPS = 2  # the first ones include tracing and compiling
MIN_TIMED_STEPS = 3
MAX_SHARE = 0.05  # of the budget, for the measurement


def choose_epochs(
    plan: Plan, folder: Path, faces: FaceDataset, split: Split, targets: TrainingTargets, reporter: Reporter
) -> Plan:
    """Return a plan with the number of epochs that fit into its minutes from now on; the same plan where it has no minutes.

    At most one epoch is measured. A run that was started before keeps its number.

    Args:
        plan: The plan.
        folder: Its run folder.
        faces: The dataset.
        split: Its division.
        targets: What the network learns.
        reporter: Receives a note with the number.
    """
    if plan.minutes is None:
        return plan
    if is_run_folder(folder):
        return replace(plan, epochs=read_run_record(folder).plan.epochs)
    started, budget_s = time.monotonic(), 60 * plan.minutes
    trainer, _, _ = build_trainer(plan, faces, split, targets)
    step_s, timed_from = measure_step(trainer, plan, faces, split, MAX_SHARE * budget_s)
    # Building and tracing happen once more.
    left_s = budget_s - (time.monotonic() - started) - (timed_from - started)
    epochs = epochs_that_fit(plan, split, step_s, left_s)
    epoch_s = epoch_seconds(plan, split, step_s)
    reporter.note(f"{plan.network}: {epochs} epochs of about {epoch_s:.3g} s are planned for {plan.minutes:g} minutes")
    return replace(plan, epochs=epochs)


def epoch_seconds(plan: Plan, split: Split, step_s: float) -> float:
    """Return the time of an epoch with its validation, seconds.

    Args:
        plan: Its recipe has the batch size.
        split: The faces.
        step_s: Time of a training step, seconds.
    """
    forward_s = FORWARD_SHARE * step_s / plan.recipe.batch_size
    return steps_per_epoch(plan, split) * step_s + len(split.validation) * forward_s


def epochs_that_fit(plan: Plan, split: Split, step_s: float, left_s: float) -> int:
    """Return how many epochs, and the measurement of the finished network, fit into a time: a multiple of the cycles.

    Args:
        plan: Its recipe has the batch size and the cycles.
        split: The faces.
        step_s: Time of a training step, seconds.
        left_s: The time, seconds. The result is at least one epoch per cycle, even if that takes longer.
    """
    measured = len(split.train) + 2 * len(split.validation) + len(split.test)
    end_s = measured * FORWARD_SHARE * step_s / plan.recipe.batch_size
    cycles = plan.recipe.cycles
    return cycles * max(1, math.floor((left_s - end_s) / epoch_seconds(plan, split, step_s) / cycles))


def measure_step(trainer: Any, plan: Plan, faces: FaceDataset, split: Split, max_s: float) -> tuple[float, float]:
    """Train for at most an epoch and measure the time of a step. The weights change.

    Args:
        trainer: From build_trainer.
        plan: The plan.
        faces: The dataset.
        split: Its division.
        max_s: Seconds after which the measurement stops; MIN_TIMED_STEPS are measured in any case.

    Returns:
        Mean time of a step, seconds; and the time of time.monotonic() after the steps that are not timed.
    """
    import keras

    steps = steps_per_epoch(plan, split)
    done, start = 0, time.monotonic()

    def after_step(batch: int, logs: object = None) -> None:
        nonlocal done, start
        done += 1
        if done == UNTIMED_STEPS:
            start = time.monotonic()
        timed = done - UNTIMED_STEPS
        trainer.stop_training = timed >= min(steps, MIN_TIMED_STEPS) and (timed >= steps or time.monotonic() - start >= max_s)

    callback = keras.callbacks.Callback()
    callback.on_train_batch_end = after_step
    callback.async_safe = True  # as in training; fit waits for the device at its end
    epochs = 1 + -(-UNTIMED_STEPS // steps)
    trainer.fit(**training_data(plan, faces, split), epochs=epochs, callbacks=[callback], verbose=0)
    return (time.monotonic() - start) / max(1, done - UNTIMED_STEPS), start
