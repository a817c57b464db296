"""The conversion of a model: recipe, calibration, and its cost."""

from dataclasses import dataclass

from fer_edge.artifacts.gate import GateResult


@dataclass(frozen=True)
class FineTuning:
    """A fine-tuning before conversion.

    Attributes:
        kind: ``qat`` (quantization-aware), ``pruned`` or ``clustered``.
        amount: ``pruned``: percentage of each inner layer's weights set to zero. ``clustered``: number of distinct weights per
            layer. None for ``qat``. Depthwise layers are neither pruned nor clustered: they are small.
        epochs: Passes over the faces.
        learning_rate: Largest change per step, as a fraction of the size of a layer's weights; it decays to zero (cosine).
        batch_size: Faces per step.
        seed: Seed of order and augmentation.
    """

    kind: str
    amount: float | None
    epochs: int
    learning_rate: float
    batch_size: int = 32
    seed: int = 0


@dataclass(frozen=True)
class QuantizationRecipe:
    """A quantization recipe.

    Attributes:
        precision: Name in file names and tables; a suffix names further steps, as in ``int8-qat``.
        weights: Type of the stored weights.
        activations: Type of the activations.
        io_dtype: Type of input and output.
        calibrated: Whether it needs calibration faces.
        quantizer: ``ai-edge`` or ``tflite``.
        head: For int8: type that the last layer and the softmax compute in.
        keep_float: Names of the other layers that stay in float.
        fine_tuning: Training before conversion; None without.
    """

    precision: str
    weights: str
    activations: str
    io_dtype: str
    calibrated: bool
    quantizer: str = "tflite"
    head: str | None = None
    keep_float: tuple[str, ...] = ()
    fine_tuning: FineTuning | None = None


@dataclass(frozen=True)
class CalibrationSummary:
    """The faces that calibrated a file.

    The pixel values are None where there are no faces.

    Attributes:
        source: ``the run folder``, or the name of the folder or video they came from.
        faces: Number of faces.
        distinct: Number of distinct faces.
        per_class: Faces per label; None where they have no labels.
        darkest: Smallest pixel value, 0..255.
        brightest: Largest pixel value, 0..255.
        median_brightness: Median over the faces of their mean pixel value, 0..255.
        median_contrast: Median over the faces of the standard deviation of their pixels, 0..255.
    """

    source: str
    faces: int
    distinct: int
    per_class: dict[str, int] | None
    darkest: int | None
    brightest: int | None
    median_brightness: float | None
    median_contrast: float | None


@dataclass(frozen=True)
class QuantizationSummary:
    """How a file was quantized.

    Attributes:
        recipe: The recipe.
        conversion_s: Time of the quantizer, seconds, without folding, fine-tuning and the search for float layers.
        calibration: The calibration faces; None without calibration.
        calibration_faces: Number of calibration faces that the best candidate used; None where it used all.
        percentile: Percentile of the activations that the ranges cover; None for other quantizers than ai-edge.
        biases_corrected: Whether bias correction was applied; None where it does not apply.
        agreement_on_calibration: Fraction of calibration faces with the float model's label, 0..1; None if not measured.
        divergence_on_calibration: Mean Kullback-Leibler divergence on them, nats; None if not measured.
    """

    recipe: QuantizationRecipe
    conversion_s: float | None = None
    calibration: CalibrationSummary | None = None
    calibration_faces: int | None = None
    percentile: float | None = None
    biases_corrected: bool | None = None
    agreement_on_calibration: float | None = None
    divergence_on_calibration: float | None = None


@dataclass(frozen=True)
class ModelScores:
    """One model's results on the held-out faces of its run.

    Attributes:
        accuracy: Fraction of faces with the right label, 0..1.
        accuracy_interval: Its 95 % interval (Wilson), low and high.
        ece: Expected calibration error, 0..1.
        recall: Recall per label, 0..1; None for a label without faces.
        predicted: Number of faces per predicted label.
        label_entropy: Entropy of the predicted labels, nats.
    """

    accuracy: float
    accuracy_interval: tuple[float, float]
    ece: float
    recall: dict[str, float | None]
    predicted: dict[str, int]
    label_entropy: float


@dataclass(frozen=True)
class ConversionMetrics:
    """What conversion cost, on the held-out faces of the run.

    Attributes:
        faces: Number of faces.
        faces_per_class: Number of faces per label.
        agreement: Fraction of faces with the Keras model's label, 0..1.
        max_difference: Largest difference of a probability, 0..1.
        kl_per_class: Mean Kullback-Leibler divergence per label, nats; None for a label without faces.
        before: Results of the Keras model.
        after: Results of the converted file.
        gate: Verdict of the gate; None before it ran.
    """

    faces: int
    faces_per_class: dict[str, int]
    agreement: float
    max_difference: float
    kl_per_class: dict[str, float | None]
    before: ModelScores
    after: ModelScores
    gate: GateResult | None = None

    def worst_recall_change(self) -> float | None:
        """Return the most negative change of a class's recall, -1..1; None where no class has faces."""
        pairs = [(self.before.recall[label], after) for label, after in self.after.recall.items()]
        return min((after - before for before, after in pairs if before is not None and after is not None), default=None)
