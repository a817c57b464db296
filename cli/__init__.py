"""fer-edge: facial-expression recognition for Raspberry Pi and phones, trained, quantised, run and compared."""

from typing import TYPE_CHECKING, Any

if __name__ != "fer_edge":
    raise ImportError(f"import fer_edge, not {__name__}: install the project with pip install -e .")

if TYPE_CHECKING:
    from fer_edge.edge_runtime import Classifier, LabeledFrame, Prediction, Smoothing, stream

__all__ = ["Classifier", "LabeledFrame", "Prediction", "Smoothing", "stream"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # The runtime is imported on first use, so that `fer-edge --help` stays quick.
    if name in __all__:
        import fer_edge.edge_runtime

        return getattr(fer_edge.edge_runtime, name)
    raise AttributeError(f"module 'fer_edge' has no attribute '{name}'")
