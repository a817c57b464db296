"""The gate: accepts a converted model or rejects it, with the cause and what to try next."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.contract import Contract
from fer_edge.artifacts.conversion import ConversionMetrics, QuantizationRecipe
from fer_edge.artifacts.gate import Issue, Thresholds
from fer_edge.convert.inspect_model import Inspection

# An unfolded DenseNet121 has 62 of each. The additions of a residual network have no multiplications with them.
MIN_UNFOLDED = 8
MAX_NAMED_LAYERS = 3  # outlier layers in one message
COLLAPSED_ENTROPY = 0.5
PERMUTED_AGREEMENT = 0.9
# Operators of a float last layer after int8 layers, with the conversions to float and back.
FLOAT_HEAD = Counter(DEQUANTIZE=1, FULLY_CONNECTED=1, SOFTMAX=1, QUANTIZE=1)

FloatArray = npt.NDArray[np.float32]


def check_thresholds(
    metrics: ConversionMetrics, thresholds: Thresholds, contract: Contract, run_labels: Sequence[str]
) -> list[Issue]:
    """Return the reasons to reject a converted model.

    A drop of a single face never counts: a fraction of few faces has no finer resolution. Custom operators need no check
    here: the runtime cannot load such a file.

    Args:
        metrics: From compare.
        thresholds: How much the conversion may cost.
        contract: The contract inside the file.
        run_labels: Label names of its run, in output order.

    Returns:
        The reasons; empty if the model is accepted.
    """
    issues = []
    if tuple(contract.labels) != tuple(run_labels):
        issues.append(
            Issue(
                f"the labels of the file differ from the labels of the run: {', '.join(contract.labels)} instead of "
                f"{', '.join(run_labels)}",
                "convert the run again",
            )
        )
    if not np.isfinite(metrics.max_difference):
        issues.append(Issue("the file outputs NaN or Inf", "convert with --float32, and train again"))
    costs = list(_costs(metrics, thresholds))
    if costs:
        remedy = _remedy(contract.quantization.recipe)
        issues += [Issue(cost, remedy) for cost in costs]
        issues += _collapse(metrics)
    return issues


def _remedy(recipe: QuantizationRecipe) -> str:
    if recipe.fine_tuning is not None and recipe.fine_tuning.kind != "qat":
        return "use a smaller --prune, a larger --cluster, or more --epochs"
    if recipe.weights in ("float32", "float16"):
        return "convert with --float32 too. If that file fails as well, the converter is at fault: please report it"
    if recipe.activations != "int8":
        return "try --int8, or --float16 if only the size matters"
    if recipe.quantizer == "tflite":
        return "try --quantizer ai-edge, which keeps the last layer in float and corrects biases"
    if recipe.fine_tuning is not None:
        return "remove --qat, or use more --epochs"
    if recipe.keep_float:
        return "keep more layers in float, or try --qat --data DATA"
    return "try --keep-float auto, or --qat --data DATA, or --calibrate-from with faces of your own camera"


def _costs(metrics: ConversionMetrics, thresholds: Thresholds) -> Iterator[str]:
    def exceeds(before: float, after: float, count: int, points: float) -> bool:
        return round((before - after) * count, 6) > max(points / 100 * count, 1)

    faces, before, after = metrics.faces, metrics.before.accuracy, metrics.after.accuracy
    if exceeds(before, after, faces, thresholds.accuracy_points):
        yield (
            f"accuracy drops by {100 * (before - after):.2f} points, from {before:.4f} to {after:.4f} on {faces} faces "
            f"(allowed: {thresholds.accuracy_points:g})"
        )
    if exceeds(1.0, metrics.agreement, faces, 100 - thresholds.agreement_percent):
        yield (
            f"only {100 * metrics.agreement:.1f} % of {faces} faces keep the label of the Keras model "
            f"(required: {thresholds.agreement_percent:g} %)"
        )
    for label, count in metrics.faces_per_class.items():
        recall_before, recall_after = metrics.before.recall[label], metrics.after.recall[label]
        if recall_before is None or recall_after is None:
            continue
        if exceeds(recall_before, recall_after, count, thresholds.recall_points):
            yield (
                f"recall of {label} drops by {100 * (recall_before - recall_after):.1f} points, from {recall_before:.3f} to "
                f"{recall_after:.3f} on {count} faces (allowed: {thresholds.recall_points:g})"
            )


def _collapse(metrics: ConversionMetrics) -> list[Issue]:
    before, after = metrics.before.label_entropy, metrics.after.label_entropy
    if after >= COLLAPSED_ENTROPY * before:
        return []
    predicted = metrics.after.predicted
    most_frequent = max(predicted, key=predicted.__getitem__)
    percent = 100 * predicted[most_frequent] / metrics.faces
    return [
        Issue(
            f"the predictions collapse onto few classes: {percent:.0f} % {most_frequent} "
            f"(entropy of the labels: {before:.2f} to {after:.2f})",
            "check the calibration faces: they may be too few, too similar or scaled",
        )
    ]


def diagnose(
    issues: Sequence[Issue],
    keras_probs: FloatArray,
    tflite_probs: FloatArray,
    labels: Sequence[str],
    causes: Sequence[Issue],
) -> list[Issue]:
    """Add the likely causes to the reasons for a rejection.

    Args:
        issues: From check_thresholds.
        keras_probs: Probabilities of the Keras model, float32 array (n, classes), 0..1.
        tflite_probs: Probabilities of the .tflite file, float32 array (n, classes), 0..1.
        labels: Label names in output order.
        causes: From warnings.

    Returns:
        The reasons, then the likely causes; empty if there are no reasons.
    """
    if not issues:
        return []
    permutation = find_label_permutation(keras_probs, tflite_probs, labels)
    return [*issues, *([permutation] if permutation else []), *causes]


def find_label_permutation(keras_probs: FloatArray, tflite_probs: FloatArray, labels: Sequence[str]) -> Issue | None:
    """Find out whether the outputs are right but in another order.

    Args:
        keras_probs: Probabilities of the Keras model, float32 array (n, classes), 0..1.
        tflite_probs: Probabilities of the .tflite file, float32 array (n, classes), 0..1.
        labels: Label names in output order.

    Returns:
        The permutation; None if the order is right, or no order makes the models agree on most faces.
    """
    from scipy.optimize import linear_sum_assignment

    counts = np.zeros((len(labels), len(labels)))
    np.add.at(counts, (keras_probs.argmax(axis=1), tflite_probs.argmax(axis=1)), 1)
    rows, columns = linear_sum_assignment(-counts)
    required = PERMUTED_AGREEMENT * len(keras_probs)
    if counts[rows, columns].sum() < required or np.trace(counts) >= required:
        return None
    swapped = ", ".join(f"{labels[r]} as {labels[c]}" for r, c in zip(rows, columns, strict=True) if r != c and counts[r, c])
    return Issue(f"the outputs are in another order than the labels: {swapped}", "convert the run again without permuting it")


def warnings(inspection: Inspection, recipe: QuantizationRecipe, outliers: Mapping[str, float]) -> list[Issue]:
    """Return what makes a model slow or inexact. For a rejected model these are the likely causes.

    Args:
        inspection: The content of the file.
        recipe: The recipe that made it.
        outliers: From outlier_layers.
    """
    issues = []
    float_operators = Counter(inspection.float_operators)
    if recipe.head == "float32":
        float_operators -= FLOAT_HEAD
    if recipe.io_dtype == "uint8" and not recipe.keep_float and float_operators:
        names = ", ".join(f"{count} {name}" for name, count in float_operators.items())
        issues.append(Issue(f"operators that do not compute in integers: {names}", "the model is slower than it could be"))
    counts = inspection.operators
    if min(counts.get("MUL", 0), counts.get("ADD", 0)) >= MIN_UNFOLDED:
        issues.append(
            Issue(
                f"batch normalization before a convolution remains as {counts['MUL']} MUL and {counts['ADD']} ADD, "
                "which round twice",
                "fold it into depthwise convolutions, as fer-edge convert does",
            )
        )
    if outliers:
        issues.append(_outlier_issue(outliers, can_keep_float=recipe.head == "float32"))
    return issues


def _outlier_issue(outliers: Mapping[str, float], can_keep_float: bool) -> Issue:
    largest = sorted(outliers, key=lambda name: -outliers[name])[:MAX_NAMED_LAYERS]
    named = ", ".join(f"'{name}' {outliers[name]:.0f} times" for name in largest)
    more = f" and {len(outliers) - len(largest)} more" if len(outliers) > len(largest) else ""
    options = " ".join(f"--keep-float {name}" for name in largest)
    return Issue(
        f"layers whose weights are larger than those of the median layer: {named}{more}",
        "train again with weight decay" + (f", or {options}" if can_keep_float else ""),
    )
