"""Calibration faces for int8: what a set must contain, how it is described, and which of its faces are typical."""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.conversion import CalibrationSummary
from fer_edge.edge_runtime.images import Image

if TYPE_CHECKING:
    import keras

MIN_DISTINCT = 100
BATCH = 32
# TensorFlow's converter takes the range of each activation from its extremes over all faces. These fractions of the faces, the
# most typical ones, are tried until int8 agrees with Keras on enough of all calibration faces. Measured on 256 CK+48 training
# faces, agreement with the fractions 1.0 / 0.95 / 0.9 / 0.8: VGG16 0.883 / 0.930 / 0.969 / 0.988, DenseNet121 0.988 / 0.996 /
# 0.984 / not measured. No fraction is best for all networks.
FRACTIONS = (0.95, 1.0, 0.9, 0.8)
GOOD_AGREEMENT = 0.99


def describe_calibration(
    faces: Sequence[Image], targets: npt.NDArray[np.int64] | None, labels: Sequence[str], source: str
) -> CalibrationSummary:
    """Describe a calibration set for the contract.

    Args:
        faces: uint8 arrays (height, width) or (height, width, 3), 0..255.
        targets: Class indices, int64 array (n,); None if the labels are not known.
        labels: Label names in output order.
        source: Where the faces come from.
    """
    counts = None if targets is None else {label: int((targets == index).sum()) for index, label in enumerate(labels)}
    return CalibrationSummary(
        source=source,
        faces=len(faces),
        distinct=len({_digest(face) for face in faces}),
        per_class=counts,
        darkest=min((int(face.min()) for face in faces), default=None),
        brightest=max((int(face.max()) for face in faces), default=None),
        median_brightness=round(float(np.median([face.mean() for face in faces])), 1) if faces else None,
        median_contrast=round(float(np.median([face.std() for face in faces])), 1) if faces else None,
    )


def check_calibration(summary: CalibrationSummary, faces: Sequence[Image], test_faces: Sequence[Image]) -> None:
    """Reject a calibration set that would give a wrong int8 model.

    Args:
        summary: From describe_calibration.
        faces: The calibration faces, uint8 arrays (height, width) or (height, width, 3), 0..255.
        test_faces: The test faces of the run, likewise; conversion must not see them.

    Raises:
        ValueError: If there are fewer than MIN_DISTINCT distinct faces, a class has none, the pixels are not bytes 0..255, or a
            test face is among them.
    """
    source = summary.source
    wrong = sorted({str(face.dtype) for face in faces if face.dtype != np.uint8})
    if wrong:
        raise ValueError(f"the calibration faces of {source} must be bytes 0..255 (uint8). Received: {', '.join(wrong)}")
    if summary.distinct < MIN_DISTINCT:
        raise ValueError(
            f"int8 needs at least {MIN_DISTINCT} distinct calibration faces; {source} has {summary.distinct} distinct faces of "
            f"{summary.faces}. Train on more faces, or pass more images with --calibrate-from"
        )
    if summary.brightest is not None and summary.brightest <= 1:
        raise ValueError(
            f"the calibration faces of {source} are scaled to 0..{summary.brightest}: the model takes bytes 0..255 and scales "
            "them itself. Pass the images unscaled"
        )
    absent = [label for label, count in (summary.per_class or {}).items() if not count]
    if absent:
        raise ValueError(
            f"no calibration face of class {', '.join(absent)} in {source}: its activations would be clipped. Train again"
        )
    held_out = {_digest(face) for face in test_faces}
    seen = sum(_digest(face) in held_out for face in faces)
    if seen:
        raise ValueError(
            f"{seen} of the calibration faces of {source} are test faces, so the metrics measured on them would be too good. "
            "Calibrate on training faces or on your own faces"
        )


def _digest(face: Image) -> bytes:
    return hashlib.sha256(repr(face.shape).encode() + np.ascontiguousarray(face).tobytes()).digest()


def rank_by_activation_outliers(model: "keras.Model", faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.intp]:
    """Sort faces by how far they extend the range of any activation beyond its median.

    Measured: 2 of 256 CK+48 faces extended the ranges of an InceptionV3 up to 188 times the median. With them int8 agreed with
    Keras on 0.889 of the test faces, without them on 0.980.

    Args:
        model: From RGB 0..255 (batch, size, size, 3) to probabilities.
        faces: uint8 array (n, size, size, 3), RGB.

    Returns:
        Indices of the faces, the most typical first, int array (n,).
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
