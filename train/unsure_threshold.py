"""The probability below which a label is more often wrong than right."""

import numpy as np
import numpy.typing as npt

MIN_ACCURACY = 0.5


def unsure_threshold(probabilities: npt.NDArray[np.float32], targets: npt.NDArray[np.int64]) -> float:
    """Return the probability below which a label should be shown as "unsure".

    The accuracy at each probability is estimated by isotonic regression, which assumes only that it does not fall.

    Args:
        probabilities: float32 array (n, classes), 0..1, of faces outside the training split.
        targets: int64 array (n,), class indices.

    Returns:
        The lowest highest probability at which at least half of the labels are right, 0..1. If none reaches that, 1.
    """
    from sklearn.isotonic import IsotonicRegression

    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == targets
    accuracy = IsotonicRegression(y_min=0, y_max=1).fit_transform(confidence, correct)
    right = confidence[accuracy >= MIN_ACCURACY]
    return round(float(right.min()), 3) if len(right) else 1.0
