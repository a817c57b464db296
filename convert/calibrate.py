"""The faces that calibrate an int8 model: what they must be, what they look like, which of them are typical."""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fer_edge.edge_runtime.images import Image

if TYPE_CHECKING:
    import keras

MINIMUM = 100
BATCH = 32
# For TensorFlow's converter, which takes the range of each activation from its extremes over all faces it is given: the
# shares of the faces to try, most typical kept, until int8 answers like Keras on enough of all calibration faces. Measured on
# 256 CK+48 training faces, agreement with 1.0 / 0.95 / 0.9 / 0.8 of them: VGG16 0.883 / 0.930 / 0.969 / 0.988,
# DenseNet121 0.988 / 0.996 / 0.984 / not measured. No one share is best for all.
SHARES = (0.95, 1.0, 0.9, 0.8)
GOOD_AGREEMENT = 0.99


def describe_calibration(
    faces: Sequence[Image], targets: npt.NDArray[np.int64] | None, labels: Sequence[str], source: str
) -> dict[str, Any]:
    """Say what a calibration set looks like, for the contract.

    Args:
        faces: uint8 arrays (height, width) or (height, width, 3), 0..255.
        targets: int64 array (n,), None where the labels are not known.
        labels: Label names in output order.
        source: Where the faces are from.

    Returns:
        Number of faces and of distinct ones, faces per class (None where not known), darkest and brightest pixel, and
        median brightness and contrast (standard deviation) of a face, all 0..255.
    """
    counts = None if targets is None else {label: int((targets == k).sum()) for k, label in enumerate(labels)}
    return {
        "source": source,
        "faces": len(faces),
        "distinct": len({_digest(face) for face in faces}),
        "per_class": counts,
        "darkest": min((int(face.min()) for face in faces), default=None),
        "brightest": max((int(face.max()) for face in faces), default=None),
        "median_brightness": round(float(np.median([face.mean() for face in faces])), 1) if faces else None,
        "median_contrast": round(float(np.median([face.std() for face in faces])), 1) if faces else None,
    }


def check_calibration(description: dict[str, Any], faces: Sequence[Image], test_faces: Sequence[Image]) -> None:
    """Refuse a calibration set that would give a wrong int8 model.

    Args:
        description: From describe_calibration.
        faces: The calibration faces.
        test_faces: The run's test faces, which must stay unseen.

    Raises:
        ValueError: If there are fewer than MINIMUM distinct faces, a class has none, the pixels are not bytes 0..255, or a
            test face is among them. The message names the cause.
    """
    source = description["source"]
    wrong = sorted({str(face.dtype) for face in faces if face.dtype != np.uint8})
    if wrong:
        raise ValueError(f"the calibration faces of {source} must be bytes 0..255 (uint8). Received: {', '.join(wrong)}")
    if description["distinct"] < MINIMUM:
        repeated = description["faces"] - description["distinct"]
        raise ValueError(
            f"int8 needs at least {MINIMUM} distinct calibration faces; {source} holds {description['distinct']} "
            f"({repeated} of its {description['faces']} repeat another). Train on more faces, or --calibrate-from more pictures"
        )
    if description["brightest"] <= 1:
        raise ValueError(
            f"the calibration faces of {source} are scaled to 0..{description['brightest']}: the model takes bytes 0..255, and "
            "scaling is inside it. Give the pictures as they are"
        )
    absent = [label for label, count in (description["per_class"] or {}).items() if not count]
    if absent:
        raise ValueError(
            f"no calibration face of class {', '.join(absent)} in {source}: its activations would be cut off. Train again"
        )
    held_out = {_digest(face) for face in test_faces}
    seen = sum(_digest(face) in held_out for face in faces)
    if seen:
        raise ValueError(
            f"{seen} of the calibration faces of {source} are test faces: the figures measured on them would flatter the "
            "model. Calibrate on training faces or on your own"
        )


def _digest(face: Image) -> bytes:
    return hashlib.sha256(repr(face.shape).encode() + np.ascontiguousarray(face).tobytes()).digest()


def rank_by_activation_outliers(model: "keras.Model", faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.intp]:
    """Order faces by how far they stretch the range of any activation beyond its median.

    Measured: 2 of 256 CK+48 faces stretched an InceptionV3's ranges up to 188 times the median; with them int8 agreed
    with Keras on 0.889 of the test faces, without on 0.980.

    Args:
        model: From RGB 0..255 (batch, size, size, 3) to probabilities.
        faces: uint8 array (n, size, size, 3), RGB.

    Returns:
        Indices of the faces, the most typical first.
    """
    peaks = _peaks(model, faces)
    stretch = (peaks / np.maximum(np.median(peaks, axis=0), np.finfo(np.float32).tiny)).max(axis=1)
    return np.argsort(stretch, kind="stable")


def _peaks(model: "keras.Model", faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return the largest absolute activation of each face in each layer, (n, layers)."""
    import keras
    from keras import ops

    skipped = (keras.layers.InputLayer, keras.layers.Reshape, keras.layers.Flatten, keras.layers.Dropout)
    outputs = [layer.output for layer in model.layers if not isinstance(layer, skipped)]
    reduced = [ops.max(ops.abs(output), axis=tuple(range(1, len(output.shape)))) for output in outputs]
    peaks = keras.Model(model.input, reduced).predict(faces.astype(np.float32), batch_size=BATCH, verbose=0)
    return np.stack([np.asarray(peak, np.float32) for peak in peaks], axis=1)
