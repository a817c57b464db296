"""The trainer: a Keras model from indices of faces to probabilities and labels, which contains the network in training."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.run_folder import LoadedWeights
from fer_edge.artifacts.training_plan import Plan, Recipe
from fer_edge.train.batch_norm import insert_batch_norm
from fer_edge.train.dataset import FaceDataset, to_gray_batch
from fer_edge.train.device_dataset import StoredTargets, class_balanced_weights, on_device_dataset, pad_to_full_batches
from fer_edge.train.networks import build_network
from fer_edge.train.optimizer import build_optimizer
from fer_edge.train.soft_labels import TrainingTargets
from fer_edge.train.splits import Split
from fer_edge.train.teachers import teacher_layer
from fer_edge.train.weights import load_weights

if TYPE_CHECKING:
    import keras


def build_trainer(
    plan: Plan, faces: FaceDataset, split: Split, targets: TrainingTargets
) -> tuple["keras.Model", "keras.Model", LoadedWeights]:
    """Build and compile what a plan trains.

    Args:
        plan: The plan.
        faces: The dataset.
        split: Its division.
        targets: What the network learns for each training face.

    Returns:
        The trainer, from indices of faces to probabilities and labels side by side; the network in it; and where its initial
        weights came from.

    Raises:
        ValueError: If the initial weights do not fit.
    """
    import keras

    network = _new_network(plan, len(faces.labels))
    images = to_gray_batch(faces.subset(np.concatenate([split.train, split.validation])), plan.image_size, faces.resolution_px)
    training_images = images[: len(split.train)]
    loaded = load_weights(network, plan.network, plan.weights, faces.labels, training_images)
    if plan.recipe.batch_norm:
        statistics_from = None if loaded.source == "none" else training_images
        network = insert_batch_norm(network, plan.recipe.bn_momentum, statistics_from)
    all_labels = np.concatenate([targets.labels, one_hot(faces, split.validation)])
    index = keras.Input((), dtype="int32", name="index")
    recipe = plan.recipe
    dataset = on_device_dataset(
        images, all_labels, recipe.augmentation, plan.seed, faces.resolution_px, _stored(targets, recipe)
    )
    gray, y_true = dataset(index)
    rgb = keras.layers.Concatenate(name="as_rgb")([gray] * 3)
    if targets.teachers:
        y_true = teacher_layer(targets.teachers, recipe.distillation_weight, recipe.teacher_temperature)(rgb, y_true)
    y_pred = network(rgb)
    outputs = keras.layers.Concatenate(name="predicted_and_true", dtype="float32")([y_pred, y_true])
    trainer = keras.Model(index, outputs, name="trainer")
    classes = len(faces.labels)
    cross_entropy = keras.losses.CategoricalCrossentropy(label_smoothing=plan.recipe.label_smoothing, reduction=None)

    # Only the graph knows the label of a mixed face, so the loss takes it from the output; `label` is the class of the face.
    def loss(label: Any, output: Any) -> Any:
        return cross_entropy(output[:, classes:], output[:, :classes])

    def accuracy(label: Any, output: Any) -> Any:
        return keras.metrics.categorical_accuracy(label, output[:, :classes])

    optimizer = build_optimizer(plan.recipe, steps_per_epoch(plan, split) * plan.epochs)
    trainer.compile(optimizer=optimizer, loss=loss, metrics=[accuracy])
    _create_variables(trainer, classes)
    return trainer, network, loaded


def _create_variables(trainer: "keras.Model", classes: int) -> None:
    """Create the variables of optimizer and metrics. The first step would create them, and TensorFlow trace it twice."""
    trainer.optimizer.build(trainer.trainable_variables)
    outputs = np.zeros((1, 2 * classes), np.float32)
    trainer.compute_metrics(None, outputs[:, classes:], outputs)
    trainer.reset_metrics()


def _new_network(plan: Plan, num_classes: int) -> "keras.Model":
    recipe = plan.recipe
    return build_network(
        plan.network,
        plan.image_size,
        num_classes,
        recipe.bn_momentum,
        keep_session=plan.devices > 1,  # shared_batches has started a session
        head_dropout=recipe.head_dropout,
        last_filters=recipe.last_filters,
    )


def _stored(targets: TrainingTargets, recipe: Recipe) -> StoredTargets | None:
    if targets.views is None:
        return None
    return StoredTargets(targets.views.outputs, recipe.distillation_weight, recipe.teacher_temperature)


def one_hot(faces: FaceDataset, indices: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
    """Return the classes of faces as float32 array (len(indices), classes).

    Args:
        faces: The dataset.
        indices: Indices of the faces.
    """
    return np.eye(len(faces.labels), dtype=np.float32)[faces.targets[indices]]


def training_data(plan: Plan, faces: FaceDataset, split: Split) -> dict[str, Any]:
    """Return the arguments of fit: indices of the training faces, their classes, their weights and the batch size.

    Args:
        plan: The plan.
        faces: The dataset.
        split: Its division.
    """
    weights = class_balanced_weights(faces.targets[split.train], plan.recipe.class_weight_power)
    train = pad_to_full_batches(np.arange(len(split.train), dtype=np.int32), plan.recipe.batch_size, plan.seed)
    return {
        "x": train,
        "y": one_hot(faces, split.train[train]),
        "sample_weight": None if weights is None else weights[train],
        "batch_size": plan.recipe.batch_size,
    }


def steps_per_epoch(plan: Plan, split: Split) -> int:
    """Return the number of batches of an epoch.

    Args:
        plan: Its recipe has the batch size.
        split: Its training faces.
    """
    return -(-len(split.train) // plan.recipe.batch_size)
