"""How a network is trained, as data: augmentation, recipe and plan of one training run."""

import math
from dataclasses import dataclass, fields

OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULES = ("constant", "cosine")
SAME, CLEAN = "same", "clean"  # what teachers see; otherwise a number of views
CHANGED_SUFFIX = "-changed"  # ends the name of a recipe with overridden settings


@dataclass(frozen=True)
class Augmentation:
    """Ranges of the random changes to a face; 0 switches a change off.

    Attributes:
        rotation_degrees: Rotation in -r..r, degrees.
        shift: Shift in each direction, fraction of the side.
        shear: Horizontal shear, pixels per pixel of height.
        zoom: Width and height are scaled independently by 1-z..1+z.
        flip: Whether half of the faces are mirrored.
        random_crop: Largest fraction of the side that is cut off: a square of 1-c..1 of the side, anywhere in the face, is
            enlarged to the whole input.
        crop_scale: Standard deviation of the logarithm of the crop's side, as the boxes of a detector scatter.
        crop_shift: Standard deviation of the crop's center in each direction, fraction of the side.
        contrast: Contrast is multiplied by 1-c..1+c around the mean of the face.
        brightness: Brightness is shifted by -b..b, fraction of the full range.
        erase: Largest side of an erased rectangle, fraction of the side; half of the faces get one.
        camera_share: Fraction of the faces that get the changes of a camera: all from side_light to compression.
        side_light: Light from one side multiplies the gray levels by up to 1+s there and 1-s on the other side.
        exposure: The gray levels are multiplied by 1/(1+e)..1+e and clipped at white.
        darkness: The gray levels are multiplied by 1-d..1, mostly by nearly 1.
        gamma: The gray levels (0..1) are raised to a power of 1/(1+g)..1+g.
        occlusion: Fraction of the faces that are partly covered, as by glasses, a mask or a hand.
        defocus: Largest standard deviation of a Gaussian blur, fraction of the side.
        motion_blur: Largest length of a horizontal or vertical motion, fraction of the side.
        resolution_loss: Largest fraction of the rows and columns that is lost: with 0.75, a face of 48 pixels is reduced to
            12 to 48 pixels.
        noise: Largest standard deviation of Gaussian noise, fraction of the full range.
        compression: Largest loss of JPEG quality: with 0.8, the quality is 20 to 100.
        mixup: Fraction of the faces that are blended with another face, including the labels.
        cutmix: Fraction of the faces that get a rectangle of another face, and of its label by area.

    Raises:
        ValueError: If a range is out of its bounds.
    """

    rotation_degrees: float = 0.0
    shift: float = 0.0
    shear: float = 0.0
    zoom: float = 0.0
    flip: bool = False
    random_crop: float = 0.0
    crop_scale: float = 0.0
    crop_shift: float = 0.0
    contrast: float = 0.0
    brightness: float = 0.0
    erase: float = 0.0
    camera_share: float = 1.0
    side_light: float = 0.0
    exposure: float = 0.0
    darkness: float = 0.0
    gamma: float = 0.0
    occlusion: float = 0.0
    defocus: float = 0.0
    motion_blur: float = 0.0
    resolution_loss: float = 0.0
    noise: float = 0.0
    compression: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        at_least_zero = ("shear", "exposure", "gamma")
        others = ("rotation_degrees", "flip", *at_least_zero)
        _check_fractions(self, *(field.name for field in fields(self) if field.name not in others))
        if self.random_crop == 1:
            raise ValueError("random_crop must be below 1. Received: 1")
        if not 0 <= self.rotation_degrees <= 180:
            raise ValueError(f"rotation_degrees must be between 0 and 180. Received: {self.rotation_degrees}")
        for name in at_least_zero:
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must not be negative. Received: {getattr(self, name)}")
        if self.mixup + self.cutmix > 1:
            raise ValueError(
                "a face is mixed in one way only, so mixup and cutmix must not exceed 1 together. "
                f"Received: {self.mixup} and {self.cutmix}"
            )


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        name: Name in run folders and tables.
        optimizer: One of OPTIMIZERS.
        learning_rate: Peak learning rate.
        schedule: One of SCHEDULES; ``cosine`` decays to zero.
        cycles: Number of times the learning rate rises and falls. Above 1, the average of the last cycles' final weights is
            kept (see weight_averaging.py) instead of a moving average.
        warmup_share: Fraction of the steps (of one cycle) in which the learning rate rises from zero.
        weight_decay: Weight decay of adamw and sgd: each step multiplies the weights by 1 minus it times the learning rate. In
            PyTorch's SGD with a momentum of 0.9 the same number acts ten times as strongly.
        momentum: Nesterov momentum of sgd.
        batch_size: Faces per step.
        label_smoothing: 0..1.
        class_weight_power: Power of the inverse class frequency that weights the loss; 0 weights all faces equally.
        ema_momentum: Momentum of the exponential moving average of the weights that is kept; 0 keeps the weights of the last
            step. Short runs lower it (see fit.MAX_AVERAGE_SHARE).
        bn_momentum: Momentum of the batch normalization statistics.
        batch_norm: Whether a network without batch normalization trains with it; it is folded into the weights at the end
            (see batch_norm.py).
        epochs: Epochs per network.
        head_dropout: Fraction of the features that are dropped before the last layer; None for that of the network.
        last_filters: Channels of the last block of cnn_nano; None for 96, the only number of which .tflite files can be initial
            weights or teachers.
        calibrate: Whether the logits are divided by a temperature fitted on the validation split (see temperature.py).
        distillation_weight: Weight of the teachers' probabilities against the label, 0..1.
        teacher_temperature: Temperature that softens these probabilities; 1 leaves them unchanged.
        augmentation: Random changes to the faces.

    Raises:
        ValueError: If a name is unknown or a number is out of its bounds.
    """

    name: str
    optimizer: str
    learning_rate: float
    schedule: str
    batch_size: int
    epochs: dict[str, int]
    augmentation: Augmentation
    cycles: int = 1
    warmup_share: float = 0.0
    weight_decay: float = 0.0
    momentum: float = 0.9
    label_smoothing: float = 0.0
    class_weight_power: float = 0.0
    ema_momentum: float = 0.0
    bn_momentum: float = 0.9
    batch_norm: bool = False
    head_dropout: float | None = None
    last_filters: int | None = None
    calibrate: bool = False
    distillation_weight: float = 0.7
    teacher_temperature: float = 2.0

    def __post_init__(self) -> None:
        for kind, name, known in (("optimizer", self.optimizer, OPTIMIZERS), ("schedule", self.schedule, SCHEDULES)):
            if name not in known:
                raise ValueError(f"unknown {kind} '{name}'; choose one of: {', '.join(known)}")
        for name in ("batch_size", "cycles", "last_filters"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1. Received: {getattr(self, name)}")
        if self.cycles > 1 and self.schedule == "constant":
            raise ValueError(f"cycles need schedule=cosine. Received: schedule=constant, cycles={self.cycles}")
        for name in ("learning_rate", "teacher_temperature"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be above 0. Received: {getattr(self, name)}")
        for name in ("weight_decay", "class_weight_power"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must not be negative. Received: {getattr(self, name)}")
        _check_fractions(self, "warmup_share", "label_smoothing", "distillation_weight")
        for name in ("ema_momentum", "bn_momentum", "momentum", "head_dropout"):
            if not 0 <= (getattr(self, name) or 0.0) < 1:
                raise ValueError(f"{name} must be at least 0 and below 1. Received: {getattr(self, name)}")


@dataclass(frozen=True)
class Plan:
    """One training run, before it starts.

    Attributes:
        network: Name of the network.
        recipe: The recipe.
        image_size: Side of the input, pixels.
        epochs: Number of epochs.
        seed: Seed of weights, order, dropout and augmentation.
        weights: Source of the initial weights: ``auto``, ``imagenet``, ``none``, a file, a run folder or a bundled model.
        precision: ``auto``, ``float32`` or ``mixed_bfloat16``.
        teachers: Run folders, .tflite files or bundled models whose mean probabilities are learned together with the labels.
        ferplus: FER+ table whose classes and votes replaced the labels of FER2013, or None.
        parent_digests: sha256 of the Keras model that ``weights`` comes from, then of each teacher's; None where unknown.
        devices: Number of devices that share each batch.
        minutes: Training time from which the number of epochs was chosen; None where the epochs were given.
        validated_by: sha256 of the model of an earlier run with this plan. Its epochs, temperature and threshold are used, and
            the validation faces are trained on; None where this run uses them to choose.
        teacher_views: What the teachers classify: ``clean`` (each face and its mirror image, once), ``same`` (the augmented and
            mixed faces of each step), or a number of stored views of each face.
    """

    network: str
    recipe: Recipe
    image_size: int
    epochs: int
    seed: int = 0
    weights: str = "auto"
    precision: str = "auto"
    teachers: tuple[str, ...] = ()
    ferplus: str | None = None
    parent_digests: tuple[str | None, ...] = (None,)
    devices: int = 1
    teacher_views: str = CLEAN
    minutes: float | None = None
    validated_by: str | None = None


def _check_fractions(settings: Augmentation | Recipe, *names: str) -> None:
    for name in names:
        if not 0 <= getattr(settings, name) <= 1:
            raise ValueError(f"{name} must be a fraction from 0 to 1. Received: {getattr(settings, name)}")
