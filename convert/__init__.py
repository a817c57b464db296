"""Convert a run folder to TFLite files: fold, quantize, attach the contract, verify.

The package can be called: ``fer_edge.convert(...)`` is fer_edge.conversion.convert, which can read datasets.
"""

if __name__ != "fer_edge.convert":
    raise ImportError(f"import fer_edge.convert, not {__name__}: install the project with pip install -e .")

from fer_edge.artifacts.callable_package import make_callable

make_callable("fer_edge.convert", "fer_edge.conversion", "convert")
