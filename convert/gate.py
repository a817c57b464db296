"""The gate: a converted model is right, or refused with the cause and what to try next."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.contract import Contract
from fer_edge.convert.inspect_model import Inspection

# DenseNet121 unfolded leaves 62; a residual network's own additions come without the multiplications.
MANY_MULTIPLICATIONS = 8
NAMED_LAYERS = 3  # of those whose weights stand out
COLLAPSED_ENTROPY = 0.5
# What the last layer takes in float behind int8 ones, with the way into float and back.
FLOAT_HEAD = Counter(DEQUANTIZE=1, FULLY_CONNECTED=1, SOFTMAX=1, QUANTIZE=1)


@dataclass(frozen=True)
class Thresholds:
    """What a conversion may cost.

    Attributes:
        accuracy_points: Largest fall of the accuracy, percentage points.
        recall_points: Largest fall of any class's recall, percentage points.
        agreement_percent: Smallest share of faces with the Keras model's label, percent.

    Raises:
        ValueError: If one is not between 0 and 100.
    """

    accuracy_points: float = 1.0
    recall_points: float = 5.0
    agreement_percent: float = 97.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value <= 100:  # not-a-number fails too
                raise ValueError(f"the bound {name} must be a number between 0 and 100. Received: {value}")


@dataclass(frozen=True)
class Issue:
    """One reason to refuse a model.

    Attributes:
        cause: What is wrong, with the value and the bound.
        remedy: What to try next.
    """

    cause: str
    remedy: str


def check_thresholds(
    metrics: Mapping[str, Any], bounds: Thresholds, contract: Contract, run_labels: Sequence[str]
) -> list[Issue]:
    """Return the reasons to refuse a converted model, none where it is right.

    A fall of a single face never counts: a share of few faces cannot be measured finer. Custom operators need no reason here:
    the runtime refuses such a file before it can be measured.

    Args:
        metrics: From compare.
        bounds: What is allowed.
        contract: The contract inside the file.
        run_labels: Label names of the run it was made from, in output order.
    """
    problems = []
    if tuple(contract.labels) != tuple(run_labels):
        problems.append(
            Issue(
                f"the labels inside the file are permuted or others: {', '.join(contract.labels)}; "
                f"the run's are {', '.join(run_labels)}",
                "convert the run again",
            )
        )
    if not np.isfinite(metrics["largest_difference"]):
        problems.append(Issue("the file answers with values that are not finite", "convert with --float32, and train again"))
    costs = list(_costs(metrics, bounds))
    if costs:
        remedy = _advice(contract.quantization)
        problems += [Issue(cost, remedy) for cost in costs]
        problems += _likely_causes(metrics)
    return problems


def _advice(quantization: Mapping[str, Any]) -> str:
    tuned = quantization.get("fine_tuning")
    if tuned is not None and tuned["kind"] != "qat":
        return "ask for less: a smaller --prune, a larger --cluster, or more --epochs"
    if quantization["weights"] in ("float32", "float16"):
        return "convert again with --float32 beside it: where that fails too the converter is at fault, please report it"
    if quantization["activations"] != "int8":
        return "try --int8, or --float16 where the size is all that counts"
    if quantization["quantizer"] == "tflite":
        return "try --quantizer ai-edge, which keeps the last layer in float and corrects biases"
    if tuned is not None:
        return "leave --qat out, or give it more --epochs"
    if quantization["keep_float"]:
        return "keep further layers in float, or try --qat --data DATA"
    return "try --keep-float auto, or --qat --data DATA, or --calibrate-from faces of your own camera"


def _costs(metrics: Mapping[str, Any], bounds: Thresholds) -> "list[str]":
    faces, found = metrics["faces"], []

    def lost(before: float, after: float, count: int, points: float) -> bool:
        return round((before - after) * count, 6) > max(points / 100 * count, 1)

    before, after = metrics["accuracy_before"], metrics["accuracy_after"]
    if lost(before, after, faces, bounds.accuracy_points):
        found.append(
            f"accuracy falls by {100 * (before - after):.2f} points, {before:.4f} to {after:.4f} on {faces} faces "
            f"(bound {bounds.accuracy_points:g})"
        )
    if lost(1.0, metrics["agreement"], faces, 100 - bounds.agreement_percent):
        found.append(
            f"only {100 * metrics['agreement']:.1f} % of {faces} faces keep the Keras model's label "
            f"(bound {bounds.agreement_percent:g} %)"
        )
    for label, own_before in metrics["recall_before"].items():
        own_after, count = metrics["recall_after"][label], metrics["faces_per_class"][label]
        if own_before is not None and lost(own_before, own_after, count, bounds.recall_points):
            found.append(
                f"recall of {label} falls by {100 * (own_before - own_after):.1f} points, {own_before:.3f} to {own_after:.3f} "
                f"on {count} faces (bound {bounds.recall_points:g})"
            )
    return found


def _likely_causes(metrics: Mapping[str, Any]) -> list[Issue]:
    before, after = metrics["label_entropy_before"], metrics["label_entropy_after"]
    if after >= COLLAPSED_ENTROPY * before:
        return []
    predicted = metrics["predicted_after"]
    most = max(predicted, key=predicted.__getitem__)
    share = 100 * predicted[most] / metrics["faces"]
    return [
        Issue(
            f"the predictions collapse onto few classes: {share:.0f} % {most} "
            f"(entropy of the labels {before:.2f} to {after:.2f})",
            "look at the calibration faces: too few, too much alike, or scaled",
        )
    ]


def diagnose(
    problems: Sequence[Issue],
    before: npt.NDArray[np.float32],
    after: npt.NDArray[np.float32],
    labels: Sequence[str],
    found: Sequence[Issue],
) -> list[Issue]:
    """Return the reasons to refuse a model with their likely causes behind them; none where there is no reason.

    Args:
        problems: From check_thresholds.
        before: float32 array (n, classes), of the Keras model.
        after: float32 array (n, classes), of the .tflite file.
        labels: Label names in output order.
        found: From notes.
    """
    if not problems:
        return []
    order = permutation(before, after, labels)
    return [*problems, *([order] if order else []), *found]


def permutation(before: npt.NDArray[np.float32], after: npt.NDArray[np.float32], labels: Sequence[str]) -> Issue | None:
    """Find out whether the outputs are the right ones in another order.

    Args:
        before: float32 array (n, classes), of the Keras model.
        after: float32 array (n, classes), of the .tflite file.
        labels: Label names in output order.

    Returns:
        The problem, None where the order is right, or where no order makes the two agree on most faces.
    """
    from scipy.optimize import linear_sum_assignment

    table = np.zeros((len(labels), len(labels)))
    np.add.at(table, (before.argmax(axis=1), after.argmax(axis=1)), 1)
    rows, columns = linear_sum_assignment(-table)
    if table[rows, columns].sum() < 0.9 * len(before) or np.trace(table) >= 0.9 * len(before):
        return None
    swapped = ", ".join(f"{labels[r]} as {labels[c]}" for r, c in zip(rows, columns, strict=True) if r != c and table[r, c])
    return Issue(f"the outputs stand in another order than the labels: {swapped}", "convert the run again, and permute nothing")


def notes(inspection: Inspection, quantization: Mapping[str, Any], outstanding: Mapping[str, float]) -> list[Issue]:
    """Return what makes a model slow or inexact, as likely causes where it is refused.

    Args:
        inspection: The inside of the file.
        quantization: The recipe it was made by, as the contract has it.
        outstanding: From outlier_layers.
    """
    found = []
    integer = quantization["interface"] == "uint8" and not quantization["keep_float"]
    floats = Counter(inspection.float_operators)
    if quantization.get("head") == "float32":
        floats -= FLOAT_HEAD
    if integer and floats:
        names = ", ".join(f"{count} {name}" for name, count in floats.items())
        found.append(Issue(f"operators that are not integer: {names}", "it is slower than it could be"))
    counts = inspection.operators
    if min(counts.get("MUL", 0), counts.get("ADD", 0)) >= MANY_MULTIPLICATIONS:
        found.append(
            Issue(
                f"batch normalisation before a convolution stays behind as {counts['MUL']} MUL and {counts['ADD']} ADD, "
                "which round twice",
                "fold it into depthwise convolutions, as fer-edge convert does",
            )
        )
    if outstanding:
        largest = sorted(outstanding, key=lambda name: -outstanding[name])[:NAMED_LAYERS]
        told = ", ".join(f"'{name}' {outstanding[name]:.0f} times" for name in largest)
        more = f" and {len(outstanding) - len(largest)} more" if len(outstanding) > len(largest) else ""
        options = " ".join(f"--keep-float {name}" for name in largest)
        found.append(
            Issue(
                f"layers whose weights are larger than the median layer's: {told}{more}",
                "train again with weight decay" + (f", or {options}" if quantization.get("head") == "float32" else ""),
            )
        )
    return found
