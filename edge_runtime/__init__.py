"""Run a converted model on the device: cameras, face detection, classification, tracking and outputs.

Importing this package needs only the standard library and numpy. OpenCV and the TFLite interpreter are imported where they
are used. TensorFlow is never imported.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if __name__ != "fer_edge.edge_runtime":
    raise ImportError(f"import fer_edge.edge_runtime, not {__name__}: install the project with pip install -e .")

from fer_edge.artifacts.contract import CANONICAL_LABELS, Contract, CropConvention, read_contract
from fer_edge.edge_runtime.classify import Classifier, Prediction

if TYPE_CHECKING:
    from fer_edge.edge_runtime.live.analyze import analyze
    from fer_edge.edge_runtime.live.pipeline import LabeledFace, LabeledFrame, Pipeline
    from fer_edge.edge_runtime.live.smoothing import NO_SMOOTHING, Smoothing
    from fer_edge.edge_runtime.live.stream import stream

__all__ = [
    "CANONICAL_LABELS",
    "NO_SMOOTHING",
    "Classifier",
    "Contract",
    "CropConvention",
    "LabeledFace",
    "LabeledFrame",
    "Pipeline",
    "Prediction",
    "Smoothing",
    "analyze",
    "read_contract",
    "stream",
]

_MODULES = {
    "NO_SMOOTHING": "smoothing",
    "LabeledFace": "pipeline",
    "LabeledFrame": "pipeline",
    "Pipeline": "pipeline",
    "Smoothing": "smoothing",
    "analyze": "analyze",
    "stream": "stream",
}


def __getattr__(name: str) -> Any:
    # Imported on first use: a program that only classifies crops does not load cameras, detectors and the tracker.
    if name in _MODULES:
        return getattr(import_module(f"fer_edge.edge_runtime.live.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'fer_edge.edge_runtime' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
