"""Run a converted model on the device: cameras, face detection, classification, tracking and outputs.

Importing this package needs only the standard library and numpy. OpenCV and the TFLite interpreter are imported where they
are used. TensorFlow is never imported.
"""

if __name__ != "fer_edge.edge_runtime":
    raise ImportError(f"import fer_edge.edge_runtime, not {__name__}: install the project with pip install -e .")

from fer_edge.artifacts.contract import CANONICAL_LABELS, Contract, CropConvention, read_contract
from fer_edge.edge_runtime.classify import Classifier, Prediction
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
