"""Load a run and prepare its model and its faces for conversion."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.contract import CropConvention
from fer_edge.artifacts.conversion import CalibrationSummary
from fer_edge.artifacts.keras_model import load_keras_model
from fer_edge.artifacts.run_folder import Run
from fer_edge.convert.calibrate import describe_calibration
from fer_edge.convert.cross_layer_equalization import equalize
from fer_edge.convert.fold import fold_model
from fer_edge.edge_runtime.batch_predict import predict_in_batches
from fer_edge.edge_runtime.crop import preprocess_face, to_rgb
from fer_edge.edge_runtime.detectors.box_transform import derive_box_transforms
from fer_edge.edge_runtime.images import Image

if TYPE_CHECKING:
    import keras

LOG_FILE = "convert.log"


@dataclass(frozen=True)
class Calibration:
    """Calibration faces.

    Attributes:
        images: uint8 arrays (height, width), gray, or (height, width, 3), RGB.
        summary: Their description.
    """

    images: Sequence[Image]
    summary: CalibrationSummary


def calibration_of(run: Run, images: Sequence[Image] | None = None, source: str = "") -> Calibration:
    """Return the faces to calibrate a run with.

    Args:
        run: The run.
        images: Faces of a camera, uint8 arrays (height, width) or (height, width, 3), RGB; None for the training faces in the
            run folder.
        source: Where ``images`` come from.
    """
    if images is not None:
        return Calibration(images, describe_calibration(images, None, run.labels, source))
    stored = run.calibration
    return Calibration(stored.images, describe_calibration(stored.images, stored.targets, run.labels, "the run folder"))


@dataclass(frozen=True)
class PreparedRun:
    """A run, prepared for conversion.

    Attributes:
        run: The run.
        model: Its Keras model.
        folded: The model to convert: without gray conversion and batch normalization, channels equalized, fine-tuned if
            requested.
        calibration_images: Calibration faces as stored, uint8 arrays (height, width) or (height, width, 3).
        calibration: The same faces as input of the model, uint8 array (n, size, size, 3), RGB.
        calibration_summary: Description of the calibration faces.
        held_out: Test faces, uint8 array (m, size, size, 3), RGB.
        keras_probs: Probabilities of the Keras model for them, float32 array (m, classes), 0..1.
        crop: How faces are cropped for this model.
        out: Folder for the files.
        command: The command that converts the run, for the contract; empty if a program does.
    """

    run: Run
    model: "keras.Model"
    folded: "keras.Model"
    calibration_images: Sequence[Image]
    calibration: npt.NDArray[np.uint8]
    calibration_summary: CalibrationSummary
    held_out: npt.NDArray[np.uint8]
    keras_probs: npt.NDArray[np.float32]
    crop: CropConvention
    out: Path
    command: tuple[str, ...] = ()

    @property
    def log(self) -> Path:
        """File for the output of the converters."""
        return self.out / LOG_FILE


def prepare_run(
    run: Run,
    out: Path | None = None,
    calibration: Calibration | None = None,
    command: tuple[str, ...] = (),
) -> PreparedRun:
    """Load a run's model, fold and equalize it, and preprocess the faces.

    Args:
        run: The run, from read_run.
        out: Folder for the files; None for the run folder.
        calibration: From calibration_of; None for the training faces in the run folder.
        command: The command line, for the contract.

    Raises:
        ValueError: If the model is damaged, was not trained by fer-edge, or outputs NaN.
        RuntimeError: If Keras does not run on TensorFlow.
    """
    model = load_model_of_run(run)
    faces = calibration or calibration_of(run)
    held_out = preprocess(run, run.held_out.images)
    return PreparedRun(
        run=run,
        model=model,
        folded=fold_and_equalize(run, model),
        calibration_images=faces.images,
        calibration=preprocess(run, faces.images),
        calibration_summary=faces.summary,
        held_out=held_out,
        keras_probs=predict(model, held_out),
        crop=crop_convention(run),
        out=out or run.folder,
        command=command,
    )


def fold_and_equalize(run: Run, model: "keras.Model") -> "keras.Model":
    """Return the model that is quantized or fine-tuned: folded, its channels equalized.

    Args:
        run: The run. Its calibration faces measure the channels.
        model: The Keras model of the run.
    """
    return equalize(fold_model(model), preprocess(run, run.calibration.images))


def crop_convention(run: Run) -> CropConvention:
    """Return how faces are cropped for a run's model.

    The box transforms are derived from its calibration faces; that of the detector that cut them out of photos is known.
    """
    transforms = derive_box_transforms(run.calibration.images)
    if run.record.crop:
        return replace(run.record.crop, box_transforms={**transforms, **run.record.crop.box_transforms})
    return CropConvention(training_resolution_px=run.record.data.resolution_px, box_transforms=transforms)


def load_model_of_run(run: Run) -> "keras.Model":
    """Load the Keras model of a run.

    Raises:
        ValueError: If it is damaged or does not fit run.json.
        RuntimeError: If Keras does not run on TensorFlow.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(f"conversion needs the TensorFlow backend. Received: KERAS_BACKEND={keras.backend.backend()}")
    return load_keras_model(keras, run.model_path, run.labels, run.record.plan.image_size)


def preprocess(run: Run, faces: Sequence[Image]) -> npt.NDArray[np.uint8]:
    """Preprocess faces for the model of a run.

    Args:
        run: The run.
        faces: uint8 arrays (height, width), gray, or (height, width, 3), RGB.

    Returns:
        uint8 array (n, size, size, 3), RGB.
    """
    size, resolution = run.record.plan.image_size, run.record.data.resolution_px
    if not len(faces):
        return np.empty((0, size, size, 3), np.uint8)
    return np.stack([to_rgb(preprocess_face(face, size, resolution)) for face in faces])


def predict(model: "keras.Model", faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Classify faces with a Keras model.

    Args:
        model: From RGB 0..255 (batch, size, size, 3) to probabilities.
        faces: uint8 array (n, size, size, 3), RGB.

    Returns:
        Probabilities, float32 array (n, classes), 0..1.

    Raises:
        ValueError: If they are not finite.
    """
    return predict_in_batches(model.predict_on_batch, faces)
