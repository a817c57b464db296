"""Train one network under one plan into a run folder. A stopped run resumes after its last complete epoch."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.atomic_write import atomic_path
from fer_edge.artifacts.file_digest import file_digest
from fer_edge.artifacts.keras_model import write_keras_model
from fer_edge.artifacts.metrics import ClassificationMetrics, classification_metrics
from fer_edge.artifacts.reporter import SILENT, Progress, Reporter
from fer_edge.artifacts.run_folder import (
    MODEL_FILE,
    LoadedWeights,
    RunRecord,
    SplitMetrics,
    TrainingResults,
)
from fer_edge.artifacts.training_plan import Plan
from fer_edge.train.batch_norm import fold_batch_norm, insert_batch_norm
from fer_edge.train.budget import choose_epochs
from fer_edge.train.checkpoint import Checkpoint, StoppedError
from fer_edge.train.dataset import FaceDataset
from fer_edge.train.devices import shared_batches
from fer_edge.train.distill import check_teachers
from fer_edge.train.networks import build_network, count_parameters
from fer_edge.train.optimizer import average_momentum
from fer_edge.train.precision import choose_precision
from fer_edge.train.predict import keras_probabilities
from fer_edge.train.soft_labels import TrainingTargets, training_targets, vote_distributions
from fer_edge.train.splits import Split
from fer_edge.train.temperature import apply_temperature, fit_temperature, with_temperature
from fer_edge.train.trainer import build_trainer, one_hot, steps_per_epoch, training_data
from fer_edge.train.unsure_threshold import unsure_threshold
from fer_edge.train.weight_averaging import average_snapshots
from fer_edge.train.weights import check_no_leakage
from fer_edge.train.write_run import check_resumable, finish_run, start_run

if TYPE_CHECKING:
    import keras

VALIDATION_BATCH = 256

OnEpoch = Callable[[int, dict[str, float]], None]


def train_run(
    plan: Plan,
    faces: FaceDataset,
    split: Split,
    folder: Path,
    *,
    resume: bool = False,
    on_epoch: OnEpoch | None = None,
    stop_at: float | None = None,
    checkpoint_seconds: float = 0.0,
    validated: TrainingResults | None = None,
    command: Sequence[str] = (),
    reporter: Reporter = SILENT,
) -> RunRecord:
    """Train a network and write its run folder.

    Args:
        plan: What to train and how.
        faces: The dataset.
        split: Its division.
        folder: The run folder. It must not have a run, unless ``resume``.
        resume: Continue from the checkpoint in the folder.
        on_epoch: Called after each epoch with its number (from 1) and its metrics.
        stop_at: Time of time.monotonic(), seconds, after which training stops with a checkpoint.
        checkpoint_seconds: Minimum time between two checkpoints, seconds. A stop and the last epoch have one in any case.
        validated: Results of the run ``plan.validated_by``, which chose what validation chooses.
        command: The command that started the training, for run.json.
        reporter: Receives notes, the metrics of each epoch, and progress.

    Returns:
        The content of run.json. A run that has finished is not trained again.

    Raises:
        FileExistsError: If the folder has a run and ``resume`` is off.
        ValueError: If its run had other settings, or initial weights or a teacher do not fit or have seen held-out faces.
        StoppedError: If ``stop_at`` came before the last epoch.
    """
    import keras

    if finished := check_resumable(folder, plan, faces, resume):
        return finished
    started = time.monotonic()
    if stop_at is not None and started >= stop_at:
        raise StoppedError(f"time is up: {plan.network} was not started. Continue with --resume")
    split = _training_split(plan, faces, split)
    targets = training_targets(plan, faces, split, folder.parent, stop_at, reporter)
    precision = choose_precision(plan.network, plan.precision)
    keras.config.set_dtype_policy(precision)
    try:
        with shared_batches(plan.devices):
            plan = choose_epochs(plan, folder, faces, split, targets, reporter)
            keras.utils.set_random_seed(plan.seed)
            checkpoint, loaded = _start(plan, faces, split, targets, folder, command, reporter)
            _fit(checkpoint, plan, faces, split, on_epoch, stop_at, checkpoint_seconds, reporter)
    finally:
        keras.config.set_dtype_policy("float32")
    results = _finish(plan, faces, split, folder, checkpoint, loaded, precision, started, validated)
    record = finish_run(folder, plan, faces, split, results, command)
    checkpoint.delete()
    return record


def _training_split(plan: Plan, faces: FaceDataset, split: Split) -> Split:
    """Check the models that a plan learns from; return the split, with the validation faces in training if planned."""
    check_no_leakage(plan.weights, faces, split)
    check_teachers(plan, faces, split)
    return split.with_validation_in_training() if plan.validated_by else split


def _start(
    plan: Plan,
    faces: FaceDataset,
    split: Split,
    targets: TrainingTargets,
    folder: Path,
    command: Sequence[str],
    reporter: Reporter,
) -> tuple[Checkpoint, LoadedWeights]:
    """Build the trainer and write the run.json of a run that starts."""
    trainer, network, loaded = build_trainer(plan, faces, split, targets)
    if loaded.note:
        reporter.note(loaded.note)
    start_run(folder, plan, faces, split, command)
    return Checkpoint(trainer, network, folder), loaded


def _finish(
    plan: Plan,
    faces: FaceDataset,
    split: Split,
    folder: Path,
    checkpoint: Checkpoint,
    loaded: LoadedWeights,
    precision: str,
    started: float,
    validated: TrainingResults | None,
) -> TrainingResults:
    """Write the final model and return the results of the training."""
    import keras

    cycles = validated.averaged_cycles if validated else None
    model, averaged = _final_model(plan, faces, split, checkpoint.final_weights(), cycles)
    validation = faces.subset(split.validation)
    probabilities = keras_probabilities(model, validation, faces.resolution_px)
    if validated:
        temperature = validated.temperature
    else:
        temperature = fit_temperature(probabilities, vote_distributions(validation)) if plan.recipe.calibrate else None
    if temperature is not None:
        apply_temperature(model, temperature)
        probabilities = with_temperature(probabilities, temperature)
    with atomic_path(folder / MODEL_FILE) as temporary:
        write_keras_model(model, temporary, faces.labels)
    return TrainingResults(
        model_digest=file_digest(folder / MODEL_FILE),
        history={name: tuple(values) for name, values in checkpoint.history.items()},
        metrics=measure_splits(model, faces, split, probabilities),
        weights=loaded,
        temperature=temperature,
        precision=precision,
        ema_momentum=average_momentum(plan.recipe, steps_per_epoch(plan, split) * plan.epochs),
        averaged_cycles=averaged if plan.recipe.cycles > 1 else None,
        backend=keras.backend.backend(),
        parameters=count_parameters(model),
        train_seconds=round(checkpoint.earlier_seconds + time.monotonic() - started, 1),
        unsure_threshold=validated.unsure_threshold if validated else unsure_threshold(probabilities, validation.targets),
    )


def _final_model(
    plan: Plan,
    faces: FaceDataset,
    split: Split,
    snapshots: Sequence[Sequence[npt.NDArray[np.float32]]],
    averaged_cycles: int | None,
) -> tuple["keras.Model", int]:
    """Return the float32 network with its final weights, not calibrated, and the number of averaged cycles."""
    recipe = plan.recipe
    size = plan.image_size
    model = build_network(plan.network, size, len(faces.labels), recipe.bn_momentum, last_filters=recipe.last_filters)
    trained = insert_batch_norm(model, plan.recipe.bn_momentum, None) if plan.recipe.batch_norm else model
    averaged = average_snapshots(trained, snapshots, faces, split, averaged_cycles)
    if trained is not model:
        fold_batch_norm(trained, model)
    return model, averaged


def measure_splits(
    model: "keras.Model", faces: FaceDataset, split: Split, validation: npt.NDArray[np.float32] | None = None
) -> SplitMetrics:
    """Measure a network on train, validation and test.

    Args:
        model: From RGB 0..255 (batch, size, size, 3) to probabilities (batch, classes).
        faces: The dataset.
        split: Its division.
        validation: Its probabilities for the validation faces, float32 array (n, classes), if they are known.
    """

    def measure(indices: npt.NDArray[np.intp], probabilities: npt.NDArray[np.float32] | None = None) -> ClassificationMetrics:
        subset = faces.subset(indices)
        if probabilities is None:
            probabilities = keras_probabilities(model, subset, faces.resolution_px)
        return classification_metrics(probabilities, subset.targets, faces.labels)

    return SplitMetrics(measure(split.train), measure(split.validation, validation), measure(split.test))


def _fit(
    checkpoint: Checkpoint,
    plan: Plan,
    faces: FaceDataset,
    split: Split,
    on_epoch: OnEpoch | None,
    stop_at: float | None,
    checkpoint_seconds: float,
    reporter: Reporter,
) -> None:
    """Train from the checkpoint to the last epoch."""
    trainer = checkpoint.trainer
    checkpoint.restore()
    if checkpoint.epoch == plan.epochs:  # stopped after the last epoch: fit would have applied the averaged weights
        trainer.optimizer.finalize_variable_values(trainer.trainable_variables)
        return
    started = saved = time.monotonic()

    def after_epoch(epoch: int, metrics: dict[str, float]) -> None:
        nonlocal saved
        now = time.monotonic()
        stops = stop_at is not None and now >= stop_at and epoch < plan.epochs
        if plan.recipe.cycles > 1 and epoch % (plan.epochs // plan.recipe.cycles) == 0:
            checkpoint.save_snapshot()
        checkpoint.end_epoch(epoch, metrics)
        if stops or epoch == plan.epochs or now - saved >= checkpoint_seconds:
            checkpoint.save(now - started)
            saved = now
        reporter.result(
            f"  epoch {epoch}/{plan.epochs}: " + ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        )
        if on_epoch:
            on_epoch(epoch, metrics)
        if stops:
            raise StoppedError(
                f"time is up: {plan.network} stopped after epoch {epoch} of {plan.epochs}. Continue with --resume"
            )

    validation = np.arange(len(split.train), len(split.train) + len(split.validation), dtype=np.int32)
    with reporter.progress(f"training {plan.network}") as progress:
        trainer.fit(
            **training_data(plan, faces, split),
            validation_data=(validation, one_hot(faces, split.validation)),
            validation_batch_size=max(plan.recipe.batch_size, VALIDATION_BATCH),
            epochs=plan.epochs,
            initial_epoch=checkpoint.epoch,
            callbacks=[_callback(after_epoch, progress, checkpoint.epoch, plan.epochs, steps_per_epoch(plan, split))],
            verbose=0,
        )


def _callback(
    after_epoch: OnEpoch, progress: Progress, first_epoch: int, epochs: int, steps: int
) -> "keras.callbacks.Callback":
    """Return a callback that reports epochs, numbered from 1, and steps."""
    import keras

    epoch = first_epoch

    def on_epoch_end(number: int, logs: dict[str, float] | None = None) -> None:
        nonlocal epoch
        epoch = number + 1
        after_epoch(epoch, {name: float(value) for name, value in (logs or {}).items()})

    callback = keras.callbacks.LambdaCallback(on_epoch_end=on_epoch_end)
    callback.on_train_batch_end = lambda batch, logs=None: progress(epoch * steps + batch + 1, epochs * steps)
    callback.async_safe = True  # otherwise every step waits for the device
    return callback
