"""Fine-tune a folded network before conversion: quantization-aware, pruned or clustered.

The float network is the teacher: the tuned network learns to reproduce its probabilities. So no labels are needed, and training
optimizes the agreement with the float model.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.conversion import FineTuning
from fer_edge.artifacts.reporter import Progress
from fer_edge.convert.compare import kl_divergence
from fer_edge.convert.tf_keras_copy import copy_weights_back, import_tf_keras, to_tf_keras

if TYPE_CHECKING:
    import keras

MAX_SHIFT = 0.08  # fraction of the side
# Fraction of the size of a layer's weights that a step may change. The folded weights of the first layer, which reads bytes,
# are much smaller (60 times, CNN) than those of the next layer. Adam's steps are not, and destroy them. Measured on the CNN,
# validation faces of CK+48, divergence of the tuned float model from its teacher, best Adam / these rates: --qat 0.0006 /
# 0.0000, --cluster 32 0.0015 / 0.0003. --prune is a compromise, by agreement on faces not trained on: the CNN needs 0.01 (80 %:
# 0.99, 0.94 at 0.005), but InceptionV3 (50 %) keeps 0.80 at 0.002 and 0.59 at 0.01, and VGG16 0.95 at 0.003 and 0.89 at 0.01.
LEARNING_RATES = {"qat": 3e-4, "pruned": 3e-3, "clustered": 1e-3}
MIN_WEIGHT_SIZE = 1e-5  # size of a layer for its steps: a bias that starts at zero must be able to change
MIN_SQUARED_GRADIENT = 1e-15  # the default of Adafactor, 1e-30, squared is 0 in float32, which gives NaN for a dead channel
RANGE_FACES = 128
NEGLIGIBLE_LOSS = 0.1  # nats; below it the tuned network reproduces its teacher, even if the teacher is uncertain
RANGE_PERCENTILE = 95.0


def plan_fine_tuning(qat: bool, prune: float | None, cluster: int | None, epochs: int) -> FineTuning | None:
    """Return the requested fine-tuning; None if none is requested.

    Args:
        qat: Whether to train with simulated quantization.
        prune: Percentage of the weights of each inner layer to set to zero, 0..100, both exclusive.
        cluster: Number of distinct weights per layer, at least 2.
        epochs: Passes over the faces, at least 1.

    Raises:
        ValueError: If more than one is requested, or a number is out of range.
    """
    requests = {"--qat": qat, "--prune": prune is not None, "--cluster": cluster is not None}
    requested = [option for option, value in requests.items() if value]
    if len(requested) > 1:
        raise ValueError(f"one fine-tuning at a time. Received: {' and '.join(requested)}")
    if not requested:
        return None
    if epochs < 1:
        raise ValueError(f"fine-tuning takes at least one epoch. Received: --epochs {epochs}")
    if qat:
        return FineTuning("qat", None, epochs, LEARNING_RATES["qat"])
    if prune is not None:
        if not 0 < prune < 100:
            raise ValueError(f"--prune takes a percentage between 0 and 100. Received: {prune:g}")
        return FineTuning("pruned", prune, epochs, LEARNING_RATES["pruned"])
    if cluster is None or cluster < 2:
        raise ValueError(f"--cluster takes at least 2 distinct weights. Received: {cluster}")
    return FineTuning("clustered", cluster, epochs, LEARNING_RATES["clustered"])


def fine_tune(
    folded: "keras.Model", faces: npt.NDArray[np.uint8], plan: FineTuning, progress: Progress | None = None
) -> "keras.Model":
    """Fine-tune a folded network.

    Args:
        folded: The network, folded and equalized. It does not change.
        faces: Training faces, uint8 array (n, size, size, 3), RGB.
        plan: The fine-tuning.
        progress: Called with (batches done, batches in all).

    Returns:
        A model like ``folded`` with other weights. After ``qat`` it is still a float model: its weights tolerate rounding, and
        are quantized like those of any model.

    Raises:
        ImportError: If tf-keras or tensorflow-model-optimization is not installed.
        RuntimeError: If the training diverges.
    """
    tf_keras = import_tf_keras()
    optimization = _import_optimization()
    tf_keras.utils.set_random_seed(plan.seed)
    student, callbacks = _student(optimization, to_tf_keras(folded), plan, faces)
    steps = -(-len(faces) // plan.batch_size)
    schedule = tf_keras.optimizers.schedules.CosineDecay(plan.learning_rate, steps * plan.epochs)
    optimizer = tf_keras.optimizers.Adafactor(schedule, epsilon_1=MIN_SQUARED_GRADIENT, epsilon_2=MIN_WEIGHT_SIZE)
    student.compile(optimizer, loss=tf_keras.losses.KLDivergence())
    monitor = _divergence_monitor(tf_keras, _constant_prediction_loss(folded, faces), plan.epochs, steps, progress)
    dataset = _distillation_dataset(folded, faces, plan)
    student.fit(dataset, epochs=plan.epochs, callbacks=[*callbacks, monitor], verbose=0)
    if monitor.diverged:
        raise RuntimeError(
            f"fine-tuning diverged (loss {monitor.diverged} in epoch {monitor.epoch}) and was stopped. Train the float model "
            "longer, or use a smaller --prune or a larger --cluster"
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


def _student(optimization: Any, copy: Any, plan: FineTuning, faces: npt.NDArray[np.uint8]) -> tuple[Any, list[Any]]:
    """Return the tf-keras copy of the network wrapped for its fine-tuning, and the callbacks that the wrappers need."""
    tf_keras = import_tf_keras()
    if plan.kind == "qat":
        quantization = optimization.quantization.keras
        head = [layer.name for layer in copy.layers if layer.weights][-1]  # float like the softmax, see ai_edge

        def annotate(layer: Any) -> Any:
            return layer if layer.name.startswith(head) else quantization.quantize_annotate_layer(layer)

        student = quantization.quantize_apply(tf_keras.models.clone_model(copy, clone_function=annotate))
        _init_quantizer_ranges(student, copy, _evenly_spaced(faces, RANGE_FACES))
        return student, []
    if plan.kind == "pruned":
        steps = -(-len(faces) // plan.batch_size) * plan.epochs
        sparsity = optimization.sparsity.keras
        # The sparsity grows during the first half; the second half recovers the accuracy.
        schedule = sparsity.PolynomialDecay(
            0.0, float(plan.amount or 0) / 100, 0, max(1, steps // 2), frequency=max(1, steps // 40)
        )
        # The first and the last layer are small, and everything passes through them.
        pruned = [layer.name for layer in copy.layers if layer.weights][1:-1]

        def wrap(layer: Any) -> Any:
            return sparsity.prune_low_magnitude(layer, pruning_schedule=schedule) if layer.name in pruned else layer

        return tf_keras.models.clone_model(copy, clone_function=wrap), [sparsity.UpdatePruningStep()]
    clustering = optimization.clustering.keras
    start = clustering.CentroidInitialization.KMEANS_PLUS_PLUS
    return clustering.cluster_weights(copy, number_of_clusters=int(plan.amount or 0), cluster_centroids_init=start), []


def _init_quantizer_ranges(student: Any, copy: Any, faces: npt.NDArray[np.uint8]) -> None:
    """Set the ranges of the simulated quantizers to those of the activations, and that of the input to 0..255.

    The default is -6..6 with a moving average so slow that a short training ends before it has adapted.
    """
    import tensorflow as tf

    tf_keras = import_tf_keras()
    layers = [layer for layer in copy.layers if layer.name != "face"]
    # Reduced inside the graph: the activations of all layers together take gigabytes.
    flat = [tf.reshape(layer.output, (tf.shape(layer.output)[0], -1)) for layer in layers]
    extremes = [reduce(values, axis=1) for values in flat for reduce in (tf.reduce_min, tf.reduce_max)]
    per_face = tf_keras.Model(copy.input, extremes).predict(faces.astype(np.float32), batch_size=16, verbose=0)
    ranges = {layer.name: (per_face[2 * index], per_face[2 * index + 1]) for index, layer in enumerate(layers)}
    for wrapped in student.layers:
        low, high = ranges.get(wrapped.name.removeprefix("quant_"), (None, None))
        if wrapped.name.startswith("quantize_layer"):
            low, high = np.zeros(1), np.full(1, 255.0)
        if low is None or high is None:
            continue
        for weight in wrapped.weights:
            name = weight.name.rpartition("/")[2].partition(":")[0]
            if not name.startswith("kernel") and not name.startswith("depthwise_kernel") and weight.shape.rank == 0:
                if name.endswith("_min"):
                    weight.assign(np.percentile(low, 100 - RANGE_PERCENTILE))
                elif name.endswith("_max"):
                    weight.assign(np.percentile(high, RANGE_PERCENTILE))


def _distillation_dataset(teacher: "keras.Model", faces: npt.NDArray[np.uint8], plan: FineTuning) -> Any:
    """Return a tf.data.Dataset of (randomly shifted and mirrored faces, probabilities of the teacher for them)."""
    import tensorflow as tf

    size = faces.shape[1]
    margin = max(1, round(MAX_SHIFT * size))

    def augment(face: Any) -> Any:
        face = tf.image.random_flip_left_right(tf.cast(face, tf.float32))
        face = tf.pad(face, [[margin, margin], [margin, margin], [0, 0]], mode="SYMMETRIC")
        return tf.image.random_crop(face, (size, size, 3))

    shuffled = tf.data.Dataset.from_tensor_slices(faces).shuffle(len(faces), seed=plan.seed)
    batches = shuffled.map(augment, num_parallel_calls=2, deterministic=True).batch(plan.batch_size)
    return batches.map(lambda batch: (batch, teacher(batch, training=False))).prefetch(2)


def _evenly_spaced(faces: npt.NDArray[np.uint8], count: int) -> npt.NDArray[np.uint8]:
    """Return at most ``count`` faces at equal distances. Datasets are sorted by class, so this samples all classes."""
    return faces[np.linspace(0, len(faces) - 1, min(count, len(faces))).astype(int)]


def _constant_prediction_loss(teacher: "keras.Model", faces: npt.NDArray[np.uint8]) -> float:
    """Return the loss (nats) of a network that outputs the mean probabilities of the teacher for every face."""
    sample = _evenly_spaced(faces, RANGE_FACES).astype(np.float32)
    probabilities = np.asarray(teacher.predict(sample, verbose=0), np.float32)
    mean = np.broadcast_to(probabilities.mean(axis=0), probabilities.shape)
    return float(kl_divergence(probabilities, mean).mean())


def _divergence_monitor(tf_keras: Any, constant_loss: float, epochs: int, steps: int, progress: Progress | None) -> Any:
    """Return a tf-keras callback that reports progress and stops a training that diverges."""

    class DivergenceMonitor(tf_keras.callbacks.Callback):
        """Stops at NaN, and after the last epoch if the loss is not below that of a constant prediction."""

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
            if self.epoch == epochs and logs and not logs["loss"] < max(constant_loss, NEGLIGIBLE_LOSS):
                self._stop(logs["loss"])

        def on_train_end(self, logs: dict[str, float] | None = None) -> None:
            if not self.diverged and not all(np.isfinite(weight).all() for weight in self.model.get_weights()):
                self._stop(float("nan"))  # the last step caused it

        def _stop(self, loss: float) -> None:
            self.diverged = f"{loss:.3f}"
            self.model.stop_training = True

    return DivergenceMonitor()
