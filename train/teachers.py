"""Teachers inside the training graph: they classify the pixels that the network in training sees, augmented and mixed.

Source: Beyer et al., 2021, https://arxiv.org/abs/2106.05237, "function matching".
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_edge.artifacts.contract import read_contract
from fer_edge.artifacts.keras_model import load_keras_model
from fer_edge.artifacts.run_folder import MODEL_FILE, read_finished_run
from fer_edge.edge_runtime.find_model import resolve_model
from fer_edge.train.batch_norm import FACES
from fer_edge.train.dataset import FaceDataset, to_gray_batch
from fer_edge.train.image_quality import enlarge_matrix, shrink_matrix
from fer_edge.train.model_source import is_tflite
from fer_edge.train.networks import OUTPUT_LAYER, TEACHER_LAYER, build_network
from fer_edge.train.precision import choose_precision
from fer_edge.train.splits import Split
from fer_edge.train.temperature import SMALLEST
from fer_edge.train.tflite_weights import load_tflite_weights

if TYPE_CHECKING:
    import keras


def load_teachers(teachers: Sequence[str], faces: FaceDataset, split: Split) -> list["keras.Model"]:
    """Load teachers as Keras models.

    Args:
        teachers: Run folders, .tflite files and names of bundled models, checked by check_teachers.
        faces: The dataset.
        split: Its division. A .tflite file needs training faces, see load_tflite_weights.

    Returns:
        Models from float32 (batch, size, size, 3), RGB 0..255, to float32 (batch, classes). On devices that compute faster in
        bfloat16 they do so.
    """
    return [_load(teacher, faces, split) for teacher in teachers]


def _load(teacher: str, faces: FaceDataset, split: Split) -> "keras.Model":
    import keras

    path = resolve_model(teacher)
    if not is_tflite(path):
        run, _ = read_finished_run(path)
        model = load_keras_model(keras, path / MODEL_FILE, run.labels, run.plan.image_size)
        return _in_fast_precision(model, run.plan.network)
    contract = read_contract(path)
    # Datasets are sorted by class, so evenly spaced faces are of all classes.
    spread = split.train[np.linspace(0, len(split.train) - 1, min(FACES, len(split.train))).astype(int)]
    images = to_gray_batch(faces.subset(spread), contract.image_size, faces.resolution_px)
    model = build_network(contract.architecture, contract.image_size, len(contract.labels))
    if unknown := load_tflite_weights(model, path, contract.labels, images):
        raise ValueError(f"{path} has other layers than {contract.architecture} ({', '.join(unknown)}). Give its run folder")
    return _in_fast_precision(model, contract.architecture)


def _in_fast_precision(model: "keras.Model", network: str) -> "keras.Model":
    import keras

    policy = choose_precision(network, "auto")
    if policy == "float32":
        return model

    def clone(layer: "keras.Layer") -> "keras.Layer":
        config = layer.get_config()
        return type(layer).from_config(config if layer.name == OUTPUT_LAYER else {**config, "dtype": policy})

    faster = keras.models.clone_model(model, clone_function=clone)
    faster.set_weights(model.get_weights())
    return faster


def teacher_layer(models: Sequence["keras.Model"], weight: float, temperature: float) -> "keras.Layer":
    """Return a layer that mixes the teachers' probabilities for faces into the labels of these faces, in training only.

    Args:
        models: The teachers. They are not trained, and need not be in a checkpoint.
        weight: Weight of the teachers against the label, 0..1.
        temperature: Temperature that softens the mean of their probabilities.

    Returns:
        A layer named TEACHER_LAYER: RGB faces (batch, side, side, 3), 0..255, and labels (batch, classes) -> labels.
    """
    import keras

    for model in models:
        model.trainable = False  # that of the layer does not reach the layers of a model

    class Teachers(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__(name=TEACHER_LAYER, dtype="float32", trainable=False)
            self.models = list(models)

        def call(self, rgb: Any, labels: Any, training: bool = False) -> Any:
            if not training:
                return labels
            soft = soften(mean_probabilities(self.models, rgb), temperature)
            return (1 - weight) * labels + weight * keras.ops.stop_gradient(soft)

    return Teachers()


def mean_probabilities(models: Sequence["keras.Model"], rgb: Any) -> Any:
    """Return the mean of several models' probabilities, float32 tensor (batch, classes).

    Args:
        models: The models, of any input size.
        rgb: Tensor (batch, side, side, 3), 0..255. It is resized to the input of each model as cv2 does: by area averaging to
            fewer pixels, bilinearly to more.
    """
    from keras import ops

    outputs = [ops.cast(model(_resize(rgb, model.input_shape[1]), training=False), "float32") for model in models]
    return sum(outputs[1:], outputs[0]) / len(outputs)


def soften(probabilities: Any, temperature: float) -> Any:
    """Return the softmax of the logits divided by a temperature.

    Args:
        probabilities: Tensor (batch, classes), a softmax.
        temperature: Above 0; above 1 it makes them more uniform.
    """
    from keras import ops

    return ops.softmax(ops.log(ops.maximum(probabilities, float(SMALLEST))) / temperature)


def _resize(rgb: Any, size: int) -> Any:
    from keras import ops

    side = rgb.shape[1]
    if side == size:
        return rgb
    matrix = enlarge_matrix(side, size) if size > side else shrink_matrix(side, size)
    matrix = ops.convert_to_tensor(matrix.astype(np.float32))
    return ops.einsum("yr,xc,brcd->byxd", matrix, matrix, rgb)
