"""Train one network under one recipe into a run folder; a stopped run resumes at its last whole epoch."""

import dataclasses
import json
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.atomic_write import atomic_path
from fer_edge.train.batch_norm import fold_batch_norm, insert_batch_norm
from fer_edge.train.dataset import FaceDataset, to_gray_batch
from fer_edge.train.device_dataset import class_balanced_weights, face_source, pad_to_full_batches
from fer_edge.train.evaluate import keras_probabilities, measure
from fer_edge.train.networks import build_network, check_image_size, count_parameters
from fer_edge.train.precision import choose_precision
from fer_edge.train.recipes import Recipe
from fer_edge.train.run_folder import MODEL_FILE, check_resumable, finish_run, source_digest, start_run
from fer_edge.train.soft_labels import training_labels
from fer_edge.train.splits import Split
from fer_edge.train.temperature import apply_temperature, fit_temperature
from fer_edge.train.weight_averaging import average_snapshots
from fer_edge.train.weights import LoadedWeights, check_no_leakage, load_weights

if TYPE_CHECKING:
    import keras

CHECKPOINT_FILE = "checkpoint.npz"
VALIDATION_BATCH = 256
LONGEST_AVERAGE = 0.1  # of all steps: the weights' average begins at the initial ones, and a longer one would keep them

History = dict[str, list[float]]


class StoppedError(RuntimeError):
    """Training stopped at a checkpoint before its last epoch, as asked."""


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
        teachers: Run folders, .tflite files or names of models that come with fer-edge, whose mean opinion of each training
            face is learned beside its label.
        ferplus: FER+ table (fer2013new.csv) whose ten votes replace FER2013's labels in training, or None.
        source_digests: sha256 of the Keras model that ``weights`` is from, then of that of each teacher; None for what is none.
    """

    network: str
    recipe: Recipe
    image_size: int
    epochs: int
    seed: int = 0
    weights: str = "auto"
    precision: str = "auto"
    teachers: tuple[str, ...] = ()
    ferplus: str | None = None
    source_digests: tuple[str | None, ...] = (None,)


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
) -> Plan:
    """Fill in what was left open from the network's and the recipe's defaults.

    Raises:
        ModelError: If a source is a .tflite file, but not of fer-edge.
        ValueError: If the network is unknown, the image size too small, the epochs fewer than 1, or their cycles not whole.
    """
    size = check_image_size(network, image_size)
    count = recipe.epochs[network] if epochs is None else epochs
    if count < 1:
        raise ValueError(f"epochs must be at least 1. Received: epochs={count}")
    if count % recipe.cycles:
        fitting = recipe.cycles * -(-count // recipe.cycles)
        raise ValueError(
            f"{network}: {count} epochs cannot be divided into {recipe.cycles} equal cycles. Give --epochs a multiple of "
            f"{recipe.cycles}, for example {fitting}"
        )
    digests = tuple(source_digest(source) for source in (weights, *teachers))
    return Plan(network, recipe, size, count, seed, weights, precision, tuple(teachers), ferplus, digests)


def train_run(
    plan: Plan,
    faces: FaceDataset,
    split: Split,
    folder: Path,
    resume: bool = False,
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
    on_note: Callable[[str], None] | None = None,
    on_step: Callable[[int, int], None] | None = None,
    checkpoint_every: int = 1,
    stop_at: float | None = None,
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
        checkpoint_every: Epochs between two checkpoints. A large network's takes a second to write, more with each cycle.
        stop_at: Time of time.monotonic(), seconds, after which training stops with a checkpoint.

    Returns:
        The content of run.json; of a run that is finished already, without training again.

    Raises:
        FileExistsError: If the folder holds a run already and ``resume`` is off.
        ValueError: If its run was started with other settings, the initial weights do not fit, or the run they are
            from or a teacher has seen the test faces.
        StoppedError: If ``stop_at`` came before the last epoch.
    """
    import keras

    finished = check_resumable(folder, plan, faces, resume)
    if finished:
        return finished
    started = time.monotonic()
    if stop_at is not None and started >= stop_at:
        raise StoppedError(f"time is up: {plan.network} was not begun. Go on: --resume")
    check_no_leakage(plan.weights, faces, split)
    labels = training_labels(plan, faces, split, folder.parent)
    keras.utils.set_random_seed(plan.seed)
    precision = choose_precision(plan.network, plan.precision)
    keras.config.set_dtype_policy(precision)
    try:
        trainer, network, loaded = _build(plan, faces, split, labels)
        if loaded.note and on_note:
            on_note(loaded.note)
        start_run(folder, plan, faces, split)
        checkpoint = _Checkpoint(trainer, network, folder, checkpoint_every)
        _fit(trainer, plan, faces, split, checkpoint, on_epoch, on_step, stop_at)
        ends = checkpoint.ends or [network.get_weights()]
    finally:
        keras.config.set_dtype_policy("float32")
    model = build_network(plan.network, plan.image_size, len(faces.labels), plan.recipe.bn_momentum)
    trained = insert_batch_norm(model, plan.recipe.bn_momentum, None) if plan.recipe.batch_norm else model
    averaged = average_snapshots(trained, ends, faces, split)
    if trained is not model:
        fold_batch_norm(trained, model)
    temperature = _calibrate(model, plan.recipe, faces, split)
    with atomic_path(folder / MODEL_FILE) as temporary:
        model.save(temporary)
    results = {
        "history": checkpoint.history,
        "metrics": measure_parts(model, faces, split),
        "temperature": temperature,
        "weights": dataclasses.asdict(loaded),
        "precision": precision,
        "ema_momentum": _average_momentum(plan.recipe, _steps(plan, split) * plan.epochs),
        "averaged_cycles": averaged if plan.recipe.cycles > 1 else None,
        "backend": keras.backend.backend(),
        "parameters": count_parameters(model),
        "train_seconds": round(checkpoint.earlier_seconds + time.monotonic() - started, 1),
    }
    run = finish_run(folder, plan, faces, split, results)
    (folder / CHECKPOINT_FILE).unlink(missing_ok=True)
    return run


def _calibrate(model: "keras.Model", recipe: Recipe, faces: FaceDataset, split: Split) -> float | None:
    """Fit a temperature on validation and put it into the weights; return it, None where the recipe wants none."""
    if not recipe.calibrate:
        return None
    chosen = faces.take(split.validation)
    temperature = fit_temperature(keras_probabilities(model, chosen, faces.resolution_px), chosen.targets)
    apply_temperature(model, temperature)
    return temperature


def measure_parts(model: "keras.Model", faces: FaceDataset, split: Split) -> dict[str, dict[str, Any]]:
    """Return the figures of ``measure`` for train, validation and test."""
    metrics = {}
    for part, indices in (("train", split.train), ("validation", split.validation), ("test", split.test)):
        chosen = faces.take(indices)
        metrics[part] = measure(keras_probabilities(model, chosen, faces.resolution_px), chosen.targets, faces.labels)
    return metrics


def _build(
    plan: Plan, faces: FaceDataset, split: Split, labels: npt.NDArray[np.float32]
) -> tuple["keras.Model", "keras.Model", LoadedWeights]:
    """Return the trainer, from numbers of faces to probabilities with the labels beside them, and the network in it."""
    import keras

    network = build_network(plan.network, plan.image_size, len(faces.labels), plan.recipe.bn_momentum)
    used = faces.take(np.concatenate([split.train, split.validation]))
    images = to_gray_batch(used, plan.image_size, faces.resolution_px)
    seen = images[: len(split.train)]
    loaded = load_weights(network, plan.network, plan.weights, faces.labels, seen)
    if plan.recipe.batch_norm:
        network = insert_batch_norm(network, plan.recipe.bn_momentum, None if loaded.source == "none" else seen)
    known = np.concatenate([labels, _one_hot(faces, split.validation)])
    number = keras.Input((), dtype="int32", name="number")
    grey, answer = face_source(images, known, plan.recipe.augmentation, plan.seed)(number)
    guess = network(keras.layers.Concatenate(name="as_rgb")([grey] * 3))
    beside = keras.layers.Concatenate(name="guess_and_answer", dtype="float32")
    trainer = keras.Model(number, beside([guess, answer]), name="trainer")
    classes = len(faces.labels)
    cross_entropy = keras.losses.CategoricalCrossentropy(label_smoothing=plan.recipe.label_smoothing, reduction=None)

    # The label of a mixed face is known inside the graph only, so the loss takes it from there; `label` is the true one.
    def loss(label: Any, both: Any) -> Any:
        return cross_entropy(both[:, classes:], both[:, :classes])

    def accuracy(label: Any, both: Any) -> Any:
        return keras.metrics.categorical_accuracy(label, both[:, :classes])

    trainer.compile(optimizer=_optimizer(plan.recipe, _steps(plan, split) * plan.epochs), loss=loss, metrics=[accuracy])
    return trainer, network, loaded


def _one_hot(faces: FaceDataset, indices: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
    return np.eye(len(faces.labels), dtype=np.float32)[faces.targets[indices]]


def _steps(plan: Plan, split: Split) -> int:
    return -(-len(split.train) // plan.recipe.batch_size)


def _average_momentum(recipe: Recipe, steps: int) -> float:
    """Return the momentum of the weights' moving average in a run of so many steps; 0 where it keeps none."""
    return 0.0 if recipe.cycles > 1 else max(0.0, min(recipe.ema_momentum, 1 - 1 / (LONGEST_AVERAGE * steps)))


def _optimizer(recipe: Recipe, steps: int) -> "keras.optimizers.Optimizer":
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
            rate = _repeated(rate, cycle)
    momentum = _average_momentum(recipe, steps)
    average = {"use_ema": True, "ema_momentum": momentum} if momentum else {}
    if recipe.optimizer == "adamw":
        return keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay, **average)
    return keras.optimizers.Adam(rate, **average)


def _repeated(
    schedule: "keras.optimizers.schedules.LearningRateSchedule", steps: int
) -> "keras.optimizers.schedules.LearningRateSchedule":
    """Return a schedule that begins again after so many steps."""
    import keras

    class Repeated(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step: Any) -> Any:
            return schedule(step % steps)

    return Repeated()


def _fit(
    trainer: "keras.Model",
    plan: Plan,
    faces: FaceDataset,
    split: Split,
    checkpoint: "_Checkpoint",
    on_epoch: Callable[[int, dict[str, float]], None] | None,
    on_step: Callable[[int, int], None] | None,
    stop_at: float | None,
) -> None:
    """Train from the checkpoint to the last epoch."""
    import keras

    checkpoint.restore()
    started = time.monotonic()

    def after_epoch(epoch: int, logs: dict[str, float] | None = None) -> None:
        figures = {name: float(value) for name, value in (logs or {}).items()}
        if plan.recipe.cycles > 1 and (epoch + 1) % (plan.epochs // plan.recipe.cycles) == 0:
            checkpoint.end_cycle()
        late = stop_at is not None and time.monotonic() >= stop_at and epoch + 1 < plan.epochs
        checkpoint.save(epoch + 1, figures, time.monotonic() - started, always=late)
        if on_epoch:
            on_epoch(epoch + 1, figures)
        if late:
            raise StoppedError(f"time is up: {plan.network} stopped after epoch {epoch + 1} of {plan.epochs}. Go on: --resume")

    steps = _steps(plan, split)
    callback = keras.callbacks.LambdaCallback(on_epoch_end=after_epoch)
    if on_step:
        callback.on_train_batch_end = lambda batch, logs=None: on_step(
            checkpoint.epoch * steps + batch + 1, plan.epochs * steps
        )
        callback.async_safe = True  # otherwise every step waits for the device
    if checkpoint.epoch < plan.epochs:
        numbers = np.arange(len(split.train) + len(split.validation), dtype=np.int32)
        weights = class_balanced_weights(faces.targets[split.train], plan.recipe.balance)
        train = pad_to_full_batches(numbers[: len(split.train)], plan.recipe.batch_size, plan.seed)
        validation = numbers[len(split.train) :]
        trainer.fit(
            train,
            _one_hot(faces, split.train[train]),
            sample_weight=None if weights is None else weights[train],
            batch_size=plan.recipe.batch_size,
            validation_data=(validation, _one_hot(faces, split.validation)),
            validation_batch_size=max(plan.recipe.batch_size, VALIDATION_BATCH),
            epochs=plan.epochs,
            initial_epoch=checkpoint.epoch,
            callbacks=[callback],
            verbose=0,
        )
    else:  # stopped between the last epoch and the end: fit would have taken the averaged weights
        trainer.optimizer.finalize_variable_values(trainer.trainable_variables)


class _Checkpoint:
    """The state after the last whole epoch: model, optimizer, random seeds, weights at the ends of cycles, history."""

    def __init__(self, trainer: "keras.Model", network: "keras.Model", folder: Path, every: int) -> None:
        trainer.optimizer.build(trainer.trainable_variables)
        source = trainer.get_layer("faces")
        stored = {id(source.images), id(source.labels)}  # they come from the data, not from training
        self._variables = [v for v in trainer.variables if id(v) not in stored] + trainer.optimizer.variables
        self._network = network
        self._path = folder / CHECKPOINT_FILE
        self._every = every
        self.epoch = 0
        self.earlier_seconds = 0.0
        self.history: History = {}
        self.ends: list[list[npt.NDArray[np.float32]]] = []

    def end_cycle(self) -> None:
        """Keep the weights of the network as they are."""
        self.ends.append(self._network.get_weights())

    def save(self, epoch: int, figures: dict[str, float], seconds: float, always: bool) -> None:
        import keras

        for name, value in figures.items():
            self.history.setdefault(name, []).append(value)
        self.epoch = epoch
        if epoch % self._every and not always:
            return
        state = {
            "epoch": epoch,
            "seconds": self.earlier_seconds + seconds,
            "history": self.history,
            "ends": len(self.ends),
        }
        arrays = [keras.ops.convert_to_numpy(variable) for variable in self._variables]
        arrays += [weights for end in self.ends for weights in end]
        with atomic_path(self._path) as temporary, temporary.open("wb") as file:
            np.savez(file, *arrays, np.array(json.dumps(state)))

    def restore(self) -> None:
        if not self._path.is_file():
            return
        try:
            with np.load(self._path) as content:
                *arrays, text = [content[f"arr_{k}"] for k in range(len(content.files))]
            state = json.loads(str(text))
        except (ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"the checkpoint {self._path} cannot be read ({error}). Remove its folder and train again"
            ) from error
        own, each, ends = len(self._variables), len(self._network.weights), state.get("ends", 0)  # earlier runs had no cycles
        expected = [*self._variables, *self._network.weights * ends]
        if [value.shape for value in arrays] != [tuple(variable.shape) for variable in expected]:
            raise ValueError(f"the checkpoint {self._path} is of another fer-edge. Remove its folder and train again")
        for variable, value in zip(self._variables, arrays[:own], strict=True):
            variable.assign(value)
        self.ends = [arrays[own + k * each : own + (k + 1) * each] for k in range(ends)]
        self.epoch, self.earlier_seconds, self.history = state["epoch"], state["seconds"], state["history"]
