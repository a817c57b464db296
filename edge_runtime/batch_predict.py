"""From faces to probabilities, for a Keras model in batches and for a .tflite file face by face."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.reporter import Progress
from fer_edge.edge_runtime.classify import Classifier
from fer_edge.edge_runtime.images import Image

BATCH_SIZE = 64

Probabilities = npt.NDArray[np.float32]


def predict_in_batches(
    predict: Callable[[npt.NDArray[np.float32]], Any],
    faces: Sequence[Image] | npt.NDArray[np.uint8],
    preprocess: Callable[[Image], Image] | None = None,
    progress: Progress | None = None,
) -> Probabilities:
    """Classify faces with a function that takes batches, such as the ``predict_on_batch`` of a Keras model.

    Args:
        predict: From float32 (BATCH_SIZE, size, size, 3), RGB 0..255, to probabilities (BATCH_SIZE, classes).
        faces: uint8 arrays, at least one.
        preprocess: From a face to the input of the model, uint8 (size, size, 3). None if ``faces`` are such inputs.
        progress: Called with (faces done, number of faces).

    Returns:
        float32 array (n, classes), 0..1.

    Raises:
        ValueError: If a probability is not finite. Comparisons with NaN would find no difference.
    """
    results = []
    for start in range(0, len(faces), BATCH_SIZE):
        images = faces[start : start + BATCH_SIZE]
        batch = np.stack([preprocess(image) for image in images] if preprocess else list(images))
        # The last batch is padded, so that the backend compiles only one shape.
        padded = np.concatenate([batch, np.zeros((BATCH_SIZE - len(batch), *batch.shape[1:]), np.uint8)])
        results.append(np.asarray(predict(padded.astype(np.float32)), np.float32)[: len(batch)])
        if progress:
            progress(start + len(batch), len(faces))
    probabilities = np.concatenate(results)
    if not np.isfinite(probabilities).all():
        raise ValueError("the model outputs NaN or Inf: its training diverged. Train again")
    return probabilities


def classify_faces(classifier: Classifier, faces: Sequence[Image], progress: Progress | None = None) -> Probabilities:
    """Classify faces with a .tflite file, face by face as at the edge.

    Args:
        classifier: The file.
        faces: uint8 arrays (height, width), gray, or (height, width, 3), RGB.
        progress: Called with (faces done, number of faces).

    Returns:
        float32 array (n, classes), 0..1.
    """
    results = np.empty((len(faces), len(classifier.labels)), np.float32)
    for number, image in enumerate(faces):
        results[number] = classifier.probabilities(image)
        if progress:
            progress(number + 1, len(faces))
    return results
