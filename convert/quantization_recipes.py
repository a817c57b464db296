"""Quantisation recipes as plain data, kept in the contract of each file."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

QUANTIZERS = ("ai-edge", "tflite")


@dataclass(frozen=True)
class QuantizationRecipe:
    """One quantisation recipe.

    Attributes:
        precision: Name in file names and tables; what was done beside stands behind a dash, as in ``int8-qat``.
        weights: Type of the stored weights.
        activations: Type of the activations.
        interface: Type of input and output.
        calibrated: Whether it needs calibration faces.
        quantizer: What carries it out, one of QUANTIZERS.
        head: For int8, the type that the last layer and the softmax compute in.
        keep_float: Names of the other layers that stay in float.
        fine_tuning: Training that came before, as plain data: quantisation-aware, pruned or clustered. None for none.
    """

    precision: str
    weights: str
    activations: str
    interface: str
    calibrated: bool
    quantizer: str = "tflite"
    head: str | None = None
    keep_float: tuple[str, ...] = ()
    fine_tuning: dict[str, Any] | None = None

    def as_data(self) -> dict[str, Any]:
        """Return the recipe as plain data for the contract."""
        return asdict(self)


ALL_PRECISIONS = ("float32", "float16", "dynamic", "int8")

RECIPES: dict[str, QuantizationRecipe] = {
    "float32": QuantizationRecipe("float32", "float32", "float32", "float32", calibrated=False),
    "float16": QuantizationRecipe("float16", "float16", "float32", "float32", calibrated=False),
    "dynamic": QuantizationRecipe("dynamic", "int8", "float32", "float32", calibrated=False),
    "weight_only": QuantizationRecipe(
        "weight_only", "int8 per channel", "float32", "float32", calibrated=False, quantizer="ai-edge"
    ),
    # int8 at the interface is refused by browsers and MediaPipe; uint8 takes the camera's bytes as they are.
    "int8": QuantizationRecipe(
        "int8", "int8 per channel", "int8", "uint8", calibrated=True, quantizer="ai-edge", head="float32"
    ),
}


def find_recipe(
    precision: str,
    quantizer: str | None = None,
    keep_float: Iterable[str] = (),
    fine_tuning: dict[str, Any] | None = None,
) -> QuantizationRecipe:
    """Return the recipe of a precision, int8 with what the user asks for beside it.

    Args:
        precision: Name in RECIPES.
        quantizer: One of QUANTIZERS, for int8; the recipe's own by default.
        keep_float: Names of layers that stay in float, for int8.
        fine_tuning: Training that comes before, as plain data; ``qat`` is for int8 alone.

    Raises:
        ValueError: If a name is unknown, or two wishes do not go together.
    """
    if precision not in RECIPES:
        raise ValueError(f"unknown precision '{precision}'; choose one of: {', '.join(RECIPES)}")
    if quantizer is not None and quantizer not in QUANTIZERS:
        raise ValueError(f"unknown quantizer '{quantizer}'; choose one of: {', '.join(QUANTIZERS)}")
    recipe, keep_float = RECIPES[precision], tuple(keep_float)
    if fine_tuning is not None:
        amount = "" if fine_tuning["amount"] is None else f"{fine_tuning['amount']:g}"
        recipe = replace(recipe, precision=f"{precision}-{fine_tuning['kind']}{amount}", fine_tuning=fine_tuning)
    if not recipe.calibrated:
        if fine_tuning is not None and fine_tuning["kind"] == "qat":
            raise ValueError(f"--qat is for int8. Received: {precision}. Leave one of the two out")
        return recipe
    if quantizer == "tflite" and keep_float:
        raise ValueError("--keep-float needs ai-edge-quantizer. Received: --quantizer tflite. Leave it out, or say ai-edge")
    if quantizer is not None and quantizer != recipe.quantizer:
        recipe = replace(recipe, precision=f"{recipe.precision}-{quantizer}", quantizer=quantizer, head="int8")
    if keep_float:
        recipe = replace(recipe, precision=f"{recipe.precision}-mixed", keep_float=keep_float)
    return recipe
