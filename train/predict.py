"""From faces to the probabilities of a Keras model."""

from typing import TYPE_CHECKING

from fer_edge.artifacts.reporter import Progress
from fer_edge.edge_runtime.batch_predict import Probabilities, predict_in_batches
from fer_edge.edge_runtime.crop import preprocess_face, to_rgb
from fer_edge.edge_runtime.images import Image
from fer_edge.train.dataset import FaceDataset

if TYPE_CHECKING:
    import keras


def keras_probabilities(
    model: "keras.Model", faces: FaceDataset, training_resolution_px: int, progress: Progress | None = None
) -> Probabilities:
    """Classify faces with a Keras model.

    Args:
        model: From RGB 0..255 (batch, size, size, 3) to probabilities (batch, classes).
        faces: The faces.
        training_resolution_px: Resolution of the faces that the model was trained on.
        progress: Called with (faces done, number of faces).

    Returns:
        float32 array (n, classes), 0..1.

    Raises:
        ValueError: If the model outputs NaN or Inf.
    """
    size = model.input_shape[1]

    def preprocess(image: Image) -> Image:
        return to_rgb(preprocess_face(image, size, training_resolution_px))

    return predict_in_batches(model.predict_on_batch, faces.images, preprocess, progress)
