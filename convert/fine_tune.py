"""Fine-tune a folded network for what is to come: int8 arithmetic, many zero weights, or few different ones.

The float network is the teacher: the tuned one learns to give its probabilities. So no labels are needed, and agreement
with the float model is what training works for.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fer_edge.convert.compare import kl_divergence
from fer_edge.convert.tf_keras_copy import copy_weights_back, import_tf_keras, to_tf_keras

if TYPE_CHECKING:
    import keras

LARGEST_SHIFT = 0.08  # share of the side
# Shares of a layer's size that a step may change. Folded weights are much smaller (60 times, CNN) in the first layer, which
# reads bytes, than in the next; Adam's steps are not, and ruin it. Measured on the CNN, validation faces of CK+48, divergence
# of the tuned float model from its teacher, Adam at its best against this: --qat 0.0006 / 0.0000, --cluster 32 0.0015 / 0.0003.
# --prune, a compromise by agreement on faces not trained on: the CNN wants 0.01 (80 %: 0.99, 0.94 at 0.005), but InceptionV3
# (50 %) keeps 0.80 at 0.002 where 0.01 leaves 0.59, and VGG16 0.95 at 0.003 and 0.89 at 0.01.
LEARNING_RATES = {"qat": 3e-4, "pruned": 3e-3, "clustered": 1e-3}
SMALLEST_SIZE = 1e-5  # of a layer, for its steps: a bias that begins at zero must be able to leave it
SMALLEST_SQUARE = 1e-15  # of a gradient; Adafactor's own 1e-30, squared, is zero in float32, and a dead channel makes nan of it
RANGE_FACES = 128
NEGLIGIBLE_LOSS = 0.1  # nats; below it the tuned network answers like its teacher, however little that one knows
COVERED_PERCENT = 95.0

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class FineTuning:
    """One fine-tuning.

    Attributes:
        kind: ``qat`` (quantisation-aware), ``pruned`` or ``clustered``.
        amount: Percent of the weights of each inner layer that are set to zero, or number of different weights a layer; None
            for ``qat``. Depthwise layers are neither pruned nor clustered: they are small.
        epochs: Passes over the faces.
        learning_rate: Largest change in a step, as a share of the size of a layer's weights; it falls to zero along a cosine.
        batch: Faces a step.
        seed: Of order and augmentation.
    """

    kind: str
    amount: float | None
    epochs: int
    learning_rate: float
    batch: int = 32
    seed: int = 0

    def as_data(self) -> dict[str, Any]:
        """Return the settings as plain data for the contract."""
        return asdict(self)


def plan_fine_tuning(qat: bool, prune: float | None, cluster: int | None, epochs: int) -> FineTuning | None:
    """Return the fine-tuning that was asked for, None where none was.

    Raises:
        ValueError: If more than one was, or a number is out of range.
    """
    asked = [name for name, on in (("--qat", qat), ("--prune", prune is not None), ("--cluster", cluster is not None)) if on]
    if len(asked) > 1:
        raise ValueError(f"one fine-tuning at a time. Received: {' and '.join(asked)}")
    if not asked:
        return None
    if epochs < 1:
        raise ValueError(f"fine-tuning takes at least one epoch. Received: --epochs {epochs}")
    if qat:
        return FineTuning("qat", None, epochs, LEARNING_RATES["qat"])
    if prune is not None:
        if not 0 < prune < 100:
            raise ValueError(f"--prune takes a share between 0 and 100 percent. Received: {prune:g}")
        return FineTuning("pruned", prune, epochs, LEARNING_RATES["pruned"])
    if cluster is None or cluster < 2:
        raise ValueError(f"--cluster takes at least 2 different weights. Received: {cluster}")
    return FineTuning("clustered", cluster, epochs, LEARNING_RATES["clustered"])


def fine_tune(
    folded: "keras.Model", faces: npt.NDArray[np.uint8], plan: FineTuning, progress: Progress | None = None
) -> "keras.Model":
    """Fine-tune a folded network.

    Args:
        folded: The network, folded and equalised; it stays as it is.
        faces: Training faces, uint8 array (n, size, size, 3), RGB.
        plan: What to do.
        progress: Called with (batches done, batches in all).

    Returns:
        A model like ``folded`` with other weights. After ``qat`` it is still a float model: its weights have learned to
        bear the rounding, and are quantised as any other's.

    Raises:
        ImportError: If tf-keras or tensorflow-model-optimization is not installed.
        RuntimeError: If it diverges.
    """
    tf_keras = import_tf_keras()
    optimization = _import_optimization()
    tf_keras.utils.set_random_seed(plan.seed)
    twin = to_tf_keras(folded)
    student, callbacks = _student(optimization, twin, plan, faces)
    steps = -(-len(faces) // plan.batch)
    schedule = tf_keras.optimizers.schedules.CosineDecay(plan.learning_rate, steps * plan.epochs)
    optimizer = tf_keras.optimizers.Adafactor(schedule, epsilon_1=SMALLEST_SQUARE, epsilon_2=SMALLEST_SIZE)
    student.compile(optimizer, loss=tf_keras.losses.KLDivergence())
    watch = _watch(tf_keras, _ignorance(folded, faces), plan.epochs, steps, progress)
    student.fit(_taught(folded, faces, plan), epochs=plan.epochs, callbacks=[*callbacks, watch], verbose=0)
    if watch.diverged:
        raise RuntimeError(
            f"fine-tuning diverged (loss {watch.diverged} in epoch {watch.epoch}): stopped, and the float model was kept. "
            "Train the float model longer, or ask for less"
        )
    if plan.kind == "pruned":
        return copy_weights_back(optimization.sparsity.keras.strip_pruning(student).get_layer, folded)
    if plan.kind == "clustered":
        return copy_weights_back(optimization.clustering.keras.strip_clustering(student).get_layer, folded)
    layers = {layer.name.removeprefix("quant_"): layer for layer in student.layers}
    return copy_weights_back(layers.__getitem__, folded)


def _import_optimization() -> Any:
    try:
        import tensorflow_model_optimization
    except ImportError as error:
        raise ImportError(
            f"tensorflow-model-optimization cannot be imported ({error}). Fine-tuning needs it: pip install 'fer-edge[convert]'"
        ) from error
    return tensorflow_model_optimization


def _student(optimization: Any, twin: Any, plan: FineTuning, faces: npt.NDArray[np.uint8]) -> tuple[Any, list[Any]]:
    """Return the twin made ready for its fine-tuning, and the callbacks that this needs."""
    tf_keras = import_tf_keras()
    if plan.kind == "qat":
        quantization = optimization.quantization.keras
        head = [layer.name for layer in twin.layers if layer.weights][-1]  # it and the softmax compute in float, see ai_edge

        def annotate(layer: Any) -> Any:
            return layer if layer.name.startswith(head) else quantization.quantize_annotate_layer(layer)

        student = quantization.quantize_apply(tf_keras.models.clone_model(twin, clone_function=annotate))
        _start_ranges(student, twin, _spread(faces, RANGE_FACES))
        return student, []
    if plan.kind == "pruned":
        steps = -(-len(faces) // plan.batch) * plan.epochs
        sparsity = optimization.sparsity.keras
        # The zeros come over the first half, the second half mends what they cost.
        schedule = sparsity.PolynomialDecay(
            0.0, float(plan.amount or 0) / 100, 0, max(1, steps // 2), frequency=max(1, steps // 40)
        )
        pruned = [layer.name for layer in twin.layers if layer.weights][1:-1]  # the outer two are small, and see or say all

        def wrap(layer: Any) -> Any:
            return sparsity.prune_low_magnitude(layer, pruning_schedule=schedule) if layer.name in pruned else layer

        return tf_keras.models.clone_model(twin, clone_function=wrap), [sparsity.UpdatePruningStep()]
    clustering = optimization.clustering.keras
    start = clustering.CentroidInitialization.KMEANS_PLUS_PLUS
    return clustering.cluster_weights(twin, number_of_clusters=int(plan.amount or 0), cluster_centroids_init=start), []


def _start_ranges(student: Any, twin: Any, faces: npt.NDArray[np.uint8]) -> None:
    """Begin with the ranges that the activations have, and the input's at 0..255.

    Simulated quantisation begins at -6..6 and follows a moving average so slowly that a short training ends before it
    has arrived.
    """
    import tensorflow as tf

    tf_keras = import_tf_keras()
    layers = [layer for layer in twin.layers if layer.name != "face"]
    # Reduced inside the graph: the activations of all layers together are gigabytes.
    flat = [tf.reshape(layer.output, (tf.shape(layer.output)[0], -1)) for layer in layers]
    extremes = [reduce(values, axis=1) for values in flat for reduce in (tf.reduce_min, tf.reduce_max)]
    found = tf_keras.Model(twin.input, extremes).predict(faces.astype(np.float32), batch_size=16, verbose=0)
    per_face = {layer.name: (found[2 * k], found[2 * k + 1]) for k, layer in enumerate(layers)}
    for wrapped in student.layers:
        low, high = per_face.get(wrapped.name.removeprefix("quant_"), (None, None))
        if wrapped.name.startswith("quantize_layer"):
            low, high = np.zeros(1), np.full(1, 255.0)
        if low is None or high is None:
            continue
        for weight in wrapped.weights:
            name = weight.name.rpartition("/")[2].partition(":")[0]
            if not name.startswith("kernel") and not name.startswith("depthwise_kernel") and weight.shape.rank == 0:
                if name.endswith("_min"):
                    weight.assign(np.percentile(low, 100 - COVERED_PERCENT))
                elif name.endswith("_max"):
                    weight.assign(np.percentile(high, COVERED_PERCENT))


def _taught(teacher: "keras.Model", faces: npt.NDArray[np.uint8], plan: FineTuning) -> Any:
    """Return a tf.data.Dataset of (faces moved and mirrored at random, the teacher's probabilities of them)."""
    import tensorflow as tf

    size = faces.shape[1]
    margin = max(1, round(LARGEST_SHIFT * size))

    def change(face: Any) -> Any:
        face = tf.image.random_flip_left_right(tf.cast(face, tf.float32))
        face = tf.pad(face, [[margin, margin], [margin, margin], [0, 0]], mode="SYMMETRIC")
        return tf.image.random_crop(face, (size, size, 3))

    order = tf.data.Dataset.from_tensor_slices(faces).shuffle(len(faces), seed=plan.seed)
    batches = order.map(change, num_parallel_calls=2, deterministic=True).batch(plan.batch)
    return batches.map(lambda batch: (batch, teacher(batch, training=False))).prefetch(2)


def _spread(faces: npt.NDArray[np.uint8], count: int) -> npt.NDArray[np.uint8]:
    """Return faces from all over: datasets stand sorted by class."""
    return faces[np.linspace(0, len(faces) - 1, min(count, len(faces))).astype(int)]


def _ignorance(teacher: "keras.Model", faces: npt.NDArray[np.uint8]) -> float:
    """Return the loss of always giving the teacher's mean probabilities, whatever the face."""
    sample = _spread(faces, RANGE_FACES).astype(np.float32)
    told = np.asarray(teacher.predict(sample, verbose=0), np.float32)
    return float(kl_divergence(told, np.broadcast_to(told.mean(axis=0), told.shape)).mean())


def _watch(tf_keras: Any, ignorance: float, epochs: int, steps: int, progress: Progress | None) -> Any:
    class Watch(tf_keras.callbacks.Callback):
        """Tells how far it is, and stops a run that in its last epoch knows no more than the mean."""

        diverged: str | None = None
        epoch = 0
        done = 0

        def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
            self.done += 1
            if progress:
                progress(self.done, epochs * steps)
            if logs and not np.isfinite(logs["loss"]):
                self._stop(logs["loss"])

        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            self.epoch = epoch + 1
            if self.epoch == epochs and logs and not logs["loss"] < max(ignorance, NEGLIGIBLE_LOSS):
                self._stop(logs["loss"])

        def on_train_end(self, logs: dict[str, float] | None = None) -> None:
            if not self.diverged and not all(np.isfinite(weight).all() for weight in self.model.get_weights()):
                self._stop(float("nan"))  # the last step did it

        def _stop(self, loss: float) -> None:
            self.diverged = f"{loss:.3f}"
            self.model.stop_training = True

    return Watch()
