"""The thresholds of the gate and its verdict on a converted file. convert/gate.py applies them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Thresholds:
    """How much a conversion may cost.

    Attributes:
        accuracy_points: Largest accuracy drop, percentage points.
        recall_points: Largest recall drop of any class, percentage points.
        agreement_percent: Smallest percentage of faces with the Keras model's label.

    Raises:
        ValueError: If a value is not between 0 and 100.
    """

    accuracy_points: float = 1.0
    recall_points: float = 5.0
    agreement_percent: float = 97.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value <= 100:  # not-a-number fails too
                raise ValueError(f"the threshold {name} must be a number between 0 and 100. Received: {value}")


@dataclass(frozen=True)
class Issue:
    """One finding about a converted file.

    Attributes:
        cause: What is wrong, with the value and the threshold.
        remedy: What to try next.
    """

    cause: str
    remedy: str


@dataclass(frozen=True)
class GateResult:
    """The verdict of the gate: thresholds and the reasons for a rejection (empty if accepted)."""

    thresholds: Thresholds
    issues: tuple[Issue, ...]
