"""Which layers suffer most from int8, and the cheapest set that must stay in float."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fer_edge.convert import ai_edge
from fer_edge.convert.compare import kl_divergence
from fer_edge.convert.convert_run import PreparedRun, float_flatbuffer, measure_candidate, predict, quantize, run_flatbuffer
from fer_edge.convert.gate import Thresholds
from fer_edge.convert.quantization_recipes import QuantizationRecipe

if TYPE_CHECKING:
    import keras

PROBE_FACES = 48
# The gate measures on faces that this search does not see, so the search aims at half of what the gate allows.
SAFETY = 0.5

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class _Probe:
    """Int8 models of a run with this or that layer in float, compared with Keras on its calibration faces."""

    source: PreparedRun
    recipe: QuantizationRecipe
    float_model: bytes
    ranges: ai_edge.ActivationRanges
    covered_percent: float
    corrected: bool

    def damage(self, layer: str, faces: npt.NDArray[np.uint8], before: npt.NDArray[np.float32]) -> float:
        """Return the mean divergence (nats) where this layer alone is int8."""
        made = ai_edge.quantize_int8(self.float_model, self.ranges, self.covered_percent, only=layer, corrected=self.corrected)
        return float(kl_divergence(before, run_flatbuffer(self.source, self.recipe, made, faces)).mean())

    def others(self, keep: Sequence[str], before: npt.NDArray[np.float32]) -> float:
        """Return the share of faces that get another label where these layers are float and all others int8."""
        made = ai_edge.quantize_int8(self.float_model, self.ranges, self.covered_percent, keep, corrected=self.corrected)
        return 1 - measure_candidate(self.source, self.recipe, made, before).agreement


def find_keep_float(
    source: PreparedRun, recipe: QuantizationRecipe, bounds: Thresholds, progress: Progress | None = None
) -> tuple[tuple[str, ...], dict[str, float]]:
    """Find the cheapest set of layers in float with which int8 answers like Keras on the calibration faces.

    Each layer's damage is what it costs when it alone is int8. (The other way round, one layer in float among int8 ones, shows
    little: what it gives is rounded right after it.) The most damaging ones go into float, as few as will do; then each of
    them, the largest first, goes back to int8 if it can.

    Args:
        source: The run.
        recipe: The int8 recipe.
        bounds: What the gate will allow.
        progress: Called with (layers done, layers in all).

    Returns:
        The layers' names, none where plain int8 is good enough, all where no part of it is; and by layer name its damage
        (mean divergence in nats), largest first.
    """
    float_model = float_flatbuffer(source)
    ranges = ai_edge.calibrate(float_model, source.calibration)
    chosen = quantize(source, recipe, float_model, ranges)[1]
    probe = _Probe(source, recipe, float_model, ranges, chosen["ranges_cover_percent"], chosen["biases_corrected"])
    before = predict(source.folded, source.calibration)
    allowed = SAFETY * (100 - bounds.agreement_percent) / 100

    def good(keep: Sequence[str]) -> bool:
        return probe.others(keep, before) <= allowed

    if good(()):
        return (), {}
    layers = weighted_layers(source.folded)[:-1]  # the last one is in float already
    every = np.linspace(0, len(before) - 1, min(PROBE_FACES, len(before))).astype(int)
    damages = {}
    for done, layer in enumerate(layers):
        if progress:
            progress(done, len(layers))
        damages[layer] = probe.damage(layer, source.calibration[every], before[every])
    if progress:
        progress(len(layers), len(layers))
    damages = dict(sorted(damages.items(), key=lambda item: -item[1]))
    ranked = list(damages)
    count = bisect_left(range(len(ranked)), True, key=lambda count: good(ranked[:count]))
    kept = ranked[:count]
    if count < len(ranked):
        for layer in sorted(kept, key=lambda name: -int(source.folded.get_layer(name).count_params())):
            fewer = [name for name in kept if name != layer]
            if good(fewer):
                kept = fewer
    return tuple(kept), damages


def weighted_layers(model: "keras.Model") -> list[str]:
    """Return the names of the layers that have weights, in order."""
    return [layer.name for layer in model.layers if layer.weights]


def check_layers(model: "keras.Model", names: Sequence[str]) -> None:
    """Check that layers exist, have weights, and would be int8.

    Raises:
        ValueError: If one does not, the message lists those that do; if it is the last one, which is in float anyway.
    """
    *known, last = weighted_layers(model)
    if last in names:
        raise ValueError(f"the last layer, {last}, computes in float already. Leave it out of --keep-float")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"no layer with weights is called {', '.join(unknown)}; choose among: {', '.join(known)}")
