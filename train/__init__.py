"""Train the five networks: datasets, splits, networks, recipes, fit, evaluate.

The package can be called: ``fer_edge.train(...)`` is fer_edge.train.series.train.
"""

if __name__ != "fer_edge.train":
    raise ImportError(f"import fer_edge.train, not {__name__}: install the project with pip install -e .")

from fer_edge.artifacts.callable_package import make_callable

make_callable("fer_edge.train", "fer_edge.train.series", "train")
