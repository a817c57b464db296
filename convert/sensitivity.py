"""Which layers suffer most from int8, and the fewest that must stay in float."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from fer_edge.convert import ai_edge
from fer_edge.convert.compare import kl_divergence
from fer_edge.convert.convert_run import Source, float_flatbuffer, predict, quantize, run_flatbuffer
from fer_edge.convert.gate import Bounds
from fer_edge.convert.recipes import Quantization

if TYPE_CHECKING:
    import keras

PROBE_FACES = 48
# The gate measures on faces that this search does not see, so the search aims at half of what the gate allows.
SAFETY = 0.5

Progress = Callable[[int, int], None]


def layer_damages(source: Source, recipe: Quantization, progress: Progress | None = None) -> dict[str, float]:
    """Measure what each layer with weights costs when it alone is int8.

    The other way round, one layer in float among int8 ones, shows little: what it gives is rounded right after it.

    Args:
        source: The run.
        recipe: The int8 recipe.
        progress: Called with (layers done, layers in all).

    Returns:
        By layer name, the mean divergence from the Keras model (nats), on calibration faces. Largest first.
    """
    float_model = float_flatbuffer(source)
    ranges = ai_edge.measure_ranges(float_model, source.calibration)
    every = np.linspace(0, len(source.calibration) - 1, min(PROBE_FACES, len(source.calibration))).astype(int)
    faces = source.calibration[every]
    before = predict(source.folded, faces)
    covered = tuple(quantize(source, recipe, float_model)[1]["ranges_cover_percent"])
    damages, layers = {}, weighted_layers(source.folded)
    for done, layer in enumerate(layers):
        if progress:
            progress(done, len(layers))
        flatbuffer = ai_edge.quantize_int8(float_model, ranges, covered, only=layer)
        damages[layer] = float(kl_divergence(before, run_flatbuffer(source, recipe, flatbuffer, faces)).mean())
    if progress:
        progress(len(layers), len(layers))
    return dict(sorted(damages.items(), key=lambda item: -item[1]))


def find_keep_float(
    source: Source, recipe: Quantization, bounds: Bounds, progress: Progress | None = None
) -> tuple[tuple[str, ...], dict[str, float]]:
    """Find the smallest set of layers in float with which int8 answers like Keras on the calibration faces.

    The layers are taken in the order of their damage, twice as many each time, until few enough faces get another label.

    Args:
        source: The run.
        recipe: The int8 recipe.
        bounds: What the gate will allow.
        progress: Called with (layers done, layers in all).

    Returns:
        The layers' names, none where plain int8 is good enough; and the damage of each layer, see layer_damages.
    """
    float_model = float_flatbuffer(source)
    before = predict(source.folded, source.calibration).argmax(axis=1)
    allowed = SAFETY * (100 - bounds.agreement_percent) / 100

    def good(keep: Sequence[str]) -> bool:
        flatbuffer, _ = quantize(source, replace(recipe, keep_float=tuple(keep)), float_model)
        after = run_flatbuffer(source, recipe, flatbuffer, source.calibration).argmax(axis=1)
        return float((before != after).mean()) <= allowed

    if good(()):
        return (), {}
    damages = layer_damages(source, recipe, progress)
    ranked = list(damages)
    count = 1
    while count < len(ranked) and not good(ranked[:count]):
        count *= 2
    return tuple(ranked[:count]), damages


def weighted_layers(model: "keras.Model") -> list[str]:
    """Return the names of the layers that have weights, in order."""
    return [layer.name for layer in model.layers if layer.weights]


def check_layers(model: "keras.Model", names: Sequence[str]) -> None:
    """Check that layers exist and have weights.

    Raises:
        ValueError: If one does not; the message lists those that do.
    """
    known = weighted_layers(model)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"no layer with weights is called {', '.join(unknown)}; choose among: {', '.join(known)}")
