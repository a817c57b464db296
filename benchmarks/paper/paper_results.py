"""The metrics of the published comparison, as printed there (Almsari, Miry, Salman, 2024; CK+, random 80/20 split)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One row of the published tables 5, 6 and 7.

    Attributes:
        title: The network's name there.
        train_accuracy: 0..1, and so the following two.
        validation_accuracy: On validation.
        test_accuracy: On the test part.
        train_loss: Cross-entropy, nats.
        validation_loss: Cross-entropy, nats.
        precision: Mean over classes, 0..1, and so the following two. It does not say by what the mean is weighted.
        recall: Mean over classes.
        f1: Mean over classes.
    """

    title: str
    train_accuracy: float
    validation_accuracy: float
    test_accuracy: float
    train_loss: float
    validation_loss: float
    precision: float
    recall: float
    f1: float


PUBLISHED: dict[str, Published] = {
    "cnn": Published("CNN", 0.9783, 0.9797, 0.98, 0.0536, 0.0764, 0.98, 0.98, 0.98),
    "vgg16": Published("VGG16", 0.9324, 0.9659, 0.97, 0.2158, 0.1963, 0.97, 0.97, 0.97),
    "inception_v3": Published("InceptionV3", 1.00, 0.9898, 0.99, 0.0553, 0.0833, 0.99, 0.99, 0.99),
    "mobilenet_v2": Published("MobileNetV2", 1.00, 1.00, 1.00, 0.0081, 0.0148, 0.99, 0.99, 0.99),
    "densenet121": Published("DenseNet121", 0.9872, 0.9645, 0.96, 0.1045, 0.1433, 0.97, 0.96, 0.96),
}

# Table 8: method, data, accuracy in percent as each work reported it, each with a split of its own.
RELATED: tuple[tuple[str, str, float], ...] = (
    ("hybrid CNN features", "CK or CK+", 98.30),
    ("transfer learning (AlexNet)", "CK or CK+", 90.10),
    ("KPCA", "CK or CK+", 76.5),
    ("PCA", "CK or CK+", 72.3),
    ("SVM", "CK or CK+", 70.6),
    ("HMM", "CK or CK+", 65.2),
    ("SVM", "CK", 84.68),
    ("CNN", "CK or CK+", 80.30),
    ("CNN", "CK or CK+", 96.76),
)
