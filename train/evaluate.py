"""Evaluate Keras and TFLite models through one code path, from picture to label."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.metrics import expected_calibration_error
from fer_edge.edge_runtime.classify import Classifier
from fer_edge.edge_runtime.crop import preprocess_face, to_rgb
from fer_edge.train.dataset import FaceDataset

if TYPE_CHECKING:
    import keras

BATCH = 64
SMALLEST_PROBABILITY = 1e-7  # a quantised probability can be exactly 0, whose logarithm is not finite

Probabilities = npt.NDArray[np.float32]
Progress = Callable[[int, int], None]


def keras_probabilities(
    model: "keras.Model", faces: FaceDataset, training_resolution_px: int, progress: Progress | None = None
) -> Probabilities:
    """Classify faces with a Keras model.

    Args:
        model: From RGB 0..255 (batch, size, size, 3) to probabilities (batch, classes).
        faces: The faces.
        training_resolution_px: Resolution of the faces the model was trained on.
        progress: Called with (faces done, faces in all).

    Returns:
        float32 array (n, classes).
    """
    size = model.input_shape[1]
    results = []
    for start in range(0, len(faces), BATCH):
        images = faces.images[start : start + BATCH]
        batch = np.stack([to_rgb(preprocess_face(image, size, training_resolution_px)) for image in images])
        # The last batch is filled up, so that the backend compiles one shape only.
        filled = np.concatenate([batch, np.zeros((BATCH - len(batch), *batch.shape[1:]), np.uint8)])
        results.append(np.asarray(model.predict_on_batch(filled.astype(np.float32)))[: len(batch)])
        if progress:
            progress(start + len(batch), len(faces))
    return np.concatenate(results).astype(np.float32)


def tflite_probabilities(classifier: Classifier, faces: FaceDataset, progress: Progress | None = None) -> Probabilities:
    """Classify faces with a converted model, one by one, as at the edge.

    Returns:
        float32 array (n, classes).
    """
    results = np.empty((len(faces), len(classifier.labels)), np.float32)
    for done, image in enumerate(faces.images):
        results[done] = classifier.probabilities(image)
        if progress:
            progress(done + 1, len(faces))
    return results


def measure(probabilities: Probabilities, targets: npt.NDArray[np.int64], labels: tuple[str, ...]) -> dict[str, Any]:
    """Compute the figures of one evaluation.

    Args:
        probabilities: float32 array (n, classes).
        targets: int64 array (n,).
        labels: Label names in output order.

    Returns:
        count, accuracy, loss (mean cross-entropy, nats), ece (expected calibration error), macro and weighted precision /
        recall / F1, the same per class with its support, and the confusion matrix (rows are true classes). Fractions lie
        in 0..1.

    Raises:
        ValueError: If there are no faces.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    if not len(targets):
        raise ValueError("there are no faces to evaluate")
    predicted = probabilities.argmax(axis=1)
    own = probabilities[np.arange(len(targets)), targets]
    every = np.arange(len(labels))

    def scores(average: str | None) -> tuple[Any, Any, Any, Any]:
        return precision_recall_fscore_support(targets, predicted, labels=every, average=average, zero_division=0)

    result: dict[str, Any] = {
        "count": len(targets),
        "accuracy": float((predicted == targets).mean()),
        "loss": float(-np.log(np.maximum(own, SMALLEST_PROBABILITY)).mean()),
        "ece": expected_calibration_error(probabilities, targets),
    }
    # Macro averages are over the classes that occur: a class without a single face has no recall.
    present = np.unique(targets)
    macro = precision_recall_fscore_support(targets, predicted, labels=present, average="macro", zero_division=0)
    for name, values in (("macro", macro), ("weighted", scores("weighted"))):
        result[name] = dict(zip(("precision", "recall", "f1"), map(float, values[:3]), strict=True))
    result["per_class"] = {
        label: {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(n)}
        for label, p, r, f, n in zip(labels, *scores(None), strict=True)
    }
    result["confusion"] = confusion_matrix(targets, predicted, labels=every).tolist()
    return result
