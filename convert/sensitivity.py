"""Find the layers that suffer most from int8, and the smallest set that must stay in float."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.conversion import QuantizationRecipe
from fer_edge.artifacts.gate import Thresholds
from fer_edge.artifacts.reporter import Progress
from fer_edge.convert import ai_edge
from fer_edge.convert.compare import kl_divergence
from fer_edge.convert.prepare_run import PreparedRun, predict
from fer_edge.convert.quantize import float_flatbuffer, measure_candidate, quantize, run_flatbuffer

if TYPE_CHECKING:
    import keras

PROBE_FACES = 48
# The gate measures on faces that this search does not see, so the search allows only this fraction of the gate's limit.
SAFETY = 0.5


@dataclass(frozen=True)
class _Probe:
    """Quantizes subsets of the layers and compares the results with the float model on the calibration faces."""

    prepared: PreparedRun
    recipe: QuantizationRecipe
    float_model: bytes
    ranges: ai_edge.ActivationRanges
    percentile: float
    correct: bool

    def sensitivity(self, layer: str, faces: npt.NDArray[np.uint8], keras_probs: npt.NDArray[np.float32]) -> float:
        """Return the mean divergence (nats) if only this layer is int8.

        Args:
            layer: Name of the layer.
            faces: uint8 array (n, size, size, 3), RGB.
            keras_probs: Probabilities of the float model, float32 array (n, classes), 0..1.
        """
        flatbuffer = ai_edge.quantize_int8(self.float_model, self.ranges, self.percentile, only=layer, correct=self.correct)
        return float(kl_divergence(keras_probs, run_flatbuffer(self.prepared, self.recipe, flatbuffer, faces)).mean())

    def disagreement_with(self, keep_float: Sequence[str], keras_probs: npt.NDArray[np.float32]) -> float:
        """Return the fraction of calibration faces with another label if all layers except these are int8, 0..1.

        Args:
            keep_float: Names of the layers that stay in float.
            keras_probs: Probabilities of the float model, float32 array (n, classes), 0..1.
        """
        flatbuffer = ai_edge.quantize_int8(self.float_model, self.ranges, self.percentile, keep_float, correct=self.correct)
        return 1 - measure_candidate(self.prepared, self.recipe, flatbuffer, keras_probs).agreement


def find_keep_float(
    prepared: PreparedRun, recipe: QuantizationRecipe, thresholds: Thresholds, progress: Progress | None = None
) -> tuple[tuple[str, ...], dict[str, float]]:
    """Find the smallest set of float layers with which int8 agrees with Keras on the calibration faces.

    The sensitivity of a layer is the divergence if it is the only int8 layer. (The reverse, one float layer among int8 layers,
    shows little: its output is rounded by the next layer.) The most sensitive layers become float, as few as necessary. Then
    each of them, the largest first, returns to int8 if it can.

    Args:
        prepared: The run.
        recipe: The int8 recipe.
        thresholds: Thresholds of the gate.
        progress: Called with (layers done, layers in all).

    Returns:
        The names of the float layers, none if plain int8 is good enough, all if no part of it is; and the sensitivity (mean
        divergence, nats) by layer name, largest first, empty if plain int8 is good enough.
    """
    float_model = float_flatbuffer(prepared)
    ranges = ai_edge.calibrate(float_model, prepared.calibration)
    summary = quantize(prepared, recipe, float_model, ranges)[1]
    percentile = ai_edge.PERCENTILES[0] if summary.percentile is None else summary.percentile
    probe = _Probe(prepared, recipe, float_model, ranges, percentile, bool(summary.biases_corrected))
    keras_probs = predict(prepared.folded, prepared.calibration)
    allowed = SAFETY * (100 - thresholds.agreement_percent) / 100

    def good(keep_float: Sequence[str]) -> bool:
        return probe.disagreement_with(keep_float, keras_probs) <= allowed

    if good(()):
        return (), {}
    sensitivities = _sensitivities(probe, keras_probs, progress)
    return _smallest_set(prepared.folded, list(sensitivities), good), sensitivities


def _sensitivities(probe: _Probe, keras_probs: npt.NDArray[np.float32], progress: Progress | None) -> dict[str, float]:
    layers = weighted_layers(probe.prepared.folded)[:-1]  # the last one is float already
    sample = np.linspace(0, len(keras_probs) - 1, min(PROBE_FACES, len(keras_probs))).astype(int)
    faces, expected = probe.prepared.calibration[sample], keras_probs[sample]
    sensitivities = {}
    for done, layer in enumerate(layers, start=1):
        sensitivities[layer] = probe.sensitivity(layer, faces, expected)
        if progress:
            progress(done, len(layers))
    return dict(sorted(sensitivities.items(), key=lambda item: -item[1]))


def _smallest_set(model: "keras.Model", ranked: list[str], good: Callable[[Sequence[str]], bool]) -> tuple[str, ...]:
    count = bisect_left(range(len(ranked)), True, key=lambda count: good(ranked[:count]))
    kept = ranked[:count]
    if count < len(ranked):
        for layer in sorted(kept, key=lambda name: -int(model.get_layer(name).count_params())):
            fewer = [name for name in kept if name != layer]
            if good(fewer):
                kept = fewer
    return tuple(kept)


def weighted_layers(model: "keras.Model") -> list[str]:
    """Return the names of the layers that have weights, in order."""
    return [layer.name for layer in model.layers if layer.weights]


def check_layers(model: "keras.Model", names: Sequence[str]) -> None:
    """Check that layers exist, have weights, and would be int8.

    Args:
        model: The folded model.
        names: Names of layers.

    Raises:
        ValueError: If a name is unknown, or is the last layer, which is float anyway.
    """
    *known, last = weighted_layers(model)
    if last in names:
        raise ValueError(f"the last layer, {last}, computes in float already. Remove it from --keep-float")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"no layer with weights is called {', '.join(unknown)}; choose among: {', '.join(known)}")
