"""The quantization recipes, one per precision, and their variants."""

from collections.abc import Iterable
from dataclasses import replace

from fer_edge.artifacts.conversion import FineTuning, QuantizationRecipe

QUANTIZERS = ("ai-edge", "tflite")
ALL_PRECISIONS = ("float32", "float16", "dynamic", "int8")

RECIPES: dict[str, QuantizationRecipe] = {
    "float32": QuantizationRecipe("float32", "float32", "float32", "float32", calibrated=False),
    "float16": QuantizationRecipe("float16", "float16", "float32", "float32", calibrated=False),
    "dynamic": QuantizationRecipe("dynamic", "int8", "float32", "float32", calibrated=False),
    "weight_only": QuantizationRecipe(
        "weight_only", "int8 per channel", "float32", "float32", calibrated=False, quantizer="ai-edge"
    ),
    # Browsers and MediaPipe reject int8 input and output. uint8 takes the bytes of the camera unchanged.
    "int8": QuantizationRecipe(
        "int8", "int8 per channel", "int8", "uint8", calibrated=True, quantizer="ai-edge", head="float32"
    ),
}


def find_quantization_recipe(
    precision: str,
    quantizer: str | None = None,
    keep_float: Iterable[str] = (),
    fine_tuning: FineTuning | None = None,
) -> QuantizationRecipe:
    """Return the recipe of a precision. The options quantizer and keep_float change int8 only.

    Args:
        precision: Name in RECIPES.
        quantizer: One of QUANTIZERS; None for the default of the recipe.
        keep_float: Names of layers that stay in float.
        fine_tuning: Training before conversion; ``qat`` is for int8 only.

    Raises:
        ValueError: If a name is unknown, or two options exclude each other.
    """
    if precision not in RECIPES:
        raise ValueError(f"unknown precision '{precision}'; choose one of: {', '.join(RECIPES)}")
    if quantizer is not None and quantizer not in QUANTIZERS:
        raise ValueError(f"unknown quantizer '{quantizer}'; choose one of: {', '.join(QUANTIZERS)}")
    recipe, keep_float = RECIPES[precision], tuple(keep_float)
    if fine_tuning is not None:
        amount = "" if fine_tuning.amount is None else f"{fine_tuning.amount:g}"
        recipe = replace(recipe, precision=f"{precision}-{fine_tuning.kind}{amount}", fine_tuning=fine_tuning)
    if not recipe.calibrated:
        if fine_tuning is not None and fine_tuning.kind == "qat":
            raise ValueError(f"--qat is for int8. Received: {precision}. Remove one of the two")
        return recipe
    if quantizer == "tflite" and keep_float:
        raise ValueError("--keep-float needs ai-edge-quantizer. Received: --quantizer tflite. Remove it, or use ai-edge")
    if quantizer is not None and quantizer != recipe.quantizer:
        recipe = replace(recipe, precision=f"{recipe.precision}-{quantizer}", quantizer=quantizer, head="int8")
    if keep_float:
        recipe = replace(recipe, precision=f"{recipe.precision}-mixed", keep_float=keep_float)
    return recipe
