"""Train one network under one recipe into a run folder; a stopped run resumes at its last whole epoch."""

import dataclasses
import json
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fer_edge.edge_runtime.whole_file import whole_file
from fer_edge.train.augment import augmentation_layer
from fer_edge.train.evaluate import keras_probabilities, measure
from fer_edge.train.faces import Faces, grey_batch
from fer_edge.train.networks import build_network, check_image_size
from fer_edge.train.precision import choose_precision
from fer_edge.train.recipes import Recipe
from fer_edge.train.run_folder import MODEL_FILE, check_run, finish_run, start_run
from fer_edge.train.splits import Split
from fer_edge.train.weights import LoadedWeights, load_weights

if TYPE_CHECKING:
    import keras

CHECKPOINT_FILE = "checkpoint.npz"

History = dict[str, list[float]]


@dataclass(frozen=True)
class Plan:
    """One training run.

    Attributes:
        network: Name in NETWORKS.
        recipe: The recipe.
        image_size: Input side, pixels.
        epochs: Number of epochs.
        seed: Seed of weights, order, dropout and augmentation.
        weights: Source of the initial weights, see load_weights.
        precision: ``auto``, ``float32`` or ``mixed_bfloat16``.
    """

    network: str
    recipe: Recipe
    image_size: int
    epochs: int
    seed: int = 0
    weights: str = "auto"
    precision: str = "auto"


def make_plan(
    network: str,
    recipe: Recipe,
    image_size: int | None = None,
    epochs: int | None = None,
    seed: int = 0,
    weights: str = "auto",
    precision: str = "auto",
) -> Plan:
    """Fill in what was left open from the network's and the recipe's defaults.

    Raises:
        ValueError: If the network is unknown, the image size too small, or the epochs fewer than 1.
    """
    size = check_image_size(network, image_size)
    count = recipe.epochs[network] if epochs is None else epochs
    if count < 1:
        raise ValueError(f"epochs must be at least 1. Received: epochs={count}")
    return Plan(network, recipe, size, count, seed, weights, precision)


def train_run(
    plan: Plan,
    faces: Faces,
    split: Split,
    folder: Path,
    resume: bool = False,
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
    on_note: Callable[[str], None] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Train a network and write its run folder.

    Args:
        plan: What to train and how.
        faces: The dataset.
        split: Its division.
        folder: The run folder, made anew unless ``resume``.
        resume: Go on from the checkpoint in the folder.
        on_epoch: Called after each epoch with its number (from 1) and its figures.
        on_note: Called with a line the user should read.
        on_step: Called with (steps done, steps in all).

    Returns:
        The content of run.json; of a run that is finished already, without training again.

    Raises:
        FileExistsError: If the folder holds a run already and ``resume`` is off.
        ValueError: If its run was started with other settings, or the initial weights do not fit.
    """
    import keras

    finished = check_run(folder, plan, faces, resume)
    if finished:
        return finished
    keras.utils.set_random_seed(plan.seed)
    precision = choose_precision(plan.network, plan.precision)
    keras.config.set_dtype_policy(precision)
    started = time.monotonic()
    try:
        trainer, network, loaded = _build(plan, faces, split)
        if loaded.note and on_note:
            on_note(loaded.note)
        start_run(folder, plan, faces, split)
        history, seconds = _fit(trainer, plan, faces, split, folder, on_epoch, on_step)
        weights = network.get_weights()
    finally:
        keras.config.set_dtype_policy("float32")
    model = build_network(plan.network, plan.image_size, len(faces.labels), plan.recipe.bn_momentum)
    model.set_weights(weights)
    with whole_file(folder / MODEL_FILE) as temporary:
        model.save(temporary)
    metrics = {}
    for part, indices in (("train", split.train), ("validation", split.validation), ("test", split.test)):
        chosen = faces.take(indices)
        metrics[part] = measure(keras_probabilities(model, chosen, faces.resolution_px), chosen.targets, faces.labels)
    run = finish_run(
        folder,
        plan,
        faces,
        split,
        {
            "history": history,
            "metrics": metrics,
            "weights": dataclasses.asdict(loaded),
            "precision": precision,
            "backend": keras.backend.backend(),
            "parameters": model.count_params() - 3,  # to_grey's three weights are no part of the network
            "train_seconds": round(seconds + time.monotonic() - started, 1),
        },
    )
    (folder / CHECKPOINT_FILE).unlink(missing_ok=True)
    return run


def _build(plan: Plan, faces: Faces, split: Split) -> tuple["keras.Model", "keras.Model", LoadedWeights]:
    import keras

    network = build_network(plan.network, plan.image_size, len(faces.labels), plan.recipe.bn_momentum)
    loaded = load_weights(network, plan.network, plan.weights)
    grey = keras.Input((plan.image_size, plan.image_size, 1), name="grey_face")
    changed = augmentation_layer(plan.recipe.augmentation, plan.seed)(grey)
    trainer = keras.Model(grey, network(keras.layers.Concatenate(name="as_rgb")([changed] * 3)), name="trainer")
    trainer.compile(
        optimizer=_optimizer(plan.recipe, _steps(plan, split) * plan.epochs),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=plan.recipe.label_smoothing),
        metrics=["accuracy"],
    )
    return trainer, network, loaded


def _steps(plan: Plan, split: Split) -> int:
    return -(-len(split.train) // plan.recipe.batch_size)


def _optimizer(recipe: Recipe, steps: int) -> "keras.optimizers.Optimizer":
    import keras

    rate: Any = recipe.learning_rate
    if recipe.schedule == "cosine":
        warmup = int(recipe.warmup_share * steps)
        rate = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0 if warmup else recipe.learning_rate,
            decay_steps=max(1, steps - warmup),
            warmup_target=recipe.learning_rate if warmup else None,
            warmup_steps=warmup,
        )
    average = {"use_ema": True, "ema_momentum": recipe.ema_momentum} if recipe.ema_momentum else {}
    if recipe.optimizer == "adamw":
        return keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay, **average)
    if recipe.optimizer == "adam":
        return keras.optimizers.Adam(rate, **average)
    raise ValueError(f"unknown optimizer '{recipe.optimizer}'; choose one of: adam, adamw")


def _fit(
    trainer: "keras.Model",
    plan: Plan,
    faces: Faces,
    split: Split,
    folder: Path,
    on_epoch: Callable[[int, dict[str, float]], None] | None,
    on_step: Callable[[int, int], None] | None,
) -> tuple[History, float]:
    """Train to the last epoch; return the history and the seconds that earlier sittings took."""
    import keras

    train, validation = faces.take(split.train), faces.take(split.validation)
    one_hot = np.eye(len(faces.labels), dtype=np.float32)
    trainer.optimizer.build(trainer.trainable_variables)
    checkpoint = _Checkpoint(trainer, folder)
    checkpoint.restore()
    balance = _face_weights(train.targets, plan.recipe.balance)
    started = time.monotonic()
    earlier = checkpoint.seconds

    def after_epoch(epoch: int, logs: dict[str, float] | None = None) -> None:
        figures = {name: float(value) for name, value in (logs or {}).items()}
        checkpoint.save(epoch + 1, figures, earlier + time.monotonic() - started)
        if on_epoch:
            on_epoch(epoch + 1, figures)

    steps = _steps(plan, split)
    callback = keras.callbacks.LambdaCallback(on_epoch_end=after_epoch)
    if on_step:
        callback.on_train_batch_end = lambda batch, logs=None: on_step(
            checkpoint.epoch * steps + batch + 1, plan.epochs * steps
        )
    if checkpoint.epoch < plan.epochs:
        trainer.fit(
            grey_batch(train, plan.image_size, faces.resolution_px),
            one_hot[train.targets],
            sample_weight=balance,
            batch_size=plan.recipe.batch_size,
            validation_data=(grey_batch(validation, plan.image_size, faces.resolution_px), one_hot[validation.targets]),
            epochs=plan.epochs,
            initial_epoch=checkpoint.epoch,
            callbacks=[callback],
            verbose=0,
        )
    else:  # stopped between the last epoch and the end: fit would have taken the averaged weights
        trainer.optimizer.finalize_variable_values(trainer.trainable_variables)
    return checkpoint.history, earlier


def _face_weights(targets: npt.NDArray[np.int64], power: float) -> npt.NDArray[np.float32] | None:
    if not power:
        return None
    counts = np.bincount(targets)
    weights = (1.0 / counts[targets]) ** power
    return (weights / weights.mean()).astype(np.float32)


class _Checkpoint:
    """The state after the last whole epoch: model, optimizer, random seeds, history."""

    def __init__(self, trainer: "keras.Model", folder: Path) -> None:
        self._trainer = trainer
        self._folder = folder
        self.epoch = 0
        self.seconds = 0.0
        self.history: History = {}

    def _variables(self) -> list[Any]:
        return [*self._trainer.variables, *self._trainer.optimizer.variables]

    def save(self, epoch: int, figures: dict[str, float], seconds: float) -> None:
        import keras

        for name, value in figures.items():
            self.history.setdefault(name, []).append(value)
        self.epoch, self.seconds = epoch, seconds
        state = {"epoch": epoch, "seconds": seconds, "history": self.history}
        arrays = [keras.ops.convert_to_numpy(variable) for variable in self._variables()]
        _write_arrays(self._folder / CHECKPOINT_FILE, [*arrays, np.array(json.dumps(state))])

    def restore(self) -> None:
        path = self._folder / CHECKPOINT_FILE
        if not path.is_file():
            return
        try:
            *arrays, text = _read_arrays(path)
            state = json.loads(str(text))
        except (ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
            raise ValueError(f"the checkpoint {path} cannot be read ({error}). Start anew without --resume") from error
        for variable, value in zip(self._variables(), arrays, strict=True):
            variable.assign(value)
        self.epoch, self.seconds = state["epoch"], state["seconds"]
        self.history = state["history"]


def _write_arrays(path: Path, arrays: list[npt.NDArray[Any]]) -> None:
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, *arrays)


def _read_arrays(path: Path) -> list[npt.NDArray[Any]]:
    with np.load(path) as content:
        return [content[f"arr_{k}"] for k in range(len(content.files))]
