"""fer-edge: facial-expression recognition for a Raspberry Pi or a PC: train, quantize, run, compare."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if __name__ != "fer_edge":
    raise ImportError(f"import fer_edge, not {__name__}: install the project with pip install -e .")

__version__ = "0.1.0"

if TYPE_CHECKING:
    from fer_edge.compare_models import bench
    from fer_edge.conversion import convert
    from fer_edge.convert.convert_run import ConvertOptions
    from fer_edge.edge_runtime import (
        NO_SMOOTHING,
        Classifier,
        LabeledFace,
        LabeledFrame,
        Prediction,
        Smoothing,
        analyze,
        stream,
    )
    from fer_edge.train.evaluate_model import evaluate
    from fer_edge.train.series import TrainOptions, train

__all__ = [
    "NO_SMOOTHING",
    "Classifier",
    "ConvertOptions",
    "LabeledFace",
    "LabeledFrame",
    "Prediction",
    "Smoothing",
    "TrainOptions",
    "analyze",
    "bench",
    "convert",
    "evaluate",
    "stream",
    "train",
]


_CALLABLE_PACKAGES = ("convert", "train")
_MODULES = {
    "ConvertOptions": "fer_edge.convert.convert_run",
    "TrainOptions": "fer_edge.train.series",
    "bench": "fer_edge.compare_models",
    "evaluate": "fer_edge.train.evaluate_model",
}


def __getattr__(name: str) -> Any:
    # Each name is imported on first use: `import fer_edge` and `fer-edge --help` stay fast.
    if name in _CALLABLE_PACKAGES:
        return import_module(f"fer_edge.{name}")
    if name in __all__:
        return getattr(import_module(_MODULES.get(name, "fer_edge.edge_runtime")), name)
    raise AttributeError(f"module 'fer_edge' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
